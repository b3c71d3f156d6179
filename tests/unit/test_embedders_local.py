"""The local embedder on tiny models of random weights, one for each way that models differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer

from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.errors import ModelNotFound, ModelRefused, WorkerStartFailed
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.forward import PackedForward, PlainForward, StaticForward
from embedfleet_workers.embedders.local import LocalEmbedder
from embedfleet_workers.embedding_errors import EmbeddingError
from plugins.random_models import SIZES, bert, saved, space

pytestmark = pytest.mark.torch

TEXTS = [
    "one",
    "",
    "two words",
    "a b c d e f g h",
    "long " * 200,
    *(f"text {n} " * n for n in range(9)),
]


TORCH = Wanted(engine="torch")
SMALL_PACKS = Wanted(engine="torch", padded_tokens=512)

each_engine = pytest.mark.parametrize(
    "engine", ["torch", pytest.param("openvino", marks=pytest.mark.openvino)]
)


def packed(directory, engine, described=None, threads=2):
    """An embedder in float32 that took the engine, and packs."""
    wanted = Wanted(engine=engine, precision="float32")
    embedder = LocalEmbedder(described or space(), directory, threads=threads, wanted=wanted)
    assert isinstance(embedder._forward, PackedForward)
    assert (engine, "float32") == (embedder.engine, embedder.precision)
    return embedder


def smallest_cosine(one, other):
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float((np.einsum("ij,ij->i", one, other) / lengths).min())


def assert_equals_encode(directory, embedder, prompt=""):
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    expected = plain.encode(TEXTS, prompt=prompt, show_progress_bar=False)
    kind = "query" if prompt else "document"
    assert smallest_cosine(expected, embedder.embed(TEXTS, kind)) >= 0.99999


@each_engine
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "weightedmean"])
def test_every_pooling_gives_the_vectors_of_encode(tmp_path, pooling, engine):
    directory = saved(tmp_path, bert(), pooling)
    assert_equals_encode(directory, packed(directory, engine))


@each_engine
def test_a_causal_model_that_pads_on_the_left_gives_the_vectors_of_encode(tmp_path, engine):
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8)
    directory = saved(tmp_path, Qwen3Model(config), "lasttoken", "left")
    # OpenVINO's answer holds no numbers where all that a token may look at is padding.
    wanted = Wanted(engine, "float32")
    embedder = LocalEmbedder(space(), directory, threads=2, wanted=wanted)
    assert isinstance(embedder._forward, PackedForward)
    assert_equals_encode(directory, embedder)


@each_engine
def test_positions_counted_from_the_padding_give_the_vectors_of_encode(tmp_path, engine):
    from transformers import XLMRobertaConfig, XLMRobertaModel

    directory = saved(tmp_path, XLMRobertaModel(XLMRobertaConfig(**SIZES), add_pooling_layer=False))
    assert_equals_encode(directory, packed(directory, engine))


@each_engine
def test_dense_and_normalize_modules_are_run(tmp_path, engine):
    from sentence_transformers.base.modules import Dense, Normalize

    directory = saved(tmp_path, bert(), extra=(Dense(32, 16), Normalize()))
    assert_equals_encode(directory, packed(directory, engine, space(16, normalized=True)))


@each_engine
def test_prompts_are_put_before_the_texts(tmp_path, engine):
    directory = saved(tmp_path, bert())
    embedder = packed(directory, engine, space(query_prompt="search for: "), threads=1)
    assert_equals_encode(directory, embedder, "search for: ")


def test_pooling_that_leaves_the_prompt_out_gives_the_vectors_of_encode(tmp_path):
    directory = saved(tmp_path, bert(), include_prompt=False)
    embedder = LocalEmbedder(space(query_prompt="search for: "), directory, threads=1, wanted=TORCH)
    assert isinstance(embedder._forward, PlainForward)
    assert_equals_encode(directory, embedder, "search for: ")


@pytest.mark.parametrize("prompt", ["", "search for: "])
def test_a_static_model_is_looked_up_at_once_and_counted_without_special_tokens(
    tmp_path, caplog, monkeypatch, prompt
):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    monkeypatch.setattr("embedfleet_workers.embedders.forward.STATIC_TEXTS", 3)
    tokenizer = Tokenizer.from_file(str(find_model("all-MiniLM-L6-v2") / "tokenizer.json"))
    tokenizer.no_truncation()
    modules = [StaticEmbedding(tokenizer, embedding_dim=32), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "model"))
    of_static = replace(space(normalized=True), document_prompt=prompt)
    embedder = LocalEmbedder(of_static, tmp_path / "model", threads=1)
    assert isinstance(embedder._forward, StaticForward)
    assert "" == caplog.text
    assert embedder.count_tokens(["three plain words", "word " * 600]) == [3, 600]
    texts = ["one", "two words", "one", "Größe 日本", "word " * 700, "e\u0301", "a"]
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(
        texts, prompt=prompt or None
    )
    assert smallest_cosine(expected, embedder.embed(texts, "document")) >= 0.99999


def test_a_space_that_cuts_earlier_than_the_model_is_obeyed(tmp_path):
    directory = saved(tmp_path, bert())
    embedder = LocalEmbedder(
        Space("local", "tiny", 32, 8, normalized=False), directory, threads=1, wanted=TORCH
    )
    cut, longer = embedder.embed(["a b c d e f", "a b c d e f g h i"], "document")
    np.testing.assert_allclose(cut, longer, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (space(48), "vectors of 32 dimensions, local/tiny has 48"),
        (space(normalized=True), "not of unit length"),
    ],
)
def test_a_model_that_does_not_fit_its_space_is_refused(tmp_path, wrong, reason):
    with pytest.raises(ModelRefused, match=reason):
        LocalEmbedder(wrong, saved(tmp_path, bert()), threads=1, wanted=TORCH)


def test_a_model_that_lacks_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    file = saved(tmp_path, bert()) / "model.safetensors"
    weights = load_file(file)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelRefused, match=r"lacks weights .*encoder.layer.1.output.dense.weight"):
        LocalEmbedder(space(), file.parent, threads=1, wanted=TORCH)


def test_an_empty_directory_is_no_model(tmp_path):
    with pytest.raises(ModelNotFound):
        LocalEmbedder(space(), tmp_path, threads=1, wanted=TORCH)


def test_damaged_weights_are_reported_with_their_directory(tmp_path):
    directory = saved(tmp_path, bert())
    (directory / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelNotFound, match=str(directory)):
        LocalEmbedder(space(), directory, threads=1, wanted=TORCH)


def test_a_cuda_device_that_is_not_there_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(WorkerStartFailed, match=r"'cuda'.*finds no CUDA device"):
        LocalEmbedder(space(), tmp_path, "cuda")


def test_loading_prints_nothing(tmp_path, capfd):
    directory = saved(tmp_path, bert())
    capfd.readouterr()
    LocalEmbedder(space(), directory, threads=1, wanted=TORCH).embed(TEXTS, "document")
    assert capfd.readouterr() == ("", "")


class Scarce:
    """A device with room for so many padded tokens."""

    def __init__(self, forward, tokens):
        self.forward = forward
        self.tokens = tokens
        self.sizes = []

    def __call__(self, features):
        import torch

        self.sizes.append(features["input_ids"].size)
        if features["input_ids"].size > self.tokens:
            raise torch.OutOfMemoryError
        return self.forward(features)


@pytest.fixture
def scarce(tmp_path, monkeypatch):
    def load(tokens):
        embedder = LocalEmbedder(space(), saved(tmp_path, bert()), threads=1, wanted=SMALL_PACKS)
        engine = embedder._forward._engine
        device = Scarce(engine._run, tokens)
        monkeypatch.setattr(engine, "_run", device)
        return embedder, device

    return load


def test_a_pack_that_does_not_fit_is_halved_until_it_does(scarce):
    embedder, device = scarce(150)
    texts = [f"{n} " + "word " * 20 for n in range(40)]
    halved = embedder.embed(texts, "document")
    assert max(device.sizes) > 150
    device.tokens = 10**9
    assert smallest_cosine(halved, embedder.embed(texts, "document")) >= 0.99999


def test_the_budget_learns_from_running_out_and_recovers(scarce):
    embedder, device = scarce(300)
    budget = embedder._forward.budget
    embedder.embed(["word " * 20] * 40, "document")
    learned = budget.tokens
    assert learned < 512
    device.tokens = 10**9
    for _ in range(100):
        embedder.embed(["a"], "document")
    assert budget.tokens == 512


def test_one_text_that_does_not_fit_is_an_error_of_the_batch(scarce):
    embedder, _ = scarce(30)
    with pytest.raises(EmbeddingError, match="local/tiny failed on 2 texts"):
        embedder.embed(["short", "word " * 40], "document")
    assert embedder.embed(["short"], "document").shape == (1, 32)


def test_a_model_whose_vectors_depend_on_their_neighbours_is_refused(tmp_path, monkeypatch):
    directory = saved(tmp_path, bert())
    plain, packed = PlainForward.__call__, PackedForward.__call__

    def tilted(call):
        def vectors(self, texts, kind):
            found = call(self, texts, kind)
            return found if len(texts) == 1 else found[:, ::-1]

        return vectors

    monkeypatch.setattr(PlainForward, "__call__", tilted(plain))
    monkeypatch.setattr(PackedForward, "__call__", tilted(packed))
    with pytest.raises(ModelRefused, match="batched with"):
        LocalEmbedder(space(), directory, threads=1, wanted=TORCH)


def test_packing_that_changes_vectors_is_dropped_for_encode(tmp_path, monkeypatch, caplog):
    directory = saved(tmp_path, bert())
    packed = PackedForward.__call__
    monkeypatch.setattr(
        PackedForward, "__call__", lambda self, texts, kind: packed(self, texts, kind)[:, ::-1]
    )
    embedder = LocalEmbedder(space(), directory, threads=1, wanted=TORCH)
    assert isinstance(embedder._forward, PlainForward)
    assert "using encode()" in caplog.text
