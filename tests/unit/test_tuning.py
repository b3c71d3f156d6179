"""What `embedfleet tune` keeps for a machine, and what workers make of it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from embedfleet.cli import main
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_workers.embedders import tuning
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.tuning import Tuned, save, tried, tuned, worker_processes
from plugins.random_models import bert, saved, space

FOUND = [
    Tuned("openvino", "float32", 512, 60.0),
    Tuned("openvino", "half", 2_048, 120.0),
    Tuned("openvino", "half", 512, 110.0),
    Tuned("torch", "float32", 1_024, 70.0),
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "tuning.json"


def test_workers_take_the_quickest_way_that_was_found(file):
    assert FOUND[1] == save(file, space(), FOUND)
    assert Wanted("openvino", "half", padded_tokens=2_048) == tuned(file, space(), Wanted())


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(precision="float32"), Wanted("torch", "float32", padded_tokens=1_024)),
        (Wanted("torch"), Wanted("torch", "float32", padded_tokens=1_024)),
        (Wanted("openvino", "float32"), Wanted("openvino", "float32")),
    ],
)
def test_what_the_settings_say_has_the_last_word(file, wanted, taken):
    save(file, space(), FOUND)
    assert taken == tuned(file, space(), wanted)


def test_another_model_and_another_machine_have_their_own(file, monkeypatch):
    other = replace(space(), model="other")
    save(file, space(), FOUND)
    save(file, other, FOUND[:1])
    assert 512 == tuned(file, other, Wanted()).padded_tokens
    assert 2_048 == tuned(file, space(), Wanted()).padded_tokens
    monkeypatch.setattr(tuning, "cores", lambda: 192)
    assert Wanted() == tuned(file, space(), Wanted())


def test_workers_are_as_many_as_were_quickest_for_the_largest_model(file):
    assert worker_processes(file, Wanted()) is None
    save(file, space(), [replace(FOUND[1], processes=8), replace(FOUND[0], processes=2)])
    assert 8 == worker_processes(file, Wanted())
    assert 2 == worker_processes(file, Wanted(precision="float32"))
    save(file, replace(space(), model="larger"), [replace(FOUND[0], processes=4)])
    assert 4 == worker_processes(file, Wanted())
    assert worker_processes(file, Wanted("torch", "half")) is None


@pytest.mark.parametrize(
    ("cores", "available", "counts"),
    [(8, 10**12, [8, 4, 2, 1]), (6, 10**12, [6, 3, 1]), (1, 10**12, [1]), (8, 10**9, [1])],
)
def test_no_more_processes_are_tried_than_memory_has_room_for(
    tmp_path, monkeypatch, cores, available, counts
):
    (tmp_path / "model.safetensors").write_bytes(bytes(8))
    monkeypatch.setattr(tuning, "cores", lambda: cores)
    monkeypatch.setattr(
        tuning.psutil, "virtual_memory", lambda: SimpleNamespace(available=available)
    )
    assert counts == tuning.process_counts(space(), tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"here": 1}', "null"])
def test_a_file_that_is_damaged_is_no_error(file, content, monkeypatch):
    monkeypatch.setattr(tuning, "_machine", lambda: "here")
    file.parent.mkdir()
    file.write_text(content)
    assert Wanted() == tuned(file, space(), Wanted())
    save(file, space(), FOUND)
    assert 2_048 == tuned(file, space(), Wanted()).padded_tokens


def test_a_way_that_this_version_does_not_know_is_left_alone(file):
    save(file, space(), FOUND)
    file.write_text(file.read_text().replace("openvino", "onnx"))
    assert Wanted() == tuned(file, space(), Wanted())


@pytest.mark.torch
@pytest.mark.openvino
def test_every_way_that_is_there_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "cores", lambda: 2)
    monkeypatch.setattr(tuning, "OTHER_TOKENS", (256,))
    monkeypatch.setattr(tuning, "TEXTS_PER_CORE", 2)
    directory = saved(tmp_path, bert())
    found = list(tried(space(), directory, Wanted(precision="float32"), seconds=0))
    ways = [(each.engine, each.padded_tokens, each.processes) for each in found]
    quickest = max(found[:2], key=lambda each: each.chunks_per_s).engine
    best = max(found[:3], key=lambda each: each.chunks_per_s)
    assert [
        ("openvino", 1_024, 2),
        ("torch", 1_024, 2),
        (quickest, 256, 2),
        (best.engine, best.padded_tokens, 1),
    ] == ways
    assert {"float32"} == {each.precision for each in found}
    assert all(each.chunks_per_s > 0 for each in found)


@pytest.mark.torch
@pytest.mark.openvino
def test_the_command_shows_each_way_and_keeps_the_best(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMBEDFLEET_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("EMBEDFLEET_PRECISION", "float32")
    monkeypatch.setattr(tuning, "cores", lambda: 1)
    monkeypatch.setattr(tuning, "OTHER_TOKENS", ())
    monkeypatch.setattr(tuning, "TEXTS_PER_CORE", 2)
    model = str(saved(tmp_path, bert()))
    capsys.readouterr()
    assert 0 == main(["tune", model, "--seconds", "0", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert {"openvino", "torch"} == {each["engine"] for each in shown["measured"]}
    kept = tuned(tmp_path / "data" / "tuning.json", resolve_space(model), Wanted())
    assert (shown["best"]["engine"], 1_024) == (kept.engine, kept.padded_tokens)


def test_the_command_refuses_a_model_behind_an_api(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMBEDFLEET_DATA", str(tmp_path))
    assert 2 == main(["tune", "openai/text-embedding-3-small"])
    assert "does not run on this machine" in capsys.readouterr().err


@pytest.mark.torch
def test_the_command_says_where_no_way_is_allowed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMBEDFLEET_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("EMBEDFLEET_ENGINE", "torch")
    monkeypatch.setenv("EMBEDFLEET_PRECISION", "half")
    assert 2 == main(["tune", str(saved(tmp_path, bert()))])
    assert "Set one of them to auto" in capsys.readouterr().err
