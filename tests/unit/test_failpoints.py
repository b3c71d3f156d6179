import time

import pytest

from embedfleet_schema.errors import BadSettings, FailpointHit
from embedfleet_schema.failpoints import Failpoints


def hits(failpoints: Failpoints, place: str, passes: int) -> list[int]:
    """Which passes of a place failed, counted from 1."""
    failed = []
    for number in range(1, passes + 1):
        try:
            failpoints.hit(place)
        except FailpointHit:
            failed.append(number)
    return failed


def test_nothing_happens_where_nothing_is_armed():
    assert [] == hits(Failpoints.parse(""), "after_claim", 10)
    assert [] == hits(Failpoints.parse("after_embed=raise"), "after_claim", 10)


def test_an_armed_place_fails_at_each_pass():
    assert [1, 2, 3] == hits(Failpoints.parse("after_claim=raise"), "after_claim", 3)


def test_a_place_can_fail_at_one_pass_only():
    assert [3] == hits(Failpoints.parse("after_claim=raise:#3"), "after_claim", 10)


def test_the_same_seed_fails_at_the_same_passes():
    runs = [hits(Failpoints.parse("after_claim=raise:0.3;seed=7"), "after_claim", 99) for _ in "ab"]
    assert runs[0] == runs[1]
    assert 10 < len(runs[0]) < 60


def test_a_sleep_takes_its_seconds():
    began = time.monotonic()
    Failpoints.parse("before_commit=sleep:0.05:#1").hit("before_commit")
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize(
    "text",
    [
        "nowhere=kill",
        "after_claim",
        "after_claim=explode",
        "after_claim=sleep",
        "after_claim=sleep:-1",
        "after_claim=sleep:nan",
        "after_claim=kill:2",
        "after_claim=kill:#x",
        "after_claim=kill:0.5:0.5",
    ],
)
def test_what_cannot_be_read_is_refused_in_plain_words(text):
    with pytest.raises(BadSettings, match="failpoint"):
        Failpoints.parse(text)
