"""What a person sees of an index build: its phase, how far it is, how long it still takes."""

import pytest

from embedfleet.cli import indexing
from embedfleet_schema.store import index_builds

LOADING = "building index: loading tuples"


def row(phase=LOADING, locker=0, tuples=(0, 0), blocks=(0, 0)):
    return {
        "phase": phase,
        "current_locker_pid": locker,
        "tuples_done": tuples[0],
        "tuples_total": tuples[1],
        "blocks_done": blocks[0],
        "blocks_total": blocks[1],
    }


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(0, None)], "building the index"),
        ([(0, row("initializing"))], "initializing"),
        (
            [(0, row("waiting for writers before build", locker=7))],
            "waiting for writers before build, for the transaction of pid 7",
        ),
        ([(0, row(tuples=(10, 100)))], f"{LOADING}, 10%"),
        ([(0, row(tuples=(10, 100))), (2, row(tuples=(20, 100)))], f"{LOADING}, 20%"),
        ([(0, row(tuples=(10, 100))), (8, row(tuples=(50, 100)))], f"{LOADING}, 50%, 10 s left"),
        ([(0, row(blocks=(0, 50))), (4, row(blocks=(25, 50)))], f"{LOADING}, 50%, 4 s left"),
        # Another phase starts anew: the time of the former one says nothing about it.
        ([(0, row("scan", blocks=(0, 9))), (9, row(blocks=(9, 10)))], f"{LOADING}, 90%"),
    ],
)
def test_a_build_tells_its_phase_and_what_is_left(monkeypatch, steps, expected):
    phases = indexing._Phases(_Fleet(), _Fleet())
    for at, found in steps:
        monkeypatch.setattr(indexing.time, "monotonic", lambda at=at: 100.0 + at)
        monkeypatch.setattr(index_builds, "progress", lambda *_, found=found: found)
        said = phases.now()
    assert expected == said


class _Fleet:
    db = info = None
