"""A database of before keeps its texts under their addresses, and readers keep their rights."""

import hashlib
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from embedfleet.fleet import Fleet
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.database import Database
from embedfleet_schema.migrate import migrate
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Chunk, Document
from plugins.fleets import ask
from plugins.revisions import upgrade

TEXT, CHUNK = "a text of before", "a chunk of before"
# As they were told apart: what kind it is, metadata, and each text with its length.
DIGESTS = [
    hashlib.sha256(b"text{}16:a text of before"),
    hashlib.sha256(b'chunks{}17:a chunk of before{"page": 1}'),
]
BEFORE = """
INSERT INTO embedfleet.space (fingerprint, provider, model, dimensions, max_tokens, revision,
    pooling, normalized, document_prompt, query_prompt, storage, metric)
VALUES (%(fingerprint)s, 'fake', '2', 2, 512, '', '', true, '', '', 'vector', 'cosine');
INSERT INTO embedfleet.collection
    (name, space_id, queue, chunk_size, chunk_overlap, chunk_mode, tokenizer)
VALUES ('docs', 1, 'cpu', 400, 0, 'text', '');
SELECT embedfleet.create_relations(1);
INSERT INTO embedfleet._documents_1 (key, digest, version, live_version)
VALUES ('a', %(first)s, 1, 1), ('b', %(second)s, 1, 1);
INSERT INTO embedfleet._texts_1 (hash, tokens, content)
VALUES (%(text)s, 4, 'a text of before'), (%(chunk)s, 4, 'a chunk of before');
INSERT INTO embedfleet._chunks_1
    (document_id, version, position, start_offset, end_offset, text_id, metadata)
VALUES (1, 1, 0, 0, 16, 1, '{}'), (2, 1, 0, NULL, NULL, 2, '{"page": 1}');
INSERT INTO embedfleet._vectors_1_1 (text_id, embedding) VALUES (1, '[1,0]'), (2, '[0,1]');
"""


def half(text):
    return UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])


@pytest.fixture
def reader(database_url):
    """Somebody who could read the view of a collection of before, which is migrated now."""
    upgrade(database_url, "0030")
    name = f"reader_{uuid4().hex[:12]}"
    with Database(database_url).connect() as conn:
        values = {
            "fingerprint": resolve_space("fake/2").fingerprint,
            "first": DIGESTS[0].digest(),
            "second": DIGESTS[1].digest(),
            "text": half(TEXT),
            "chunk": half(CHUNK),
        }
        for statement in BEFORE.split(";\n"):
            if statement.strip():
                conn.execute(statement, values)
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
        conn.execute(f"GRANT USAGE ON SCHEMA embedfleet TO {name}")
        conn.execute("SELECT embedfleet.grant_view(1, 1, 'docs', %s)", (name,))
    migrate(database_url)
    yield name
    with Database(database_url).connect() as conn:
        conn.execute(f"DROP OWNED BY {name}")
        conn.execute(f"DROP ROLE {name}")


def test_nothing_of_before_is_embedded_again_and_who_read_contents_reads_contexts(
    database_url, redis_url, reader
):
    with Fleet(load_settings(database_url=database_url, redis_url=redis_url)) as fleet:
        docs = fleet.collection("docs", "fake/2")
        same = [
            Document("a", TEXT),
            Document("b", chunks=[Chunk(CHUNK, metadata={"page": 1})]),
        ]
        enqueued = docs.enqueue(same).enqueued
        assert (2, 0) == (enqueued.unchanged, enqueued.documents)
        elsewhere = docs.enqueue([Document("c", CHUNK), Document("d", TEXT)]).enqueued
        assert (2, 2, 0) == (elsewhere.documents, elsewhere.reused, elsewhere.batches)
        assert [("", None)] == ask(
            fleet, "SELECT template, former_template FROM embedfleet.collection"
        )
        assert [("a", True), ("b", True), ("c", True), ("d", True)] == [
            (each.key, each.live) for each in docs.documents()
        ]
    url = make_conninfo(database_url, user=reader, password="pw")
    with psycopg.connect(url, autocommit=True) as conn:
        found = conn.execute("SELECT DISTINCT content, context FROM embedfleet.docs ORDER BY 1")
        assert [(CHUNK, None), (TEXT, None)] == found.fetchall()
