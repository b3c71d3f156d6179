"""What the command says of a mirror, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.fleet import Fleet
    from plugins.command_line import Command


@pytest.fixture
def mirrored(command: Command, handbook: str, folder: Path) -> Path:
    """Three files of a folder, in a collection."""
    assert 0 == command("enqueue", handbook, folder, "--mirror").code
    return folder


def test_what_is_deleted_is_planned_and_said(command: Command, handbook: str, mirrored: Path):
    (mirrored / "a.txt").unlink()
    planned = command("plan", handbook, mirrored, "--mirror")
    assert "1 document to delete: a.txt\n" in planned.out
    done = command("enqueue", handbook, mirrored, "--mirror")
    assert (0, True) == (done.code, "1 deleted" in done.out)
    assert {"b.txt", "c.md"} == {
        each["key"] for each in command("documents", handbook, "--json").json
    }


def test_more_than_half_ends_with_an_error_until_it_is_confirmed(
    command: Command, fleet: Fleet, handbook: str, mirrored: Path
):
    for name in ("a.txt", "b.txt"):
        (mirrored / name).unlink()
    (mirrored / "new.txt").write_text("stored all the same")
    (mirrored / "c.md").unlink()
    planned = command("plan", handbook, mirrored, "--mirror")
    assert "3 documents to delete: a.txt, b.txt, c.md\n" in planned.out
    assert "nothing would be deleted: 3 of 4 documents" in planned.out
    done = command("enqueue", handbook, mirrored, "--mirror", "--json")
    assert (1, 1, 0) == (done.code, done.json["documents"], done.json["deleted"])
    assert "3 of 4 documents" in done.err
    assert "--yes" in done.err
    assert done.json["undeleted"] == fleet.jobs()[0].status.reason
    done = command("enqueue", handbook, mirrored, "--mirror", "--yes", "--json")
    assert (0, 3) == (done.code, done.json["deleted"])


def test_what_is_not_mirrored_is_refused_before_anything_is_stored(
    command: Command, fleet: Fleet, handbook: str
):
    answer = command("enqueue", handbook, "-", "--mirror", "--source", "feed")
    assert 2 == answer.code
    assert "standard input cannot be mirrored" in answer.err
    assert [] == fleet.jobs()
