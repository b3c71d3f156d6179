"""Searches by text in programs that have no model at hand: a worker that has it embeds the text."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import psycopg
import pytest
from psycopg import errors

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import NotAnswered, QueryRefused, UnreadableQuery
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import query_requests
from plugins.fleets import drain
from plugins.worker_processes import eventually

MODEL = "all-MiniLM-L6-v2"
QUESTION = "how do I reset my password?"
THAI = "สวัสดีครับผม"
# A program on a machine where the extra `local` is not installed.
WITHOUT_MODEL = """
import sys
for name in ("torch", "sentence_transformers", "transformers", "openvino"):
    sys.modules[name] = None
import embedfleet as ef
with ef.connect() as fleet:
    docs = fleet.collection("docs")
    try:
        print([hit.document for hit in docs.search(sys.argv[1], k=1)])
    except ef.EmbedfleetError as error:
        print(type(error).__name__, error)
"""

pytestmark = pytest.mark.torch


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs", model=MODEL)


@pytest.fixture
def warm(fleet, docs, worker):
    """A worker that has embedded two documents, and so has the model loaded."""
    docs.enqueue(
        [
            ef.Document("vpn.md", "Reset the password in the portal."),
            ef.Document("leave.md", "Ask for holidays early in the year."),
        ]
    )
    runtime = worker()
    assert {"done"} == set(drain(runtime))
    eventually(fleet.workers)
    return runtime


@pytest.fixture
def program(fleet):
    def run(text):
        environment = os.environ | {
            "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
            "EMBEDFLEET_DIRECT_DATABASE_URL": fleet.settings.direct_database,
            "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        }
        command = [sys.executable, "-c", WITHOUT_MODEL, text]
        ended = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True
        )
        assert 0 == ended.returncode, ended.stderr
        return ended.stdout.strip()

    return run


def test_a_program_without_a_model_searches_by_text(program, warm):
    assert "['vpn.md']" == program(QUESTION)
    assert program(THAI).startswith("UnreadableQuery")
    warm.stop()
    assert "['vpn.md']" == program(QUESTION)
    said = program("another question")
    assert said.startswith("NotAnswered No worker embedded the query: no worker serves queue cpu")
    assert "install the model on this machine" in said


def test_a_worker_gives_the_vector_that_would_be_computed_here(fleet, docs, warm):
    asked = query_requests.vector_of(fleet.db, docs.info, QUESTION)
    (here,) = fleet.query_embedder(docs.info.space).embed([QUESTION], "query")
    assert float(np.dot(asked, here)) > 0.9999


def test_nothing_is_loaded_while_a_worker_answers(fleet, docs, warm):
    assert ["vpn.md"] == [hit.document for hit in docs.search(QUESTION, k=1)]
    assert fleet._cache is None
    with pytest.raises(UnreadableQuery, match="has no tokens for its words"):
        docs.search(THAI)
    with pytest.raises(QueryRefused, match="has no tokens for its words"):
        query_requests.vector_of(fleet.db, docs.info, THAI)
    with pytest.raises(QueryRefused, match="no visible text"):
        query_requests.vector_of(fleet.db, docs.info, "\u200b")


def test_the_model_is_loaded_once_where_no_worker_answers(fleet, docs, caplog):
    caplog.set_level(logging.INFO, "embedfleet.connections")
    for question in (QUESTION, "another question"):
        assert [] == docs.search(question)
    (said,) = caplog.messages
    assert said.startswith("No worker embedded the query: no worker serves queue cpu")
    assert said.endswith(f"Loading local/{MODEL} here.")
    with pytest.raises(UnreadableQuery, match="has no tokens for its words"):
        docs.search(THAI)
    with pytest.raises(NotAnswered):
        query_requests.vector_of(fleet.db, docs.info, QUESTION)


def test_sql_is_told_what_the_model_cannot_read(fleet, docs, warm):
    call = "CALL embedfleet.embed('docs', %s, NULL)"
    with psycopg.connect(fleet.settings.database, autocommit=True) as client:
        for text in (THAI, "\u200b"):
            with pytest.raises(errors.ObjectNotInPrerequisiteState, match="cannot take this input"):
                client.execute(call, [text], prepare=False)
        (vector,) = client.execute(call, [QUESTION], prepare=False).fetchone()
    assert 384 == len(json.loads(vector))


def test_the_command_asks_a_worker_too(command, warm):
    found = command("search", "docs", QUESTION, "-k", "1")
    assert (0, "") == (found.code, found.err)
    assert "vpn.md" in found.out


def test_the_command_says_that_it_loads_the_model(command, docs):
    found = command("search", "docs", QUESTION)
    assert 0 == found.code
    assert f"Loading local/{MODEL} here." in found.err


def test_a_conversation_answers_one_text_after_the_other(command, warm, monkeypatch, tmp_path):
    lines = tmp_path / "lines"
    lines.write_text(f"{QUESTION}\n\n{THAI}\nwhen do I get holidays\n")
    with lines.open() as texts:
        monkeypatch.setattr("sys.stdin", texts)
        found = command("search", "docs", "--interactive", "-k", "1")
    assert 0 == found.code, found.err
    keys = [line.split()[1] for line in found.out.splitlines() if line.startswith("0.")]
    assert ["vpn.md", "leave.md"] == keys
    assert found.err.startswith("error: The query")
    assert "has no tokens" in found.err


@pytest.mark.parametrize("words", [(), (QUESTION, "--interactive")])
def test_a_text_is_given_or_asked_for(command, docs, words):
    found = command("search", "docs", *words)
    assert 2 == found.code
    assert "Give a TEXT to search for, or --interactive" in found.err


def test_a_client_that_may_not_ask_loads_the_model(fleet, docs, warm):
    with fleet.db.transaction() as conn:
        conn.execute("CREATE ROLE not_asking LOGIN PASSWORD 'pw'")
        conn.execute("GRANT USAGE ON SCHEMA embedfleet TO not_asking")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA embedfleet TO not_asking")
    info = psycopg.conninfo.conninfo_to_dict(fleet.settings.direct_database)
    url = f"postgresql://not_asking:pw@{info['host']}:{info['port']}/{info['dbname']}"
    try:
        given = {"database_url": url, "redis_url": fleet.settings.redis}
        with Fleet(load_settings(**given)) as other:
            assert 384 == len(other.collection("docs").embed_query(QUESTION))
            assert other._cache is not None
    finally:
        with fleet.db.transaction() as conn:
            conn.execute("DROP OWNED BY not_asking")
            conn.execute("DROP ROLE not_asking")
