"""A leadership belongs to one process of the fleet at a time."""

from embedfleet_schema.breaker import Breaker
from embedfleet_schema.database import Database
from embedfleet_schema.leadership import DISK_PROBE, Leadership
from plugins.worker_processes import eventually


def test_one_of_two_gets_the_turn(fleet):
    one, other = (Leadership(fleet.db, DISK_PROBE, 3600) for _ in range(2))
    assert [True, False] == [one.take(), other.take()]
    one.give_back()


def test_a_turn_that_was_given_back_is_free(fleet):
    one, other = (Leadership(fleet.db, DISK_PROBE, 3600) for _ in range(2))
    assert one.take()
    one.give_back()
    # Its connection ends in its own time.
    eventually(other.take)
    other.give_back()


def test_a_turn_ends_by_itself(fleet):
    one, other = Leadership(fleet.db, DISK_PROBE, 0.05), Leadership(fleet.db, DISK_PROBE, 3600)
    assert one.take()
    eventually(other.take)
    other.give_back()


def test_nobody_has_a_turn_while_the_database_is_away():
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    assert not Leadership(away, DISK_PROBE, 3600).take()


def test_of_two_open_breakers_one_tries(fleet):
    breakers = [Breaker(0.0, Leadership(fleet.db, DISK_PROBE, 3600)) for _ in range(2)]
    for breaker in breakers:
        breaker.open()
    assert [True, False] == [breaker.admits() for breaker in breakers]
    breakers[0].close()
    assert breakers[0].admits()
    eventually(breakers[1].admits)
    breakers[1].close()
