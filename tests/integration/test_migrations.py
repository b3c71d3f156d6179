"""Migrations: once, twice, at the same time, and equal to the models."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.conninfo import make_conninfo
from sqlalchemy.exc import ProgrammingError

from embedfleet.fleet import Fleet
from embedfleet_schema import revisions
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import (
    Blocked,
    DatabaseUnreachable,
    MigrationInTheWay,
    SchemaMissing,
    SchemaOutdated,
)
from embedfleet_schema.migrate import engine_for, migrate
from embedfleet_schema.revisions import newest
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import provider_batch_answers, provider_batches
from embedfleet_schema.tables.models import Base
from embedfleet_schema.types import Document
from plugins.fleets import ask
from plugins.revisions import alembic, upgrade
from plugins.worker_processes import eventually

ROOT = Path(__file__).parents[2]


def test_a_fresh_database_gets_the_newest_revision_and_a_second_run_changes_nothing(database_url):
    assert (None, newest()) == migrate(database_url)
    assert (newest(), newest()) == migrate(database_url)


def test_processes_that_migrate_at_once_take_turns(database_url):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(migrate, [database_url] * 4))
    assert [None] == [before for before, _ in results if before is None]
    assert {newest()} == {after for _, after in results}


def test_the_migrated_tables_are_those_of_the_models(migrated_url):
    with engine_for(Database(migrated_url)).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table_schema": "embedfleet",
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == "embedfleet",
            },
        )
        assert [] == compare_metadata(context, Base.metadata)


CATALOG = """
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
    coalesce(pg_get_expr(d.adbin, d.adrelid), a.attidentity::text)
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'embedfleet'::regnamespace AND a.attnum > 0
    AND NOT a.attisdropped
UNION ALL
SELECT 'options', relname, reloptions::text, relreplident::text, '', ''
FROM pg_class WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'r'
UNION ALL
SELECT 'index', relname, pg_get_indexdef(oid), '', '', ''
FROM pg_class WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'i'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
FROM pg_constraint WHERE connamespace = 'embedfleet'::regnamespace
UNION ALL
SELECT 'function', proname, pg_get_functiondef(oid), proacl::text, '', ''
FROM pg_proc WHERE pronamespace = 'embedfleet'::regnamespace
UNION ALL
SELECT 'policy', polrelid::regclass::text, polname, polroles::text, polcmd::text,
    pg_get_expr(polqual, polrelid)
FROM pg_policy
UNION ALL
SELECT 'security', relname, relrowsecurity::text, reloptions::text, '', ''
FROM pg_class WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'r'
ORDER BY 1, 2, 3
"""


def test_an_upgraded_database_is_equal_to_a_fresh_one(database_url, migrated_url):
    versions = ROOT / "schema/embedfleet_schema/migrations/versions"
    revisions = sorted(path.name.partition("_")[0] for path in versions.glob("[0-9]*.py"))
    assert newest() == revisions[-1]
    assert revisions == alembic(database_url, *revisions)
    assert newest() == Database(database_url).revision()
    catalogs = []
    for url in (database_url, migrated_url):
        with Database(url).connect() as conn:
            catalogs.append(conn.execute(CATALOG).fetchall())
    assert catalogs[0]
    assert catalogs[1] == catalogs[0]


# Batches of a job that is filed with a batch API, from when their queue told it: one to be filed,
# and one that went to the workers.
WAITING = """
INSERT INTO embedfleet.space (fingerprint, provider, model, dimensions, max_tokens, revision,
    pooling, normalized, document_prompt, query_prompt, storage, metric)
VALUES ('\\x00', 'openai', 'm', 8, 100, '', '', true, '', '', 'vector', 'cosine');
INSERT INTO embedfleet.collection
    (name, space_id, queue, chunk_size, chunk_overlap, chunk_mode, tokenizer)
