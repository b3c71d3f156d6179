"""Which files the command line takes, and what it says of the others."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugins.command_line import Command


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "drafts").mkdir(parents=True)
    (root / "a.md").write_text("---\ntitle: [\n---\ntext")
    (root / "b.py").write_text("print(1)\n")
    (root / "drafts/c.md").write_text("a draft")
    (root / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text":"row"}\n'))
    for name in ("x.png", "y.png"):
        (root / name).write_bytes(b"\x89PNG\0")
    (tmp_path / "secret.txt").write_text("a secret")
    (root / "notes.txt").symlink_to(tmp_path / "secret.txt")
    return root


def test_what_is_left_out_reported_and_dropped_is_said(command: Command, mixed: Path):
    done = command(
        *("enqueue", "handbook", mixed, "--model", "fake/32", "--exclude", "drafts/"),
    )
    assert "3 documents" in done.out
    assert "2 rejected" in done.out
    assert "  *.png: 2 files, the first x.png: .png files are not read" in done.out
    assert "LINK_NOT_FOLLOWED: 1\n  notes.txt: a link out of the folder" in done.out
    assert "left out: 1 excluded\n" in done.out
    assert "BAD_FRONT_MATTER: 1\n  a.md: it is taken as text" in done.out


def test_the_same_is_in_the_json(command: Command, mixed: Path):
    words = ("--model", "fake/32", "--include", "*.md", "--follow-links", "--json")
    done = command("enqueue", "handbook", mixed, *words).json
    assert (2, 0) == (done["documents"], done["rejected"])
    assert {"not included": 5} == done["read"]["left_out"]
    assert [("a.md", "BAD_FRONT_MATTER")] == [(n["key"], n["code"]) for n in done["read"]["notes"]]


def test_a_plan_reads_what_enqueue_would_read(command: Command, mixed: Path):
    words = ("--exclude", "*.png", "--exclude", "drafts/", "--follow-links")
    planned = command("plan", "handbook", mixed, "--model", "fake/32", *words)
    assert "4 documents new or changed, 0 unchanged, 0 rejected" in planned.out
    assert "left out: 3 excluded\n" in planned.out


@pytest.mark.parametrize("words", [("--include", "*.xyz"), ("--exclude", "")])
def test_patterns_that_cannot_be_meant_are_wrong_use(command: Command, mixed: Path, words):
    assert 2 == command("enqueue", "handbook", mixed, "--model", "fake/32", *words).code
