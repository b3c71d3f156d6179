"""The embedders of a process: loaded once, kept, and let go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedfleet.fleet import Fleet
from embedfleet_schema.errors import KeyMissing
from embedfleet_schema.store.workers import recent
from embedfleet_schema.types import Space
from embedfleet_workers import embedder_cache
from embedfleet_workers.embedder_cache import EmbedderCache
from embedfleet_workers.embedders.fake import FakeEmbedder
from embedfleet_workers.embedders.protocol import Embedder
from embedfleet_workers.embedding_errors import EmbeddingError
from plugins.fleets import WorkerMaker, documents, drain
from plugins.worker_processes import eventually

API = Space("openai", "m", 8, 512)

Maker = Callable[..., EmbedderCache]


@pytest.fixture
def cache(fleet: Fleet) -> Iterator[Maker]:
    """Makes caches that keep two models of this machine."""
    made: list[EmbedderCache] = []

    def make(**settings: object) -> EmbedderCache:
        changed = fleet.settings.model_copy(update=settings)
        made.append(EmbedderCache(changed, fleet.db, threads=1, records=True, most=2))
        return made[-1]

    yield make
    for each in made:
        each.close(models=True)


@pytest.mark.torch
def test_the_row_of_a_worker_says_what_its_model_runs_on(fleet: Fleet, worker: WorkerMaker):
    fleet.collection("docs", model="all-MiniLM-L6-v2").enqueue(documents(1))
    assert {"done"} == set(drain(worker(engine="torch")))
    eventually(lambda: ["cpu: torch, float32"] == [each.device for each in recent(fleet.db)])


def fake(dimensions: int) -> Space:
    return Space("fake", str(dimensions), dimensions, 512)


def test_threads_that_ask_at_once_get_the_same_embedder(cache: Maker):
    shared = cache()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shared.get(fake(8), "cpu"), range(32)))
    assert 1 == len(set(map(id, found)))
    assert shared.get(fake(8), "cuda") is not found[0]


def test_what_is_here_is_given_out_while_another_model_is_loaded(cache: Maker, monkeypatch):
    shared = cache()
    here = shared.get(fake(8), "cpu")
    loading, loaded = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> Embedder:
        loading.set()
        assert loaded.wait(60)
        return FakeEmbedder(fake(16))

    monkeypatch.setattr(embedder_cache, "checked_embedder", slow)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(shared.get, fake(16), "cpu")
        assert loading.wait(60)
        assert here is shared.get(fake(8), "cpu")
        assert [fake(8)] == shared.loaded()
        loaded.set()
        assert fake(16) == other.result().space
    assert [fake(8), fake(16)] == shared.loaded()


def test_the_model_that_was_not_used_for_longest_leaves_and_goes_on_where_it_is_used(cache: Maker):
    shared = cache()
    first, second = shared.get(fake(8), "cpu"), shared.get(fake(16), "cpu")
    assert first is shared.get(fake(8), "cpu")
    shared.get(fake(32), "cpu")
    assert first is shared.get(fake(8), "cpu")
    assert second is not shared.get(fake(16), "cpu")
    assert (1, 16) == second.embed(["a text"], "document").shape


def test_what_a_space_behind_an_api_has_learned_stays(cache: Maker, fleet: Fleet):
    shared = cache(openai_base_url="http://127.0.0.1:1/v1")
    learned = shared.get(API, "cpu")
    for dimensions in (8, 16, 32):
        shared.get(fake(dimensions), "cpu")
    assert learned is shared.get(API, "cpu")


def test_what_cannot_be_loaded_is_tried_again(cache: Maker):
    shared = cache(openai_api_key=None)
    for _ in range(2):
        with pytest.raises(KeyMissing):
            shared.get(API, "cpu")


def test_closing_ends_the_models_only_where_no_thread_is_inside_them(cache: Maker):
    shared = cache()
    kept = shared.get(fake(8), "cpu")
    shared.close(models=False)
    assert (1, 8) == kept.embed(["a text"], "document").shape
    closed = shared.get(fake(8), "cpu")
    assert closed is not kept
    shared.close(models=True)
    with pytest.raises(EmbeddingError, match="closed"):
        closed.embed(["a text"], "document")
    assert (1, 8) == shared.get(fake(8), "cpu").embed(["a text"], "document").shape
