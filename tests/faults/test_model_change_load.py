"""A collection changes its model, or its name, while it is read and written."""

import os
import signal
import subprocess
import sys

import pytest

from embedfleet_schema.types import Document
from plugins.fleets import ask, documents, workers_of
from plugins.model_changes import (
    FunctionReader,
    TextReader,
    Writer,
    beside,
    document,
    working,
)

CHUNKS = 10


@pytest.fixture
def fleet(large_fleet):
    """Its collections are checked after each test."""
    return large_fleet


def check(fleet, name, writer):
    """What is stored is what was written last, and nothing else is found of it."""
    docs = fleet.collection(name)
    found = dict(
        ask(
            fleet,
            f"SELECT document, content FROM embedfleet.{name} WHERE position = 0"
            " AND document LIKE 'd1______'",
        )
    )
    assert writer.expected == found
    audit = docs.audit()
    assert audit.clean, audit
    assert 0 == audit.waiting_documents


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_a_model_changes_and_comes_back_under_readers_and_writers(fleet, document_embeds, count):
    docs = fleet.collection("docs", model="fake/32")
    with workers_of(fleet) as make, working(make):
        docs.enqueue(document(n, chunks=CHUNKS) for n in range(count)).wait()
        before = docs.info.space
        spaces = [before, fleet.collection("scratch", model="fake/48").info.space]
        by_function = FunctionReader(fleet.settings.database, "docs", spaces)
        by_text = TextReader(fleet.collection("docs"), spaces)
        writer = Writer(fleet, "docs", chunks=CHUNKS)
        with beside(by_function.read) as reads, beside(by_text.read), beside(writer.write):
            assert docs.migrate("fake/48").switched
            assert spaces[1] == docs.info.space
            docs.migrate_back()
            assert before == docs.info.space
            docs.migrate()
        by_function.close()
        assert len(reads) > 10
        assert len(by_function.seen) == 2
        docs.migrate_back()
        check(fleet, "docs", writer)
        docs.migrate_finish()
        check(fleet, "docs", writer)
    assert [] == document_embeds.twice()


def test_names_change_under_readers_and_writers(fleet):
    with workers_of(fleet) as make, working(make):
        infos = []
        for name, model in (("docs", "fake/32"), ("others", "fake/48")):
            each = fleet.collection(name, model=model)
            each.enqueue(document(n, chunks=CHUNKS) for n in range(30)).wait()
            infos.append(each.info)
        spaces = [info.space for info in infos]
        by_function = FunctionReader(fleet.settings.database, "docs", spaces)
        docs = fleet.collection("docs")
        by_text = TextReader(fleet.collection("docs"), spaces)
        with beside(by_function.read), beside(by_text.read):
            for _ in range(6):
                fleet.collection("docs").swap("others")
        with beside(by_text.read):
            for name in ("library", "docs") * 3:
                docs.rename(name)
        by_function.close()
        assert len(by_function.seen) == 2
        assert spaces[0] == fleet.collection("docs").info.space
        assert all(each.audit().clean for each in fleet.collections())


MIGRATE = """
import embedfleet as ef
with ef.connect() as fleet:
    docs = fleet.collection("docs")
    docs.migrate("fake/48" if docs.model_change() is None else None)
    docs.migrate_finish()
"""


def migrate_in_another_process(fleet, failpoints=""):
    variables = {
        **os.environ,
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        "EMBEDFLEET_FAILPOINTS": failpoints,
    }
    command = [sys.executable, "-c", MIGRATE]
    return subprocess.run(command, env=variables, check=False).returncode


PLACES = (
    "after_change_begun",
    "after_change_listed",
    "after_change_copied",
    "after_change_indexed",
    "before_change_switched",
    "after_change_switched",
    "before_change_finished",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_change_that_is_killed_goes_on(fleet, document_embeds, place):
    docs = fleet.collection("docs", model="fake/32")
    with workers_of(fleet) as make, working(make):
        docs.enqueue(documents(100)).wait()
        docs.index_words("english")
        assert -signal.SIGKILL == migrate_in_another_process(fleet, f"{place}=kill:#1")
        docs.enqueue([Document("d3", "a new text"), Document("new", "another one")]).wait()
        docs.delete(["d4"])
        change = docs.model_change()
        if change is not None and not change.switched:
            docs.migrate()
        docs.migrate_finish()
        assert "fake/48" == docs.info.space.name
        keys = {each.key for each in docs.documents() if each.live}
        assert {f"d{n}" for n in range(100) if n != 4} | {"new"} == keys
        assert docs.audit().clean
        assert ["docs"] == [each.name for each in fleet.collections()]
        assert [("english",)] == ask(fleet, "SELECT embedfleet.text_language('docs')::text")
    assert [] == document_embeds.twice()
