"""Vectors of a local model, cut to their first dimensions and made of unit length again."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import write_model

from embedfleet_schema.catalogue.matryoshka import doubt
from embedfleet_schema.catalogue.space_lookup import resolve_space, uncut
from embedfleet_schema.errors import BadModelName
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import head
from plugins.random_models import bert, saved

TEXTS = ["one", "", "two words", "a b c d e f g h", "long " * 200]

# What runs the model, and whether its own vectors are of unit length.
each_way = pytest.mark.parametrize(
    ("wanted", "normalized"),
    [
        (Wanted("torch"), True),
        (Wanted("torch"), False),
        pytest.param(Wanted("openvino", "float32"), False, marks=pytest.mark.openvino),
        pytest.param(Wanted("openvino", "half"), True, marks=pytest.mark.openvino),
    ],
)


def test_a_space_says_how_far_its_vectors_are_cut():
    whole = resolve_space("all-MiniLM-L6-v2")
    cut = resolve_space("all-MiniLM-L6-v2", dimensions=256)
    assert (384, 256, True) == (whole.dimensions, cut.dimensions, cut.normalized)
    assert whole.fingerprint != cut.fingerprint
    assert not whole.takes(cut)
    assert whole == uncut(cut) == uncut(whole) == resolve_space("all-MiniLM-L6-v2", dimensions=384)


def test_a_model_has_no_more_dimensions_than_it_gives():
    with pytest.raises(BadModelName, match="its vectors have 384 dimensions, not 512"):
        resolve_space("all-MiniLM-L6-v2", dimensions=512)


def test_what_the_authors_cut_to_is_what_a_model_gives_unless_told(tmp_path):
    directory = str(write_model(tmp_path, config_sentence_transformers={"truncate_dim": 3}))
    assert 3 == resolve_space(directory).dimensions
    assert 5 == resolve_space(directory, dimensions=5).dimensions
    assert 8 == resolve_space(directory, dimensions=8).dimensions
    assert "" == doubt(resolve_space(directory))


@pytest.mark.parametrize(
    ("files", "card", "expected"),
    [
        ({}, None, "cut to 4 of 8 dimensions, and its files do not say"),
        ({}, "---\ntags:\n- loss:CosineSimilarityLoss\n---\n", "do not say that it was trained"),
        ({}, "---\ntags:\n- loss:MatryoshkaLoss\n---\n", ""),
        ({"matryoshka_dimensions": [2, 4]}, None, ""),
        ({"matryoshka_dimensions": [2, 6]}, None, "it was trained for 2, 6"),
    ],
)
def test_whether_it_was_trained_for_it_is_what_its_files_say(tmp_path, files, card, expected):
    directory = write_model(tmp_path)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | files))
    if card:
        (directory / "README.md").write_text(card)
    assert "" == doubt(resolve_space(str(directory)))
    found = doubt(resolve_space(str(directory), dimensions=4))
    assert expected in found
    assert bool(expected) == bool(found)


def test_a_head_of_zeros_is_no_vector():
    cut = head(np.array([[0, 0, 1], [3, 4, 0]], dtype=np.float32), 2)
    assert np.isnan(cut[0]).all()
    assert [0.6, 0.8] == pytest.approx(cut[1])
    assert np.float32 == cut.dtype


@pytest.mark.torch
@each_way
def test_every_engine_gives_the_head_of_the_whole_vector(tmp_path, wanted, normalized):
    from sentence_transformers.sentence_transformer.modules import Normalize

    directory = saved(tmp_path, bert(), extra=[Normalize()] if normalized else [])
    space = resolve_space(str(directory), dimensions=5)
    # Converted once, for both.
    wanted = replace(wanted, converted=tmp_path / "converted")
    whole = load_embedder(uncut(space), device="cpu", threads=1, wanted=wanted)
    cut = load_embedder(space, device="cpu", threads=1, wanted=wanted)
    assert (whole.engine, whole.precision) == (cut.engine, cut.precision)
    for kind in ("document", "query"):
        long = whole.embed(TEXTS, kind)
        short = long[:, :5] / np.linalg.norm(long[:, :5], axis=1, keepdims=True)
        assert np.array_equal(short, cut.embed(TEXTS, kind))
    assert wanted.engine == cut.engine
    if wanted.engine == "openvino":
        assert 1 == len(list((tmp_path / "converted").glob("*/model.xml")))


@pytest.mark.torch
@pytest.mark.parametrize("saved_so", [None, 5])
def test_it_is_what_sentence_transformers_cuts(tmp_path, saved_so):
    from sentence_transformers import SentenceTransformer

    directory = saved(tmp_path, bert())
    plain = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    expected = plain.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    if saved_so:
        file = directory / "config_sentence_transformers.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"truncate_dim": saved_so}))
    space = resolve_space(str(directory), dimensions=None if saved_so else 5)
    found = load_embedder(space, device="cpu", threads=1, wanted=Wanted("torch"))
    assert np.abs(expected - found.embed(TEXTS, "document")).max() < 1e-6