VALUES ('docs', 1, 'api', 10, 0, 'text', '');
SELECT embedfleet.create_relations(1);
INSERT INTO embedfleet.job (collection_id, kind, lane) VALUES (1, 'enqueue', 'batch');
INSERT INTO embedfleet.batch (job_id, collection_id, queue, state, chunks, tokens, hashes)
VALUES (1, 1, 'lane', 'pending', 1, 1, '{}'), (1, 1, 'api', 'done', 1, 1, '{}');
"""


def test_batches_that_are_to_be_filed_stay_so_and_get_the_queue_of_their_collection(database_url):
    upgrade(database_url, "0013")
    with Database(database_url).connect() as conn:
        conn.execute(WAITING)
    migrate(database_url)
    with Database(database_url).connect() as conn:
        found = conn.execute(
            "SELECT delivery, queue, state FROM embedfleet.batch ORDER BY id"
        ).fetchall()
    assert [("provider_batch", "api", "pending"), ("direct", "api", "done")] == found


# What is filed, from when that was the lane `batch`: a file and its batch, what it counts, and one
# that workers have.
FILED = """
INSERT INTO embedfleet.lane_file (space_id, state, input_file_id, batch_id)
VALUES (1, 'filed', 'file-1', 'batch-1');
UPDATE embedfleet.batch SET state = 'leased', lease_until = now() + interval '1 day', owner = NULL,
    leased_at = now(), lane_file_id = 1, chunks = 3, tokens = 9, texts = '{1,2,3}'
WHERE lane = 'batch';
INSERT INTO embedfleet.counter_delta (collection_id, job_id, lane, open_batches, queued, tokens)
VALUES (1, 1, 'batch', 0, 2, 8);
"""


def test_what_was_filed_before_it_was_called_a_provider_batch_is_found(database_url):
    upgrade(database_url, "0013")
    with Database(database_url).connect() as conn:
        conn.execute(WAITING)
    upgrade(database_url, "0021")
    with Database(database_url).connect() as conn:
        conn.execute(FILED)
        conn.execute("ALTER TABLE embedfleet.lane_file RENAME CONSTRAINT pk_lane_file TO away")
    with pytest.raises(ProgrammingError, match="pk_lane_file"):
        migrate(database_url)
    with Database(database_url).connect() as conn:
        # Cut off in the middle, nothing has changed for programs of before.
        assert "0021" == revisions.stored(conn)
        assert [("batch", 1)] == conn.execute(
            "SELECT lane, lane_file_id FROM embedfleet.batch WHERE state = 'leased'"
        ).fetchall()
        conn.execute("ALTER TABLE embedfleet.lane_file RENAME CONSTRAINT away TO pk_lane_file")
    migrate(database_url)
    db = Database(database_url)
    (filed,) = provider_batches.unfinished(db)
    assert ("filed", "file-1", "batch-1") == (
        filed.state,
        filed.input_file_id,
        filed.remote_batch_id,
    )
    (lease,) = provider_batch_answers.leases(db, filed.id)
    assert [1, 2, 3] == lease.text_ids
    assert provider_batches.GivenBack(1, frozenset()) == provider_batches.give_up(
        db, filed, code="expired", reason="r"
    )
    with db.connect() as conn:
        job = conn.execute("SELECT delivery FROM embedfleet.job").fetchall()
        assert [("provider_batch",)] == job
        counted = conn.execute(
            "SELECT delivery, sum(queued) FROM embedfleet.counter_delta GROUP BY 1"
        ).fetchall()
        assert [("provider_batch", 2)] == counted
        assert {"direct", "provider_batch"} == {
            delivery for (delivery,) in conn.execute("SELECT delivery FROM embedfleet.job_counter")
        }
        indexed = "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_batch_unfiled'"
        ((index,),) = conn.execute(indexed).fetchall()
        assert "delivery = 'provider_batch'" in index
        left = conn.execute(
            "SELECT relname::text FROM pg_class WHERE relname ~ 'lane' UNION ALL"
            " SELECT conname FROM pg_constraint WHERE conname ~ 'lane' AND contype <> 'n' UNION ALL"
            " SELECT attname FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid"
            " WHERE attname ~ 'lane' AND relkind IN ('r', 'v')"
        ).fetchall()
        # A job has a lane now, which is another thing.
        named = {name for (name,) in left if not name.endswith("_not_null")}
        assert {"ck_job_lane", "lane", "lane_by_size"} == named
        unchecked = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
        assert (0,) == conn.execute(unchecked).fetchone()


def test_a_program_that_has_a_table_and_wants_another_is_not_given_up_for_a_renaming(database_url):
    upgrade(database_url, "0021")
    with Database(database_url).connect() as conn, ThreadPoolExecutor(1) as beside:
        conn.execute("BEGIN; SELECT FROM embedfleet.counter_delta")
        migrating = beside.submit(migrate, database_url)
        waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
        with Database(database_url).connect() as watching:
            eventually(lambda: watching.execute(waiting).fetchone()[0])
        conn.execute("SELECT lane FROM embedfleet.batch; COMMIT")
        assert ("0021", newest()) == migrating.result(60)


def test_who_holds_a_table_too_long_is_named(database_url):
    upgrade(database_url, "0021")
    with Database(database_url).connect() as conn:
        conn.execute("BEGIN; SELECT FROM embedfleet.batch")
        with pytest.raises(Blocked, match=f"pid {conn.info.backend_pid}"):
            migrate(database_url, lock_wait_s=1.0)


UNINDEXED = """
SELECT c.conname
FROM pg_constraint AS c
WHERE c.contype = 'f' AND c.confdeltype = 'c' AND c.connamespace = 'embedfleet'::regnamespace
    AND NOT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = c.conrelid AND i.indpred IS NULL AND i.indkey[0] = c.conkey[1]
    )
