"""Models that were converted for OpenVINO are made once on a machine, and never used damaged."""

import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from embedfleet_workers.embedders import choice, converted_models
from embedfleet_workers.embedders.converted_models import kept, name_of
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder
from plugins.random_models import bert, saved, space

pytestmark = [pytest.mark.torch, pytest.mark.openvino]

TEXTS = ["one", "two words", "a text that is a little longer"]
FILES = ["model.xml", "model.bin", "traits.json", "vectors.npy", "sha256.json"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("tiny"), bert())


@pytest.fixture(scope="module")
def expected(directory):
    torch = LocalEmbedder(space(), directory, threads=1, wanted=Wanted(engine="torch"))
    return torch.embed(TEXTS, "document")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "converted"


@pytest.fixture
def loads(monkeypatch):
    """How often PyTorch loaded the model."""
    calls = []
    load = choice.load_model

    def counted(*given, **named):
        calls.append(given)
        return load(*given, **named)

    monkeypatch.setattr(choice, "load_model", counted)
    return calls


@pytest.fixture
def vectors(directory, folder, loads):
    def embed(revision="sha256:1+2"):
        wanted = Wanted("openvino", "float32", converted=folder, revision=revision)
        embedder = LocalEmbedder(space(), directory, threads=1, wanted=wanted)
        assert "openvino" == embedder.engine
        return embedder.embed(TEXTS, "document")

    return embed


@pytest.fixture(scope="module")
def converted(directory):
    """What a conversion gives."""
    from embedfleet_workers.embedders.loading import load_model

    model = load_model(space(), directory, "cpu", half=False)
    return choice._converted(model, space(), 1)


def same(one, other):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_is_kept_is_used_without_pytorch_and_gives_the_same_vectors(vectors, loads, expected):
    same(expected, vectors())
    same(expected, vectors())
    assert 1 == len(loads)


def test_another_revision_of_the_model_is_converted_by_itself(vectors, loads, folder):
    vectors("sha256:1+2")
    vectors("sha256:1+3")
    assert 2 == len(loads)
    assert 2 == len([place for place in folder.iterdir() if place.is_dir()])


def test_another_space_and_another_package_have_another_name(monkeypatch):
    names = {name_of(space(), "1"), name_of(replace(space(), max_tokens=32), "1")}
    monkeypatch.setattr(converted_models, "version", lambda package: "0.0")
    names.add(name_of(space(), "1"))
    assert 3 == len(names)
    assert all(name.startswith("tiny-") for name in names)


def test_a_directory_as_a_name_stays_within_the_folder():
    name = name_of(replace(space(), model="/srv/models/../ä b/"), "1")
    assert os.sep not in name
    assert not name.startswith(".")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_what_is_damaged_is_made_anew(folder, converted, caplog, file, damage):
    kept(folder, "model", lambda: converted)
    path = folder / "model" / file
    content = path.read_bytes()
    half = len(content) // 2
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:half])
    else:
        path.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    made = []
    found = kept(folder, "model", lambda: made.append(1) or converted)
    assert [1] == made
    assert "is damaged and made anew" in caplog.text
    assert folder / "model" / "model.xml" == found.model
    kept(folder, "model", lambda: pytest.fail("made once more"))


def test_a_folder_that_cannot_be_written_to_is_no_error(folder, vectors, loads, expected, caplog):
    folder.write_text("a file, where a folder should be")
    same(expected, vectors())
    same(expected, vectors())
    assert 2 == len(loads)
    assert "each start converts it" in caplog.text


@pytest.mark.parametrize("bytes_", [1_000, 100_000])
def test_a_disk_that_is_full_is_no_error_and_leaves_nothing(
    folder, vectors, loads, expected, caplog, bytes_
):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        same(expected, vectors())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "each start converts it" in caplog.text
    assert [] == [place for place in folder.iterdir() if place.is_dir()]


def test_a_process_that_died_while_it_wrote_leaves_nothing_in_the_way(folder, converted):
    half = folder / "model.new"
    half.mkdir(parents=True)
    (half / "model.xml").write_text("half")
    kept(folder, "model", lambda: converted)
    assert not half.exists()
    kept(folder, "model", lambda: pytest.fail("made once more"))


def test_who_asks_at_once_waits_for_the_one_who_makes_it(folder, converted):
    made = []
    with ThreadPoolExecutor(6) as pool:
        found = list(
            pool.map(lambda _: kept(folder, "m", lambda: made.append(1) or converted), range(6))
        )
    assert [1] == made
    assert {folder / "m" / "model.xml"} == {each.model for each in found}


def test_what_nobody_used_for_a_month_makes_room(folder, converted):
    for name in ("old", "used"):
        kept(folder, name, lambda: converted)
        os.utime(folder / name, (0, 0))
    kept(folder, "used", lambda: pytest.fail("made once more"))
    kept(folder, "new", lambda: converted)
    assert {"used", "new"} == {place.name for place in folder.iterdir() if place.is_dir()}
