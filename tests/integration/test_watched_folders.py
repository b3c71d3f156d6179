"""`enqueue --watch`: a folder is followed until Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from plugins.worker_processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.collection import Collection
    from embedfleet.fleet import Fleet
    from plugins.command_line import Command


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "sub/c.txt", "sub/d.txt"):
        (root / name).write_text(f"text of {name}")
    return root


@contextmanager
def watching(fleet: Fleet, folder: Path, *options: str):
    environment = {
        **os.environ,
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    words = ["enqueue", "docs", str(folder), "--watch", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "embedfleet", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def texts(docs: Collection) -> dict[str, int]:
    """The keys, with the time of the last change."""
    return {each.key: each.updated_at for each in docs.documents()}


def test_a_folder_is_followed_until_ctrl_c(fleet: Fleet, docs: Collection, watched: Path):
    with watching(fleet, watched, "--mirror", "--json") as process:
        eventually(lambda: {"a.txt", "b.txt", "sub/c.txt", "sub/d.txt"} == set(texts(docs)))

        # As editors do it: another file takes the name.
        before = texts(docs)["a.txt"]
        (watched / ".a.txt.swp").write_text("changed by an editor")
        (watched / ".a.txt.swp").rename(watched / "a.txt")
        eventually(lambda: texts(docs)["a.txt"] > before)

        (watched / "b.txt").unlink()
        eventually(lambda: "b.txt" not in texts(docs))

        (watched / "new/deep").mkdir(parents=True)
        (watched / "new/deep/e.txt").write_text("in a new folder")
        eventually(lambda: "new/deep/e.txt" in texts(docs))
        shutil.move(watched / "new", watched / "moved")
        eventually(lambda: {"moved/deep/e.txt"} == {k for k in texts(docs) if k.endswith("e.txt")})

        # The folder vanishes, and comes back changed.
        away = watched.with_name("away")
        watched.rename(away)
        (away / "f.txt").write_text("while it was away")
        (away / "sub/d.txt").unlink()
        away.rename(watched)
        wanted = {"a.txt", "f.txt", "moved/deep/e.txt", "sub/c.txt"}
        eventually(lambda: wanted == set(texts(docs)))

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert 0 == process.returncode
    passes = [json.loads(line) for line in out.splitlines()]
    assert 4 == passes[0]["documents"]
    assert "stopped after" in err
    assert docs.audit().missing == 0


def test_without_mirror_nothing_is_deleted(fleet: Fleet, docs: Collection, watched: Path):
    with watching(fleet, watched):
        eventually(lambda: 4 == len(texts(docs)))
        (watched / "a.txt").unlink()
        (watched / "b.txt").rename(watched / "z.txt")
        eventually(lambda: "z.txt" in texts(docs))
        assert {"a.txt", "b.txt"} <= set(texts(docs))


def test_the_end_of_a_folder_deletes_nothing(fleet: Fleet, docs: Collection, watched: Path):
    with watching(fleet, watched, "--mirror") as process:
        eventually(lambda: 4 == len(texts(docs)))
        shutil.rmtree(watched)
        watched.mkdir()
        (watched / "later.txt").write_text("it came back with one file")
        said = next(line for line in process.stderr if "4 of 5 documents" in line)
        assert "--yes" in said
        assert 5 == len(texts(docs))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert "stopped after 2 passes: 5 documents stored, 0 deleted" in err


def test_a_folder_that_is_empty_is_waited_for(fleet: Fleet, docs: Collection, watched: Path):
    """As where nothing is mounted yet."""
    full = watched.with_name("full")
    watched.rename(full)
    watched.mkdir()
    (watched / "first.txt").write_text("the first")
    with watching(fleet, watched, "--mirror") as process:
        eventually(lambda: {"first.txt"} == set(texts(docs)))
        shutil.rmtree(watched)
        watched.mkdir()
        assert "the folder is empty" in next(process.stderr)
        for path in full.iterdir():
            path.rename(watched / path.name)
        # Now it is known what is gone.
        eventually(lambda: {"a.txt", "b.txt", "sub/c.txt", "sub/d.txt"} == set(texts(docs)))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["docs/a.txt"], "follows folders"),
        (["docs", "docs/a.txt"], "follows folders"),
        (["-"], "follows folders"),
        (["docs", "--wait"], "leave out --wait"),
        (["docs", "--strict"], "leave out --wait and --strict"),
    ],
)
def test_only_folders_are_followed(
    command: Command, handbook: str, watched: Path, monkeypatch, words: list[str], reason: str
):
    monkeypatch.chdir(watched.parent)
    answer = command("enqueue", handbook, *words, "--watch")
    assert 2 == answer.code
    assert reason in answer.err