"""


def test_an_index_finds_what_goes_with_a_row_that_is_deleted(migrated_url):
    with Database(migrated_url).connect() as conn:
        assert [] == conn.execute(UNINDEXED).fetchall()


# Two collections from when all documents and chunks stood in the same two tables: one document that
# is live, with a draft of its next version, and another one.
SHARED = """
INSERT INTO embedfleet.space (fingerprint, provider, model, dimensions, max_tokens, revision,
    pooling, normalized, document_prompt, query_prompt, storage, metric)
VALUES ('\\x00', 'fake', '2', 2, 100, '', '', true, '', '', 'vector', 'cosine');
INSERT INTO embedfleet.collection
    (name, space_id, queue, chunk_size, chunk_overlap, chunk_mode, tokenizer)
VALUES ('docs', 1, 'cpu', 10, 0, 'text', ''), ('documents_2', 1, 'cpu', 10, 0, 'text', '');
SELECT embedfleet.create_relations(1);
SELECT embedfleet.create_relations(2);
INSERT INTO embedfleet.document (collection_id, key, digest, version, live_version, source)
VALUES (2, 'b', 'digest', 1, 1, NULL), (1, 'a', 'digest', 2, 1, 'a.txt');
INSERT INTO embedfleet.chunk (collection_id, document_id, version, position, start_offset,
    end_offset, tokens, sha256, content, metadata)
VALUES (2, 1, 1, 0, 0, 1, 1, repeat('b', 32)::bytea, 'text b', '{"n": 1}'),
    (1, 2, 1, 0, 0, 1, 1, repeat('a', 32)::bytea, 'text a', '{}'),
    (1, 2, 2, 0, NULL, NULL, 1, repeat('c', 32)::bytea, 'draft', '{}');
INSERT INTO embedfleet.vectors_1_1 VALUES (repeat('a', 32)::bytea, '[1,0]', 1, 1);
INSERT INTO embedfleet.vectors_2_1 VALUES (repeat('b', 32)::bytea, '[0,1]', 1, 1);
CREATE INDEX vectors_1_1_hnsw ON embedfleet.vectors_1_1
USING hnsw (embedding public.vector_cosine_ops);
INSERT INTO embedfleet.job (collection_id, kind) VALUES (1, 'enqueue');
INSERT INTO embedfleet.batch (job_id, collection_id, queue, state, chunks, tokens, hashes)
VALUES (1, 1, 'cpu', 'pending', 2, 2, ARRAY[repeat('c', 32)::bytea, repeat('a', 32)::bytea]),
    (1, 1, 'cpu', 'done', 1, 1, '{}');
INSERT INTO embedfleet.failure (collection_id, sha256, document_key, code, reason)
VALUES (1, repeat('c', 32)::bytea, NULL, 'BAD', 'r'), (1, NULL, 'd', 'BAD', 'r'),
    (1, repeat('x', 32)::bytea, NULL, 'BAD', 'of no chunk');
