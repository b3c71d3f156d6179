"""What is asked of a server and a database, where no such server is at hand."""

import pytest

from embedfleet_schema.requirements import judged

GOOD = {
    "version": "18.4",
    "version_number": 180_004,
    "encoding": "UTF8",
    "is_replica": False,
    "is_read_only": False,
    "commits_late": False,
    "vector_version": "0.8.5",
    "vector_schema": "public",
    "vector_is_open": False,
    "tables": 3_200,
    "locks_per_transaction": 64,
    "transactions": 100,
}


def test_nothing_is_said_of_what_is_as_it_should_be():
    assert [] == judged(GOOD)
    assert [] == judged(GOOD | {"vector_version": None})


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"version": "14.9", "version_number": 140_009}, "PostgreSQL 14.9 is too old"),
        ({"encoding": "SQL_ASCII"}, "the database's encoding is SQL_ASCII"),
        ({"is_replica": True}, "this is a read replica"),
        ({"is_replica": True, "is_read_only": True}, "this is a read replica"),
        ({"is_read_only": True}, "transactions are read-only by default here"),
        ({"vector_version": "0.7.4"}, "pgvector 0.7.4 is older than 0.8"),
    ],
)
def test_what_cannot_work_stops_a_migration(wrong, found):
    (problem,) = judged(GOOD | wrong)
    assert (found, True) == (problem.found, problem.for_migrate)
    assert problem.advice


@pytest.mark.parametrize("wrong", ["commits_late", "vector_is_open"])
def test_what_is_only_unwise_does_not(wrong):
    (problem,) = judged(GOOD | {wrong: True})
    assert not problem.for_migrate


def test_more_tables_than_a_dump_has_locks_for_are_told_with_the_setting_they_need():
    (problem,) = judged(GOOD | {"tables": 40_017})
    assert "pg_dump needs 40017 locks at once, and the server has 6400" == problem.found
    assert "set max_locks_per_transaction to 801 and restart the server" == problem.advice
    assert not problem.for_migrate
