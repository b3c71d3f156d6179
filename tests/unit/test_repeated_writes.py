"""Writes of a producer that are tried again: how often, for how long, and one inside another."""

import psycopg
import pytest

from embedfleet_producer import retries
from embedfleet_producer.retries import TRIES, retried
from embedfleet_schema.database import LockTimeout


class Clock:
    """Stands still but for what a try takes and for pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    return clock


class Away:
    """A database that nobody reaches, by which each try waits so long."""

    def __init__(self, clock, seconds, error=psycopg.OperationalError):
        self.told = []
        self._clock, self._seconds, self._error = clock, seconds, error

    def write(self, again):
        self.told.append(again)
        self._clock.sleep(self._seconds)
        raise self._error


def test_a_write_is_tried_some_times_and_told_so(clock):
    away = Away(clock, 0.0)
    with pytest.raises(psycopg.OperationalError):
        retried(away.write)
    assert [False, *[True] * (TRIES - 1)] == away.told


def test_a_write_inside_another_is_tried_again_with_it_alone(clock):
    away = Away(clock, 30.0)
    with pytest.raises(psycopg.OperationalError):
        retried(lambda again: retried(away.write))
    assert len(away.told) <= TRIES
    assert not away.told[0]
    assert all(away.told[1:])
    assert clock.now < retries.GIVE_UP_S + 60


def test_a_database_that_stays_away_is_given_up_in_a_bounded_time(clock):
    away = Away(clock, 30.0)
    with pytest.raises(psycopg.OperationalError):
        retried(away.write)
    assert retries.GIVE_UP_S < clock.now < retries.GIVE_UP_S + 60


def test_a_lock_is_waited_for_as_often_as_before(clock):
    error = LockTimeout(url="url", seconds=60, holders="a session", pid=1)
    away = Away(clock, 60.0, error)
    with pytest.raises(LockTimeout):
        retried(away.write)
    assert TRIES == len(away.told)


def test_what_comes_after_a_write_is_tried_again_too(clock):
    away = Away(clock, 0.0)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            retried(away.write)
    assert 2 * TRIES == len(away.told)
