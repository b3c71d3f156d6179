"""Migrations: once, twice, at the same time, and equal to the models."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from embedfleet_schema.database import Database
from embedfleet_schema.errors import DatabaseUnreachable, SchemaMissing, SchemaOutdated
from embedfleet_schema.migrate import engine_for, migrate
from embedfleet_schema.models import Base
from embedfleet_schema.revisions import newest
from plugins.revisions import alembic

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
UNION ALL
SELECT 'index', relname, pg_get_indexdef(oid), '', '', ''
FROM pg_class WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'i'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
FROM pg_constraint WHERE connamespace = 'embedfleet'::regnamespace
UNION ALL
SELECT 'function', proname, pg_get_functiondef(oid), proacl::text, '', ''
FROM pg_proc WHERE pronamespace = 'embedfleet'::regnamespace
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


# Batches of a job of the batch lane, from when their queue told it: one to be filed, and one that
# went to the workers.
WAITING = """
INSERT INTO embedfleet.space (fingerprint, provider, model, dimensions, max_tokens, revision,
    pooling, normalized, document_prompt, query_prompt, storage, metric)
VALUES ('\\x00', 'openai', 'm', 8, 100, '', '', true, '', '', 'vector', 'cosine');
INSERT INTO embedfleet.collection
    (name, space_id, queue, chunk_size, chunk_overlap, chunk_mode, tokenizer)
VALUES ('docs', 1, 'api', 10, 0, 'text', '');
INSERT INTO embedfleet.job (collection_id, kind, lane) VALUES (1, 'enqueue', 'batch');
INSERT INTO embedfleet.batch (job_id, collection_id, queue, state, chunks, tokens, hashes)
VALUES (1, 1, 'lane', 'pending', 1, 1, '{}'), (1, 1, 'api', 'done', 1, 1, '{}');
"""


def test_batches_of_the_lane_stay_in_it_and_get_the_queue_of_their_collection(database_url):
    alembic(database_url, "0013")
    with Database(database_url).connect() as conn:
        conn.execute(WAITING)
    migrate(database_url)
    with Database(database_url).connect() as conn:
        found = conn.execute(
            "SELECT lane, queue, state FROM embedfleet.batch ORDER BY id"
        ).fetchall()
    assert [("batch", "api", "pending"), ("live", "api", "done")] == found


def test_plain_alembic_migrates_too(database_url):
    assert [newest()] == alembic(database_url, "head")
    assert newest() == Database(database_url).revision()


def test_a_database_without_tables_says_what_to_run(database_url):
    with (
        pytest.raises(SchemaMissing, match="embedfleet migrate"),
        Database(database_url).connection(),
    ):
        pass


def test_an_outdated_database_says_what_to_run(migrated_url):
    with Database(migrated_url).connect() as conn:
        conn.execute("UPDATE embedfleet.alembic_version SET version_num = '0000'")
    with (
        pytest.raises(SchemaOutdated, match="embedfleet migrate"),
        Database(migrated_url).connection(),
    ):
        pass


@pytest.mark.parametrize("use", [migrate, lambda url: Database(url).connect()])
def test_an_unreachable_database_is_named_without_its_password(use):
    with pytest.raises(DatabaseUnreachable) as caught:
        use("postgresql://someone:hunter2@127.0.0.1:1/db")
    assert "127.0.0.1:1/db" in str(caught.value)
    assert "hunter2" not in str(caught.value)
