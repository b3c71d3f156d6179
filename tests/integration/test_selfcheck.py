"""Workers of one space with models that are not the same: one goes on, the other is refused."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.catalogue.model_revision import file_digests, weights_part
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import ModelRefused
from embedfleet_schema.store import collections, space_checks
from embedfleet_schema.types import Chunking
from embedfleet_workers.cooling import Cooling
from embedfleet_workers.embedders import choice
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder
from embedfleet_workers.embedders.probes import agreement, probe_texts
from embedfleet_workers.selfcheck import AGREEMENT, checked_embedder
from plugins.fleets import ask, batches_of, drain, filled_database
from plugins.local_models import LocalModel
from plugins.pipelines import ScriptedEmbedder, pipeline_around
from plugins.servers import fresh_database

TEXTS = [f"The cat number {n} sits beside the dog and reads." for n in range(20)]
pytestmark = pytest.mark.torch

TORCH = Wanted("torch")
HOW_THEY_STAND = "SELECT state, attempt, errors, reason FROM embedfleet.batch ORDER BY id"


@pytest.fixture(scope="module", autouse=True)
def with_pytorch():
    """Each test changes a model: to convert each of them would take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDFLEET_ENGINE", "torch")
        yield


def documents(texts):
    return [ef.Document(text, text) for text in texts]


