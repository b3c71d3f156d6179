"""When a worker takes a lease for lost by its own clock."""

import time

from embedfleet_workers.heartbeat import ActiveLease

A_WHILE = 1_000.0


def test_a_lease_is_lost_by_the_clock_although_no_beat_comes_to_an_end():
    """A network that drops everything keeps the beat waiting for an answer."""
    now = time.monotonic()
    kept = ActiveLease(None, give_up_s=A_WHILE, beaten=now)
    silent = ActiveLease(None, give_up_s=A_WHILE, beaten=now - A_WHILE - 1)
    assert [False, True] == [kept.lost, silent.lost]


def test_a_lease_that_another_worker_has_is_lost_at_once():
    lease = ActiveLease(None, give_up_s=A_WHILE)
    lease.taken = True
    assert lease.lost
