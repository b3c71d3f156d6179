"""From which lanes a process claims."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_workers.cooling import Cooling
from embedfleet_workers.lanes import IN_A_ROW, LaneTurns

COOLS_NOTHING = {"interactive": [], "bulk": []}.__getitem__


def take(turns, waiting, queue="cpu"):
    """What a slot claims where so many batches of each lane wait."""
    with turns.turn(queue) as turn:
        for lanes, _ in turn.tries(COOLS_NOTHING):
            for lane in lanes:
                if waiting[lane]:
                    waiting[lane] -= 1
                    turn.took(lane)
                    return lane
    return None


def test_interactive_goes_first_and_one_claim_asks_for_both_lanes():
    with LaneTurns().turn("cpu") as turn:
        assert [(("interactive", "bulk"), [])] == list(turn.tries(COOLS_NOTHING))


def test_bulk_gets_one_of_eight_where_interactive_never_ends():
    turns, waiting = LaneTurns(), {"interactive": 100, "bulk": 100}
    taken = [take(turns, waiting) for _ in range(2 * IN_A_ROW + 2)]
    assert (["interactive"] * IN_A_ROW + ["bulk"]) * 2 == taken


def test_a_process_without_bulk_goes_on_with_interactive():
    turns, waiting = LaneTurns(), {"interactive": 100, "bulk": 0}
    assert ["interactive"] * 30 == [take(turns, waiting) for _ in range(30)]


@given(st.lists(st.sampled_from(["interactive", "bulk", "claim", "claim"]), max_size=60))
def test_nothing_starves_whatever_comes(steps):
    turns, waiting = LaneTurns(), {"interactive": 0, "bulk": 0}
    passed = 0
    for step in steps:
        if step != "claim":
            waiting[step] += 1
            continue
        had = dict(waiting)
        taken = take(turns, waiting)
        assert (taken is None) == (not any(had.values()))
        passed = passed + 1 if taken == "interactive" and had["bulk"] else 0
        assert passed <= IN_A_ROW
    while any(waiting.values()):
        assert take(turns, waiting) is not None


def test_of_the_slots_that_call_an_api_one_takes_no_bulk():
    turns = LaneTurns(slots=3)
    with ExitStack() as running:
        for _ in range(2):
            running.enter_context(turns.turn("api")).took("bulk")
        with turns.turn("api") as third:
            assert [(("interactive",), [])] == list(third.tries(COOLS_NOTHING))
        with turns.turn("cpu") as other:
            assert ("interactive", "bulk") == next(other.tries(COOLS_NOTHING)).lanes
    with turns.turn("api") as later:
        assert ("interactive", "bulk") == next(later.tries(COOLS_NOTHING)).lanes


def test_a_slot_with_an_interactive_batch_leaves_room_for_bulk():
    turns = LaneTurns(slots=2)
    with turns.turn("api") as first:
        first.took("interactive")
        with turns.turn("api") as second:
            assert ("interactive", "bulk") == next(second.tries(COOLS_NOTHING)).lanes


def test_the_only_slot_takes_both_lanes():
    with LaneTurns(slots=1).turn("api") as turn:
        assert ("interactive", "bulk") == next(turn.tries(COOLS_NOTHING)).lanes


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_what_bulk_met_with_keeps_no_interactive_batch_waiting(lane):
    cooling = Cooling()
    cooling.cool(7, "api", 30.0, lane)
    with LaneTurns().turn("api") as turn:
        tries = list(turn.tries(cooling.spaces))
    cooling.stop()
    expected = {
        "interactive": [(("interactive", "bulk"), [7])],
        "bulk": [(("interactive",), []), (("bulk",), [7])],
    }
    assert expected[lane] == tries