def create(fleet, model):
    """A collection as it was made before revisions told of anything but weights, unrecorded."""
    space = resolve_space(model)
    space = replace(space, revision=weights_part(space.revision))
    collections.create_or_open(fleet.db, "docs", space, Chunking(0), "cpu")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where each test has a model of its own; spaces are called by it."""
    return tmp_path_factory.mktemp("models") / "model"


@pytest.fixture
def local_model(directory):
    yield LocalModel(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def embedded_database(stack, template_database, owner, directory):
    """The collection with vectors in it, embedded once for all tests."""

    def fill(fleet, worker):
        create(fleet, str(directory))
        fleet.collection("docs").enqueue(documents(TEXTS[:10]))
        assert {"done"} == set(drain(worker(batch_tokens_cpu=8_192)))

    LocalModel(directory)
    with filled_database(stack, template_database, owner, fill) as name:
        shutil.rmtree(directory)
        yield name


@pytest.fixture
def migrated_url(request, stack, template_database, pooled):
    is_embedded = "embedded" in request.fixturenames
    found = request.getfixturevalue("embedded_database") if is_embedded else template_database
    with fresh_database(stack, found) as url:
        yield pooled(url)


@pytest.fixture
def docs(fleet, local_model):
    create(fleet, local_model.name)
    return fleet.collection("docs")


@pytest.fixture
def embedded(fleet, local_model):
    return fleet.collection("docs")


def unrecorded(fleet):
    ask(fleet, "DELETE FROM embedfleet.space_check")


def records(fleet):
    return ask(fleet, "SELECT count(*) FROM embedfleet.space_check")[0][0]


def test_the_first_worker_records_what_the_model_is(fleet, embedded, local_model):
    found = space_checks.find(fleet.db, embedded.info.space)
    assert file_digests(local_model.name) == found.files
    assert probe_texts(256) == found.texts
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-4)


def test_a_collection_of_before_goes_on_where_stored_texts_get_their_vectors(
    fleet, embedded, local_model, worker
):
    unrecorded(fleet)
    assert embedded.info == fleet.collection("docs", local_model.name, metric="cosine").info
    embedded.enqueue(documents(TEXTS[10:]))
    assert {"done"} == set(drain(worker()))
    assert 1 == records(fleet)


def test_a_worker_with_another_tokenizer_is_refused_before_anything_was_recorded(
    fleet, embedded, local_model, worker
):
    unrecorded(fleet)
    local_model.swap_words("cat", "dog", "reads", "sits", "number")
    embedded.enqueue(documents(TEXTS[10:]))
    assert ["defer"] == drain(worker())
    reasons = [reason for *_, reason in ask(fleet, HOW_THEY_STAND) if reason]
    assert len(reasons) == 1
    assert "of 8 stored texts get another vector here (cosine 0." in reasons[0]
    assert 0 == records(fleet)


def test_a_worker_that_differs_is_refused_with_the_file_and_another_one_takes_the_batch(
    fleet, embedded, local_model, worker
):
    tokenizer = local_model.directory / "tokenizer.json"
    before = tokenizer.read_bytes()
    local_model.swap_words("cat", "dog")
    job = embedded.enqueue(documents(TEXTS[10:]))
    assert ["defer"] == drain(worker())
    assert "tokenizer.json differs on this machine" in job.status.reason
    waiting = [each for each in ask(fleet, HOW_THEY_STAND) if each[0] == "pending"]
    assert len(waiting) > 1
    assert (1, 0) == (sum(each[1] for each in waiting), sum(each[2] for each in waiting))

    tokenizer.write_bytes(before)
    assert {"done"} == set(drain(worker()))
    assert 10 == job.wait(timeout_s=60).embedded


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: model.pool_by("cls_token"), "1_Pooling/config.json differs"),
        (lambda model: (model.directory / "vocab.txt").unlink(), "vocab.txt is missing"),
        (
            lambda model: (model.directory / "added_tokens.json").write_text("{}"),
            "added_tokens.json is there",
        ),
    ],
)
def test_every_file_that_differs_is_named(fleet, embedded, local_model, worker, change, told):
    change(local_model)
    embedded.enqueue(documents(TEXTS[10:]))
    assert ["defer"] == drain(worker())
    assert any(told in (reason or "") for *_, reason in ask(fleet, HOW_THEY_STAND))


@pytest.fixture
def space(fleet, embedded):
    return embedded.info.space


def load(space, directory):
    return lambda: LocalEmbedder(space, directory, threads=1, wanted=TORCH)


def other(model, tmp_path):
    return LocalModel(tmp_path / "other")


def test_another_pooling_another_cut_and_other_prompts_are_told_from_each_other(
    fleet, space, local_model, tmp_path
):
    pooled = other(local_model, tmp_path)
    pooled.pool_by("cls_token")
    here = local_model.directory
    for loaded, told in (
        (load(space, pooled.directory), "its pooling"),
        (
            load(replace(space, max_tokens=128), here),
            "longer than 128 tokens is truncated elsewhere",
        ),
        (
            load(replace(space, max_tokens=512), here),
            "longer than 512 tokens is truncated elsewhere",
        ),
        (load(replace(space, document_prompt="passage: "), here), "or its prompt"),
        (load(replace(space, query_prompt="query: "), here), "queries get another prompt"),
    ):
        with pytest.raises(ModelRefused, match=f"needed 0.999.*{told}"):
            checked_embedder(fleet.db, space, loaded, records=True)
    checked_embedder(fleet.db, space, load(space, here), records=True)


def test_weights_that_are_nearly_the_same_are_other_weights(fleet, space, local_model, tmp_path):
    disturbed = other(local_model, tmp_path)
    disturbed.disturb_weights(0.02)
    with pytest.raises(ModelRefused, match="its weights"):
        checked_embedder(fleet.db, space, load(space, disturbed.directory), records=True)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_the_same_model(fleet, space, local_model, precision):
    import torch

    def halved():
        embedder = load(space, local_model.directory)()
        embedder._forward._engine._model.to(getattr(torch, precision))
        return embedder

    assert_the_same_and_not_equal(fleet, space, halved)


@pytest.mark.openvino
def test_openvino_in_half_precision_is_the_same_model(fleet, space, local_model, monkeypatch):
    monkeypatch.setattr(choice, "cpu_flags", lambda: {"avx512_bf16"})
    wanted = Wanted("openvino", "half")

    def halved():
        return LocalEmbedder(space, local_model.directory, threads=1, wanted=wanted)

    assert_the_same_and_not_equal(fleet, space, halved)


def assert_the_same_and_not_equal(fleet, space, load):
    embedder = checked_embedder(fleet.db, space, load, records=True)
    recorded = space_checks.find(fleet.db, space)
    found = agreement(recorded.vectors[:-1], embedder.embed(recorded.texts, "document"))
    assert AGREEMENT < found.min() < 1


def test_workers_that_record_at_once_agree_on_the_first(fleet, docs):
    space = docs.info.space

    def turned(vectors):
        return np.roll(vectors, 1, axis=1)

    def start(number):
        turn = turned if number % 2 else lambda vectors: vectors
        embedder = ScriptedEmbedder(space, lambda _, vectors: turn(vectors))
        try:
            checked_embedder(fleet.db, space, lambda: embedder, records=True)
        except ModelRefused:
            return "refused"
        return "even" if turn is not turned else "odd"

    with ThreadPoolExecutor(6) as pool:
        ends = list(pool.map(start, range(6)))
    assert 1 == records(fleet)
    assert 3 == ends.count("refused")
    assert 1 == len({*ends} - {"refused"})


def test_who_searches_is_held_against_the_record_and_records_nothing(fleet, embedded, local_model):
    with Fleet(fleet.settings) as other:
        assert other.collection("docs").search("a cat", k=1)
    unrecorded(fleet)
    with Fleet(fleet.settings) as other:
        assert other.collection("docs").search("a cat", k=1)
    assert 0 == records(fleet)


def test_who_searches_with_another_model_is_refused(fleet, embedded, local_model):
    local_model.pool_by("cls_token")
    with pytest.raises(ModelRefused, match=r"1_Pooling/config\.json differs"):
        fleet.collection("docs").search("a cat", k=1)


def test_a_damaged_record_is_named_and_not_believed(fleet, space, local_model):
    ask(fleet, "UPDATE embedfleet.space_check SET vectors = '\\x00'")
    with pytest.raises(ModelRefused, match=r"embedfleet\.space_check .*damaged"):
        checked_embedder(fleet.db, space, load(space, local_model.directory), records=True)


def test_a_process_that_cannot_load_a_model_asks_once_and_leaves_the_batches_to_others(fleet):
    docs = fleet.collection("many", model="fake/16")
    docs.enqueue(documents(TEXTS))
    cooling = Cooling()

    def refuse(texts, vectors):
        raise ModelRefused(model="fake/16", reason="it is another one here")

    refused, stats = pipeline_around(
        fleet, ScriptedEmbedder(docs.info.space, refuse), cooling=cooling
    )
    assert ["defer", "idle", "idle"] == [refused.run_one("cpu") for _ in range(3)]
    assert 1 == len(stats)
    assert 1 == sum(attempt for _, attempt, *_ in ask(fleet, HOW_THEY_STAND))
    first = ask(fleet, "SELECT id FROM embedfleet.batch ORDER BY id LIMIT 1")[0][0]
    assert first == batches_of(fleet).claim("cpu").id
    cooling.stop()
