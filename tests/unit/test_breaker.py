"""The circuit breaker: who passes while a fault lasts, and who hears of its end."""

from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.breaker import Breaker

PROBE_S = 4.0
STEP = st.one_of(st.sampled_from(["admits", "open", "close"]), st.floats(0.0, 10.0))


@given(st.lists(STEP, max_size=40))
def test_closed_it_lets_all_pass_and_open_one_in_each_interval(steps):
    now, passed_at, is_open = 0.0, None, False
    breaker = Breaker(PROBE_S, clock=lambda: now)
    for step in steps:
        match step:
            case "admits":
                due = not is_open or now >= passed_at + PROBE_S
                assert due == breaker.admits()
                passed_at = now if due else passed_at
            case "open":
                assert breaker.open() != is_open
                passed_at, is_open = now, True
            case "close":
                assert breaker.close() == is_open
                is_open = False
            case seconds:
                now += seconds
        assert is_open == breaker.is_open


class Right:
    """A right to try that others have for now."""

    def __init__(self):
        self.free, self.given_back = False, 0

    def take(self):
        return self.free

    def give_back(self):
        self.given_back += 1


def test_a_probe_needs_the_right_to_try_and_the_end_of_the_fault_gives_it_back_once():
    right = Right()
    breaker = Breaker(0.0, right)
    assert breaker.admits()
    breaker.open()
    assert not breaker.admits()
    right.free = True
    assert breaker.admits()
    assert [True, False, 1] == [breaker.close(), breaker.close(), right.given_back]
