"""What a fleet makes of each shape of quota, in minutes of virtual time, from batch to provider.

Quotas of few and of many requests a minute, enforced and stated in the ways that are in use, by
two processes that have more to do than they may. Where a limit is set or stated, the one that binds
is used to the full after a minute; where neither, more than half of it from the tenth minute on.
"""

import pytest

from plugins.simulated_batches import Quota, Shape, Shown, Stated, run_batches

SMALL = (Quota(3, 10_000), Quota(6, 30_000), Quota(120, 30_000), Quota(600, 60_000))
LARGE = Quota(5_000, 5_000_000, text=1_500)
# A quota cut into slices shows that only by its refusals, which teach the size of requests.
SLICED_AFTER_S = 240
SHAPES: tuple[Shape, ...] = ("bucket", "window", "log", "slices")
# How a limit is stated, and whether a person set it.
KNOWN: tuple[tuple[Stated, bool], ...] = (
    ("all", False),
    ("limits", False),
    ("all", True),
    ("none", True),
    ("retry-after", True),
)


def named(value: object) -> str:
    return {True: "set", False: "not set"}.get(value, str(value)) if value is not None else ""


def assert_nothing_is_charged(shown: Shown) -> None:
    assert [0] * len(shown.processes) == [each.charged for each in shown.processes]


@pytest.mark.parametrize(("stated", "is_set"), KNOWN, ids=named)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quota", SMALL, ids=named)
def test_a_known_limit_is_used_to_the_full(quota, shape, stated, is_set):
    since, minutes = (SLICED_AFTER_S, 7) if shape == "slices" else (60, 4)
    told = quota.amounts if is_set else None
    shown = run_batches(quota, shape, stated, told=told, minutes=minutes)
    assert shown.binding(since, 60 * minutes) >= 0.95
    assert_nothing_is_charged(shown)


@pytest.mark.parametrize(("stated", "is_set"), KNOWN, ids=named)
@pytest.mark.parametrize("shape", ["bucket", "window", "log"])
def test_a_large_known_limit_is_used_to_the_full(shape, stated, is_set):
    told = LARGE.amounts if is_set else None
    shown = run_batches(LARGE, shape, stated, told=told, minutes=2.5)
    assert shown.binding(60, 150) >= 0.95
    assert_nothing_is_charged(shown)


@pytest.mark.parametrize(("stated", "is_set"), KNOWN[::2], ids=named)
def test_a_large_limit_that_is_cut_into_seconds_is_used_once_requests_are_small(stated, is_set):
    told = LARGE.amounts if is_set else None
    shown = run_batches(LARGE, "slices", stated, told=told, minutes=6)
    assert shown.binding(SLICED_AFTER_S, 360) >= 0.95
    assert_nothing_is_charged(shown)


@pytest.mark.parametrize("stated", ["none", "retry-after"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quota", SMALL, ids=named)
def test_a_limit_that_is_neither_set_nor_stated_is_found_out(quota, shape, stated):
    shown = run_batches(quota, shape, stated, minutes=12)
    assert shown.binding(600, 720) >= 0.5
    assert_nothing_is_charged(shown)


@pytest.mark.parametrize(
    ("shape", "since"), [("bucket", 60), ("window", 60), ("log", 60), ("slices", 540)]
)
def test_a_large_limit_that_is_neither_set_nor_stated_is_found_out(shape, since):
    """A second of a sliced one looks like a small limit, which takes minutes to grow."""
    shown = run_batches(LARGE, shape, "none", minutes=since / 60 + 2)
    assert shown.binding(since, since + 120) >= 0.5
    assert_nothing_is_charged(shown)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quota", [*SMALL, LARGE], ids=named)
def test_a_limit_that_only_the_body_states_is_taken_from_there(quota, shape):
    shown = run_batches(quota, shape, "body", minutes=8)
    assert shown.binding(300, 480) >= 0.95
    assert_nothing_is_charged(shown)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_cold_start_costs_no_wait_however_many_processes_there_are(processes):
    """The first request is small, and what its answer states holds for all before they send."""
    for shape in ("bucket", "window"):
        shown = run_batches(Quota(600, 60_000), shape, "all", minutes=1, processes=processes)
        assert shown.used("tokens", 0, 60) >= 0.9
        assert [] == shown.provider.account.refused


@pytest.mark.parametrize(("quota", "tokens"), [(SMALL[1], 0.9), (SMALL[2], 0.9)], ids=named)
def test_few_requests_a_minute_do_not_starve_the_tokens(quota, tokens):
    shown = run_batches(quota, "bucket", "all", minutes=4)
    assert shown.used("tokens", 60, 240) >= tokens


def test_a_store_that_loses_everything_learns_anew():
    shown = run_batches(Quota(120, 30_000), "bucket", "none", minutes=13, wiped_at=(150, 300))
    assert shown.binding(600, 780) >= 0.5


@pytest.mark.parametrize(
    ("stated", "since", "least"), [("all", 60, 0.95), ("none", 600, 0.5), ("retry-after", 600, 0.5)]
)
@pytest.mark.parametrize("shape", ["bucket", "window"])
def test_a_quota_that_was_used_up_when_the_fleet_came_is_used_soon(shape, stated, since, least):
    shown = run_batches(Quota(120, 30_000), shape, stated, minutes=since / 60 + 2, used_up=True)
    assert shown.binding(since, since + 120) >= least
    assert_nothing_is_charged(shown)
