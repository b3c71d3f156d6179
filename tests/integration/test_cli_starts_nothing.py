"""Commands that only look, and folders that were mistyped, start nothing and leave no trace."""

from collections.abc import Callable
from pathlib import Path

import pytest

from embedfleet.cli import main

LOOKS = [
    ["status"],
    ["status", "1"],
    ["watch"],
    ["collection", "list"],
    ["collection", "show", "docs"],
    ["sync", "list"],
    ["sync", "show", "docs"],
    ["search", "docs", "text"],
    ["explain", "docs", "key"],
    ["failures", "docs"],
    ["audit", "docs"],
    ["usage"],
    ["limits", "show"],
    ["plan", "docs", "PATH", "--model", "fake/32"],
]
WRITES = [
    ["collection", "create", "docs", "--model", "fake/32"],
    ["enqueue", "docs", "PATH", "--model", "fake/32"],
    ["delete", "docs", "key"],
    ["retry", "docs"],
    ["audit", "docs", "--repair"],
    ["sync", "verify", "docs"],
    ["worker"],
]

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("EMBEDFLEET_DATABASE_URL", "DATABASE_URL", "EMBEDFLEET_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    (tmp_path / "a.txt").write_text("A text.")

    def command(*words: str) -> tuple[int, str]:
        code = main([str(tmp_path / "a.txt") if word == "PATH" else word for word in words])
        return code, capsys.readouterr().err

    return command


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_a_command_that_only_looks_starts_no_servers(
    run: Run, tmp_path: Path, words: list[str]
) -> None:
    code, said = run(*words)
    assert 2 == code
    assert said.endswith("were never started. Start them with: embedfleet up\n")
    assert ["a.txt"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("words", [*LOOKS, *WRITES], ids=" ".join)
def test_a_mistyped_folder_is_not_made(run: Run, tmp_path: Path, words: list[str]) -> None:
    data = tmp_path / "mistyped"
    code, said = run("--data", str(data), *words)
    assert 2 == code
    assert f"Start them with: embedfleet --data {data} up" in said
    assert ["a.txt"] == [path.name for path in tmp_path.iterdir()]


def test_servers_that_are_stopped_stay_so_for_a_look(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "stopped"
    (data / "postgres").mkdir(parents=True)
    code, said = run("--data", str(data), "status")
    assert (2, True) == (code, "are stopped. Start them with:" in said)
    assert ["postgres"] == [path.name for path in data.iterdir()]


@pytest.mark.parametrize("words", [["--data", "", "status"], ["--data=", "up"]], ids=" ".join)
def test_an_empty_folder_name_is_not_this_folder(run: Run, words: list[str]) -> None:
    code, said = run(*words)
    assert 2 == code
    assert "a path is empty; for the current folder, write ." in said


@pytest.mark.parametrize("paths", [[""], ["PATH", ""], [" "]])
@pytest.mark.parametrize("verb", ["enqueue", "plan"])
def test_an_empty_path_is_wrong_use(run: Run, verb: str, paths: list[str]) -> None:
    code, said = run(verb, "docs", *paths)
    assert 2 == code
    assert "a path is empty; for the current folder, write ." in said