CREATE VIEW public.mine AS SELECT content FROM embedfleet.docs;
"""
COLUMNS = "id, document, position, content, metadata, embedding::text"


def test_collections_of_shared_tables_get_their_own_with_all_that_they_held(database_url):
    upgrade(database_url, "0016")
    views = ("docs", "documents_2")
    seen = {}
    with Database(database_url).connect() as conn:
        conn.execute(SHARED)
        for view in views:
            seen[view] = conn.execute(f"SELECT {COLUMNS} FROM embedfleet.{view}").fetchall()
    migrate(database_url)
    with Database(database_url).connect() as conn:
        for view in views:
            assert seen[view]
            rows = conn.execute(f"SELECT {COLUMNS} FROM embedfleet.{view}").fetchall()
            assert seen[view] == rows
        assert [("text a",)] == conn.execute("SELECT content FROM public.mine").fetchall()
        documents = conn.execute("SELECT * FROM embedfleet._documents_1").fetchall()
        assert [(2, "a", b"digest", 2, 1, None, "a.txt")] == [
            (*row[:6], row[7]) for row in documents
        ]
        chunks = "SELECT id, text_id, start_offset FROM embedfleet._chunks_1 ORDER BY id"
        assert [(2, 1, 0), (3, 2, None)] == conn.execute(chunks).fetchall()
        texts = "SELECT id, hash, tokens, content FROM embedfleet._texts_1 ORDER BY id"
        assert [
            (1, UUID(bytes=b"a" * 16), 1, "text a"),
            (2, UUID(bytes=b"c" * 16), 1, "draft"),
        ] == (conn.execute(texts).fetchall())
        assert [([2, 1],), ([],)] == conn.execute(
            "SELECT texts FROM embedfleet.batch ORDER BY id"
        ).fetchall()
        failures = "SELECT text_id, document_key FROM embedfleet.failure ORDER BY id"
        assert [(2, None), (None, "d")] == conn.execute(failures).fetchall()
        names = "SELECT relname FROM pg_class WHERE relname ~ '^_?vectors_' ORDER BY 1"
        assert ["_vectors_1_1", "_vectors_1_1_hnsw", "_vectors_1_1_pkey"] == [
            name for (name,) in conn.execute(names) if name.startswith("_vectors_1")
        ]
        assert [] == [name for (name,) in conn.execute(names) if name.startswith("vectors_")]


def test_a_migration_that_is_cut_off_between_collections_goes_on_where_it_was(database_url):
    upgrade(database_url, "0016")
    with Database(database_url).connect() as conn:
        conn.execute(SHARED)
        seen = conn.execute(f"SELECT {COLUMNS} FROM embedfleet.docs").fetchall()
        conn.execute("CREATE TABLE embedfleet._texts_2 ()")
    with pytest.raises(ProgrammingError, match="_texts_2"):
        migrate(database_url)
    with Database(database_url).connect() as conn:
        assert seen == conn.execute(f"SELECT {COLUMNS} FROM embedfleet.docs").fetchall()
        assert "0016" == revisions.stored(conn)
        conn.execute("DROP TABLE embedfleet._texts_2")
    migrate(database_url)
    with Database(database_url).connect() as conn:
        assert seen == conn.execute(f"SELECT {COLUMNS} FROM embedfleet.docs").fetchall()
        assert [("text b",)] == conn.execute(
            "SELECT content FROM embedfleet.documents_2"
        ).fetchall()
        assert 2 == conn.execute("SELECT count(*) FROM embedfleet.failure").fetchone()[0]


def test_texts_that_wait_know_their_batch_after_a_migration_that_was_cut_off(database_url):
    upgrade(database_url, "0016")
    with Database(database_url).connect() as conn:
        conn.execute(SHARED)
    upgrade(database_url, "0017")
    with Database(database_url).connect() as conn:
        conn.execute("ALTER TABLE embedfleet._texts_2 RENAME TO kept")
    with pytest.raises(ProgrammingError, match="_texts_2"):
        migrate(database_url)
    with Database(database_url).connect() as conn:
        assert "0020" > (revisions.stored(conn) or "")
        conn.execute("ALTER TABLE embedfleet.kept RENAME TO _texts_2")
    migrate(database_url)
    with Database(database_url).connect() as conn:
        waiting = "SELECT batch_id FROM embedfleet._texts_{} ORDER BY id"
        assert [(1,), (1,)] == conn.execute(waiting.format(1)).fetchall()
        assert [(None,)] == conn.execute(waiting.format(2)).fetchall()


def test_a_view_of_somebody_on_an_old_table_is_named_and_nothing_is_lost(database_url):
    upgrade(database_url, "0016")
    with Database(database_url).connect() as conn:
        conn.execute(SHARED)
        conn.execute("CREATE VIEW public.raw AS SELECT embedding FROM embedfleet.vectors_2_1")
    with pytest.raises(MigrationInTheWay, match="embedfleet migrate again") as caught:
        migrate(database_url)
    assert "view public.raw depends on table embedfleet.vectors_2_1" in str(caught.value)
    with Database(database_url).connect() as conn:
        assert "0016" == revisions.stored(conn)
        assert 1 == conn.execute("SELECT count(*) FROM public.raw").fetchone()[0]
        conn.execute("DROP VIEW public.raw")
    migrate(database_url)
    with Database(database_url).connect() as conn:
        rows = conn.execute("SELECT content FROM embedfleet.documents_2").fetchall()
        conn.execute("CREATE VIEW public.raw AS SELECT embedding FROM embedfleet.documents_2")
    assert [("text b",)] == rows


# What batches of before may say, for a migration that is cut off after the first collection.
UNCOUNTED = """
UPDATE embedfleet.batch SET state = 'dead', stored = 1, chunks = 3 WHERE state = 'done';
INSERT INTO embedfleet.batch
    (job_id, collection_id, queue, lane, state, chunks, stored, tokens, texts)
