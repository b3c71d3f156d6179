"""A mirror that is killed deletes nothing that was not to be, and the next one finishes."""

import os
import signal
import subprocess
import sys

import pytest

import embedfleet as ef
from plugins.fleets import ask

MIRROR = """
import sys
import embedfleet as ef
with ef.connect() as fleet:
    docs = fleet.collection("docs")
    docs.enqueue(ef.read_paths([sys.argv[1]]), mirror=True, confirm_deletions=True)
"""
# Of each, so that a window and a page of deletions are several.
FILES = 24


def mirror(fleet, folder, **settings: str) -> int:
    environment = {
        **os.environ,
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        "EMBEDFLEET_WINDOW_DOCUMENTS": "10",
        **{f"EMBEDFLEET_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-c", MIRROR, str(folder)]
    return subprocess.run(command, env=environment, check=False).returncode


def keys(fleet) -> set[str]:
    return {key for (key,) in ask(fleet, "SELECT key FROM embedfleet._documents_1")}


@pytest.mark.parametrize(
    "place",
    [
        "before_merge=kill:#1",
        "before_merge=kill:#3",
        "after_merge_before_ring=kill:#2",
        "before_deletion=kill:#1",
        "after_deleted_page=kill:#1",
    ],
)
def test_a_mirror_that_is_killed_is_finished_by_the_next(fleet, tmp_path, place):
    docs = fleet.collection("docs", model="fake/16")
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in [f"stay{n:02}.txt" for n in range(FILES)] + [f"go{n:02}.txt" for n in range(FILES)]:
        (folder / name).write_text(f"text of {name}")
    docs.enqueue(ef.read_paths([folder]))
    for path in folder.glob("go*"):
        path.unlink()
    (folder / "stay00.txt").write_text("changed")
    (folder / "new.txt").write_text("new")
    wanted = {path.name for path in folder.iterdir()}

    assert -signal.SIGKILL == mirror(fleet, folder, failpoints=place)
    left = keys(fleet)
    assert wanted - {"new.txt"} <= left
    assert place.startswith("after_deleted_page") or left >= {f"go{n:02}.txt" for n in range(FILES)}

    assert 0 == mirror(fleet, folder)
    assert wanted == keys(fleet)
    found = docs.audit()
    assert (0, 0) == (found.missing, found.extra)

    # What the killed one saw goes once it counts as dead.
    ask(fleet, "UPDATE embedfleet.job SET loading_until = now() WHERE loaded_at IS NULL")
    assert 0 == mirror(fleet, folder)
    assert wanted == keys(fleet)
    assert [(0,)] == ask(fleet, "SELECT count(*) FROM embedfleet.sighting")
