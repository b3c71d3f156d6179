"""A collection moves to another model while it is read and written."""

import threading

import pytest

from plugins.fleets import ask, documents, drain


@pytest.fixture
def working(worker):
    """A worker that takes every batch as it comes."""
    runtime = worker()
    stopped = threading.Event()

    def work():
        while not stopped.is_set():
            if not drain(runtime):
                stopped.wait(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    yield runtime
    stopped.set()
    thread.join()


def test_a_collection_moves_to_another_model_and_back(fleet, docs, working):
    docs.enqueue(documents(50)).wait()
    change = docs.migrate("fake/32")
    assert change.switched
    assert "fake/32" == docs.info.space.name == fleet.collection("docs").info.space.name
    assert "fake/16" == fleet.collection("docs_old").info.space.name
    assert 10 == len(docs.search("text number 7"))
    docs.enqueue(documents(55)).wait()
    assert docs.audit().clean
    docs.migrate_back()
    assert "fake/16" == docs.info.space.name
    assert 55 == docs.counts().live_documents
    assert docs.audit().clean
    docs.migrate_finish()
    assert ["docs"] == [each.name for each in fleet.collections()]
    assert [] == ask(fleet, "SELECT tgname FROM pg_trigger WHERE tgname = 'model_change'")