VALUES (1, 1, 'cpu', 'batch', 'held', 4, 1, 8, '{}'), (1, 1, 'cpu', 'live', 'done', 5, 0, 8, '{}');
"""


def test_what_was_there_before_has_counters_afterwards(database_url, redis_url):
    upgrade(database_url, "0016")
    with Database(database_url).connect() as conn:
        conn.execute(SHARED)
    upgrade(database_url, "0017")
    with Database(database_url).connect() as conn:
        conn.execute(UNCOUNTED)
    upgrade(database_url, "0020")
    with Database(database_url).connect() as conn:
        conn.execute("ALTER TABLE embedfleet._chunks_2 RENAME TO away")
    with pytest.raises(ProgrammingError, match="_chunks_2"):
        migrate(database_url)
    with Database(database_url).connect() as conn:
        conn.execute("ALTER TABLE embedfleet.away RENAME TO _chunks_2")
        conn.execute("UPDATE embedfleet.collection_counter SET failures = 7")
    migrate(database_url)
    with Fleet(load_settings(database_url=database_url, redis_url=redis_url)) as fleet:
        status = fleet.job(1).status
        assert (5, 7, 2) == (status.queued, status.embedded, status.failed)
        docs, other = fleet.collection("docs"), fleet.collection("documents_2")
        assert 7 == docs.counts().failures
        assert {"direct", "provider_batch"} == {
            delivery for (delivery,) in ask(fleet, "SELECT delivery FROM embedfleet.batch")
        }
        docs.audit(repair=True)
        for collection in (docs, other):
            assert 0 == collection.audit().miscounted
        counts = docs.counts()
        # The draft went live without its text, which had failed.
        assert (1, 1, 1, 0, 2) == (
            counts.documents,
            counts.live_documents,
            counts.chunks,
            counts.vectors,
            counts.failures,
        )


def test_more_collections_are_migrated_than_one_transaction_has_locks_for(database_url):
    upgrade(database_url, "0016")
    with Database(database_url).connect() as conn:
        conn.execute(SHARED)
        (locks,) = conn.execute(
            "SELECT current_setting('max_locks_per_transaction')::int"
            " * current_setting('max_connections')::int"
        ).fetchone()
        many = locks // 70 + 20
        conn.execute(
            "INSERT INTO embedfleet.collection (name, space_id, queue, chunk_size, chunk_overlap,"
            " chunk_mode, tokenizer) SELECT 'c' || n, 1, 'cpu', 10, 0, 'text', ''"
            " FROM generate_series(3, %s) AS n",
            (many,),
        )
        for number in range(3, many + 1):
            conn.execute("SELECT embedfleet.create_relations(%s)", (number,))
    migrate(database_url)
    with Database(database_url).connect() as conn:
        made = "SELECT count(*) FROM pg_class WHERE relname ~ '^_texts_[0-9]+$' AND relkind = 'r'"
        assert (many,) == conn.execute(made).fetchone()


# Two collections in spaces of their own, from when a batch did not name its space; one number is
# beyond the first page.
SPACELESS = """
INSERT INTO embedfleet.space (fingerprint, provider, model, dimensions, max_tokens, revision,
    pooling, normalized, document_prompt, query_prompt, storage, metric)
