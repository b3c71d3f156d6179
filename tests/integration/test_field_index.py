"""An index on a field of the metadata: ranges find their rows by it, and no row fails."""

import json

import numpy as np
import pytest

import embedfleet as ef
from embedfleet_schema.errors import BadArgument, BadFilter
from plugins.filled_collections import fill
from plugins.fleets import ask, drain, filled_by

COUNT = 3_000
ODD = [
    "abc",
    "",
    True,
    None,
    [1],
    {"a": 1},
    "9" * 6_000,
    -1.5,
    int("9" * 4_000),
    1e300,
    "2024-02-30",
]
RANGES = [
    {"year": {"gte": 2990}},
    {"year": {"gt": 5, "lt": 9}},
    {"year": {"lt": 3}},
    {"$.of.day": {"gte": "2024-01-30"}},
    {"$.of.day": {"gte": "2024-01-03T00:00:00Z", "lt": "2024-01-03T04:00:00Z"}},
]


def make(fleet, worker):
    vectors = np.random.default_rng(0).standard_normal((COUNT, 16)).astype(np.float32)
    rows = [
        {"year": n, "of": {"day": f"2024-01-{n % 30 + 1:02}T{n % 24:02}:00:00Z"}}
        for n in range(COUNT)
    ]
    fill(fleet, fleet.collection("docs", model="fake/16"), vectors, rows)


copied_database = filled_by(make)


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs")


def found(docs, where):
    return [hit.document for hit in docs.search([1.0] + [0.0] * 15, k=COUNT, where=where)]


def rows_by_index(fleet, where):
    """How many rows the planner expects by an index, as a search asks it; None without one."""
    (row,) = ask(fleet, "SELECT embedfleet.filter_condition(%s::jsonb)", json.dumps(where))
    (info,) = ask(fleet, "SELECT id FROM embedfleet.collection WHERE name = 'docs'")
    statement = f"SELECT id FROM embedfleet._chunks_{info[0]} WHERE {row[0]}"
    (rows,) = ask(fleet, "SELECT embedfleet.expected_rows(%s)", statement)
    return rows[0]


def test_ranges_find_their_rows_by_the_index_and_the_same_ones(fleet, docs):
    before = [found(docs, where) for where in RANGES]
    assert [10, 3, 3] == [len(each) for each in before[:3]]
    assert all(before)
    assert {None} == {rows_by_index(fleet, where) for where in RANGES}
    assert docs.index_field("year").startswith(f"{docs.info.chunks}_number_")
    assert docs.index_field("$.of.day", "date").startswith(f"{docs.info.chunks}_date_")
    assert docs.index_field("$.year") is None
    assert docs.index_field("$.of.day", "date") is None
    assert None not in {rows_by_index(fleet, where) for where in RANGES}
    assert before == [found(docs, where) for where in RANGES]
    # A wide range is not taken for a narrow one: then a scan of the vectors is the better way.
    for where, rows in (
        ({"year": {"gte": 2_990}}, 10),
        ({"year": {"gte": 1_000}}, 2_000),
        ({"$.of.day": {"gte": "2024-01-30"}}, 100),
        ({"$.of.day": {"gte": "2024-01-11"}}, 2_000),
    ):
        assert rows_by_index(fleet, where) == pytest.approx(rows, rel=0.5, abs=20)
    docs.index_field("year", wanted=False)
    assert [] == ask(fleet, "SELECT stxname FROM pg_statistic_ext")
    assert rows_by_index(fleet, RANGES[0]) is None
    assert before[0] == found(docs, RANGES[0])


def test_a_value_of_any_kind_keeps_no_row_out(fleet, docs, worker):
    docs.index_field("year")
    docs.index_field("year", "date")
    job = docs.enqueue(ef.Document(f"odd {n}", f"text {n}", {"year": v}) for n, v in enumerate(ODD))
    assert 0 == job.enqueued.rejected
    drain(worker())
    assert len(ODD) == job.status.embedded
    assert ["odd 7"] == found(docs, {"year": {"lt": 0}})
    assert {"odd 8", "odd 9"} == set(found(docs, {"year": {"gt": 10_000}}))
    assert 0 == docs.audit().missing
    # The same, built over such rows.
    docs.index_field("year", wanted=False)
    docs.index_field("year")
    assert ["odd 7"] == found(docs, {"year": {"lt": 0}})


def test_what_is_no_field_is_refused(docs):
    with pytest.raises(BadFilter, match="is no path"):
        docs.index_field("$.a.")
    with pytest.raises(BadArgument, match="number, date"):
        docs.index_field("year", "text")


def test_any_name_can_be_a_field(docs):
    for field in ('it\'s a "name" %s {x}', "é" * 200, '$."first name".x'):
        assert docs.index_field(field) is not None
        assert docs.index_field(field) is None
        docs.search([1.0] * 16, where={field: {"gt": 1}})


def test_from_the_command_line(docs, command):
    answer = command("index", "docs", "--field", "year", "--field", "$.of.day:date")
    assert f"built {docs.info.chunks}_number_" in answer.out
    assert f"built {docs.info.chunks}_date_" in answer.out
    again = command("index", "docs", "--field", "year", "--json").json
    assert [] == again["built_for_fields"]
