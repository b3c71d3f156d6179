"""An index that follows the loads of its collection, by the commands that people run."""

import threading

import pytest

from embedfleet_schema.store import index_policy
from plugins.fleets import ask, documents, drain


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Loads that a test can afford."""
    monkeypatch.setattr(index_policy, "FEW_VECTORS", 20)


def indexed(docs):
    return docs.index_info().index is not None


def test_a_load_is_followed_step_by_step(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    runtime = worker()
    assert "kept" == docs.follow_load()
    docs.enqueue(documents(30))
    assert ("kept", False) == (docs.follow_load(), indexed(docs))
    drain(runtime)
    assert ("built", True) == (docs.follow_load(), indexed(docs))
    docs.enqueue(documents(5, word="a trickle"))
    assert ("kept", True) == (docs.follow_load(), indexed(docs))
    drain(runtime)
    docs.enqueue(documents(60, word="a second load"))
    assert ("dropped", False) == (docs.follow_load(), indexed(docs))
    assert 30 == len(docs.search(docs.embed_query("text"), k=100))
    assert "kept" == docs.follow_load()
    drain(runtime)
    assert ("built", True) == (docs.follow_load(), indexed(docs))
    assert 60 == len(docs.search(docs.embed_query("text"), k=100))


def test_what_stands_still_keeps_no_index_away(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(30))
    drain(worker())
    docs.enqueue(documents(60, word="later")).pause()
    assert "built" == docs.follow_load()


def test_of_several_that_follow_a_load_at_once_one_acts(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(30))
    drain(worker())
    done = []
    threads = [threading.Thread(target=lambda: done.append(docs.follow_load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == done.count("built")
    assert {"built", "busy", "kept"} >= set(done)
    assert 1 == len(
        ask(
            fleet,
            "SELECT 1 FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid"
            " WHERE i.indrelid = %s::regclass AND NOT indisprimary",
            f"embedfleet.{docs.info.vectors}",
        )
    )


def test_the_command_that_waits_drops_and_builds(fleet, command, embedding, tmp_path):
    def load(word, count):
        for number in range(count):
            (tmp_path / f"{number}.txt").write_text(f"{word} number {number}")
        return command("enqueue", "docs", tmp_path, "--wait")

    made = command("collection", "create", "docs", "--model", "fake/16", "--index", "auto")
    assert 0 == made.code
    docs = fleet.collection("docs")
    first = load("first", 30)
    assert (0, True) == (first.code, indexed(docs))
    assert "The index is built" in first.err
    shown = command("collection", "show", "docs", "--json").json
    assert ("hnsw", "auto") == (shown["index"]["method"], shown["search"]["policy"])
    assert 0 == command("index", "docs", "--policy", "manual", "--drop").code
    assert (0, False) == (load("second", 40).code, indexed(docs))
    decided = command("index", "docs", "--auto", "--json").json
    assert ({"collection": "docs", "decision": "built"}, True) == (decided, indexed(docs))
    assert 2 == command("index", "docs", "--auto", "--rebuild").code
    assert 2 == command("index", "docs", "--drop", "--type", "bit").code