SELECT decode(n::text, 'hex'), 'fake', n::text, 8, 100, '', '', true, '', '', 'vector', 'cosine'
FROM generate_series(10, 11) AS n;
INSERT INTO embedfleet.collection
    (name, space_id, queue, chunk_size, chunk_overlap, chunk_mode, tokenizer)
VALUES ('a', 2, 'cpu', 10, 0, 'text', ''), ('b', 1, 'cpu', 10, 0, 'text', '');
SELECT embedfleet.create_relations(1), embedfleet.create_relations(2);
INSERT INTO embedfleet.job (collection_id, kind) VALUES (1, 'enqueue'), (2, 'enqueue');
INSERT INTO embedfleet.batch (job_id, collection_id, queue, state, chunks, tokens, texts)
VALUES (1, 1, 'cpu', 'pending', 1, 1, '{1}'), (2, 2, 'cpu', 'held', 1, 1, '{1}');
INSERT INTO embedfleet.batch (id, job_id, collection_id, queue, state, chunks, tokens, texts)
OVERRIDING SYSTEM VALUE VALUES (25000, 2, 2, 'cpu', 'done', 1, 1, '{}');
"""


def test_batches_of_before_get_the_space_of_their_collection(database_url):
    upgrade(database_url, "0017")
    with Database(database_url).connect() as conn:
        conn.execute(SPACELESS)
    migrate(database_url)
    with Database(database_url).connect() as conn:
        found = conn.execute("SELECT id, space_id FROM embedfleet.batch ORDER BY id").fetchall()
    assert [(1, 2), (2, 1), (25_000, 1)] == found


def test_a_batch_that_is_made_while_the_others_get_their_space_gets_one_too(database_url):
    """A migration that was cut off after its pages: programs of before went on without them."""
    upgrade(database_url, "0017")
    with Database(database_url).connect() as conn:
        conn.execute("ALTER TABLE embedfleet.batch ADD COLUMN space_id bigint")
        conn.execute(SPACELESS)
        conn.execute("UPDATE embedfleet.batch SET space_id = 2 WHERE id = 1")
    migrate(database_url)
    with Database(database_url).connect() as conn:
        found = conn.execute("SELECT space_id FROM embedfleet.batch ORDER BY id").fetchall()
    assert [(2,), (1,), (1,)] == found


def test_collections_of_before_go_on_as_new_ones_do(database_url, redis_url):
    upgrade(database_url, "0016")
    with Database(database_url).connect() as conn:
        conn.execute(SHARED)
    migrate(database_url)
    catalogs = []
    with Fleet(load_settings(database_url=database_url, redis_url=redis_url)) as fleet:
        fleet.collection("new", model="fake/2", filter_index=False)
        for number in (2, 3):
            with fleet.db.transaction() as conn:
                rows = conn.execute(CATALOG).fetchall()
            mine = re.compile(rf"_(documents|chunks|texts|vectors)_{number}(?:_[0-9])?(?=_|\b)")
            of_it = [tuple(mine.sub(r"_\1_N", str(cell)) for cell in row) for row in rows]
            catalogs.append({row for row in of_it if "_N" in "".join(row)})
        docs = fleet.collection("documents_2")
        docs.enqueue([Document("new", "a text")])
        assert [("b", True), ("new", False)] == [(each.key, each.live) for each in docs.documents()]
    assert catalogs[0]
    assert catalogs[0] == catalogs[1]


# Two collections from when a view was read with its owner's rights; of each, a reader may see one
# document, and not the draft of another one.
OWNED = """
INSERT INTO embedfleet.space (fingerprint, provider, model, dimensions, max_tokens, revision,
    pooling, normalized, document_prompt, query_prompt, storage, metric)
VALUES ('\\x00', 'fake', '2', 2, 100, '', '', true, '', '', 'vector', 'cosine');
INSERT INTO embedfleet.collection
    (name, space_id, queue, chunk_size, chunk_overlap, chunk_mode, tokenizer)
