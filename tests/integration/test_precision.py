"""A collection that demands float32 gets it of every worker, and of no other collection."""

import pytest

from embedfleet.fleet import Fleet
from embedfleet_schema.errors import PrecisionMismatch, UsageError
from embedfleet_workers import embedder_cache
from embedfleet_workers.embedder_cache import EmbedderCache
from embedfleet_workers.embedders.fake import FakeEmbedder
from plugins.fleets import documents
from plugins.pipelines import ScriptedEmbedder, finish, pipeline_around

MODEL = "all-MiniLM-L6-v2"


class OfPrecision(FakeEmbedder):
    """Says that it runs here, in a precision."""

    engine = "torch"

    def __init__(self, space, precision):
        super().__init__(space)
        self.precision = precision


@pytest.fixture
def cache(fleet: Fleet, monkeypatch):
    """A cache of models that run in half precision unless float32 is asked for."""

    def load(space, *, wanted, **_):
        return OfPrecision(space, "half" if wanted.precision == "auto" else wanted.precision)

    monkeypatch.setattr(embedder_cache, "load_embedder", load)
    monkeypatch.setattr(embedder_cache, "checked_embedder", lambda _, __, load, **___: load())

    def made(**settings):
        changed = fleet.settings.model_copy(update=settings)
        return EmbedderCache(changed, fleet.db, threads=1, records=True)

    return made


def test_what_is_demanded_goes_before_the_settings_of_a_worker(fleet, cache):
    space = fleet.collection("docs", MODEL).info.space
    for precision in ("auto", "half"):
        held = cache(precision=precision)
        assert "half" == held.get(space, "cpu").precision
        assert "float32" == held.get(space, "cpu", "float32").precision
        assert held.get(space, "cpu", "float32") is not held.get(space, "cpu")
        assert [space] == held.loaded()


def test_a_model_that_runs_in_float32_anyway_is_loaded_once(fleet, cache):
    space = fleet.collection("docs", MODEL).info.space
    held = cache(precision="float32")
    assert held.get(space, "cpu") is held.get(space, "cpu", "float32")


def test_queries_take_the_model_that_is_there(fleet, cache):
    space = fleet.collection("docs", MODEL).info.space
    held = cache()
    demanded = held.get(space, "cpu", "float32")
    assert demanded is held.any_of(space, "cpu")
    assert "half" == cache().any_of(space, "cpu").precision


def test_vectors_of_collections_that_demand_nothing_are_not_taken_over(fleet):
    asked = []

    def answer(texts, vectors):
        asked.extend(texts)
        return vectors

    for name, precision in (("loose", None), ("strict", "float32"), ("second", "float32")):
        docs = fleet.collection(name, MODEL, precision=precision)
        embedder = ScriptedEmbedder(docs.info.space, answer)
        plan = docs.plan(documents(2))
        docs.enqueue(documents(2))
        finish(fleet, pipeline_around(fleet, embedder)[0])
        assert plan.to_embed == len(asked), name
        assert (name != "second") == bool(asked)
        asked.clear()


def test_it_is_said_and_cannot_be_added_later(fleet, command):
    options = ("docs", "--model", MODEL, "--precision", "float32", "--json")
    assert "float32" == command("collection", "create", *options).json["precision"]
    fleet.collection("loose", MODEL)
    with pytest.raises(PrecisionMismatch, match="takes vectors of any precision, not of float32"):
        fleet.collection("loose", MODEL, precision="float32")
    assert "float32" == fleet.collection("docs", precision="float32").info.precision
    with pytest.raises(UsageError, match="precision is for local models, not for fake/16"):
        fleet.collection("other", "fake/16", precision="float32")