VALUES ('one', 1, 'cpu', 10, 0, 'text', ''), ('two', 1, 'cpu', 10, 0, 'text', '');
SELECT embedfleet.create_relations(1);
SELECT embedfleet.create_relations(2);
GRANT USAGE ON SCHEMA embedfleet TO {reader};
GRANT SELECT ON embedfleet.one TO {reader};
GRANT SELECT ON embedfleet.two TO PUBLIC;
"""
HALF_LIVE = """
INSERT INTO embedfleet._documents_{n} (key, digest, version, live_version)
VALUES ('live', '', 1, 1), ('draft', '', 1, NULL);
INSERT INTO embedfleet._texts_{n} (hash, tokens, content)
VALUES (gen_random_uuid(), 1, 'live'), (gen_random_uuid(), 1, 'draft');
INSERT INTO embedfleet._chunks_{n} (document_id, version, position, text_id, metadata)
VALUES (1, 1, 0, 1, '{{}}'), (2, 1, 0, 2, '{{}}');
INSERT INTO embedfleet._vectors_{n}_1 (text_id, batch_id, attempt, embedding)
VALUES (1, 1, 1, '[1,0]'), (2, 1, 1, '[0,1]');
"""


@pytest.fixture
def reader(database_url):
    """Somebody who may read the views of two collections, as of revision 0017."""
    upgrade(database_url, "0017")
    name = f"reader_{uuid4().hex[:12]}"
    with Database(database_url).connect() as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
        conn.execute(OWNED.format(reader=name))
        for number in (1, 2):
            conn.execute(HALF_LIVE.format(n=number))
    yield name
    with Database(database_url).connect() as conn:
        conn.execute(f"DROP OWNED BY {name}")
        conn.execute(f"DROP ROLE {name}")


def read(database_url, reader):
    """What a reader gets of both views, and whether they get a draft out of them."""
    told = []
    url = make_conninfo(database_url, user=reader, password="pw")
    with psycopg.connect(url, autocommit=True) as conn:
        for view in ("one", "two"):
            told += conn.execute(f"SELECT content FROM embedfleet.{view}").fetchall()
            cast = "SELECT 1 FROM embedfleet.{} WHERE content <> 'live' AND content::int > 0"
            try:
                conn.execute(cast.format(view))
            except psycopg.errors.InvalidTextRepresentation as error:
                told.append(str(error))
    return told


def test_who_read_a_view_reads_it_afterwards_and_no_draft(database_url, reader):
    migrate(database_url)
    assert [("live",), ("live",)] == read(database_url, reader)


def test_drafts_are_hidden_in_each_collection_by_itself(database_url, reader):
    with Database(database_url).connect() as conn:
        conn.execute("CREATE POLICY live ON embedfleet._texts_2 USING (true)")
    with pytest.raises(ProgrammingError, match="_texts_2"):
        migrate(database_url)
    with Database(database_url).connect() as conn:
        assert "0018" == revisions.stored(conn)
        secured = "SELECT relrowsecurity FROM pg_class WHERE relname ~ '^_texts_.$' ORDER BY oid"
        assert [(True,), (False,)] == conn.execute(secured).fetchall()
        conn.execute("DROP POLICY live ON embedfleet._texts_2")
    migrate(database_url)
    assert [("live",), ("live",)] == read(database_url, reader)


def test_plain_alembic_migrates_too(database_url):
    assert [newest()] == alembic(database_url, "head")
    assert newest() == Database(database_url).revision()


def test_a_database_without_tables_says_what_to_run(database_url):
    with (
        pytest.raises(SchemaMissing, match="embedfleet migrate"),
        Database(database_url).transaction(),
    ):
        pass


def test_an_outdated_database_says_what_to_run(migrated_url):
    with Database(migrated_url).connect() as conn:
        conn.execute("UPDATE embedfleet.alembic_version SET version_num = '0000'")
    with (
        pytest.raises(SchemaOutdated, match="embedfleet migrate"),
        Database(migrated_url).transaction(),
    ):
        pass


@pytest.mark.parametrize("use", [migrate, lambda url: Database(url).revision()])
def test_an_unreachable_database_is_named_without_its_password(use):
    with pytest.raises(DatabaseUnreachable) as caught:
        use("postgresql://someone:hunter2@127.0.0.1:1/db")
    assert "127.0.0.1:1/db" in str(caught.value)
    assert "hunter2" not in str(caught.value)
