"""The filter language: what operators find, what is refused, and that nothing is run as SQL."""

import datetime as dt
import json

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from embedfleet_schema.errors import BadFilter
from embedfleet_schema.store.filters import condition

# The database is the same for all examples, and nothing is written there.
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def conn(migrated_url):
    with psycopg.connect(migrated_url, autocommit=True, prepare_threshold=None) as connection:
        yield connection


@pytest.fixture
def holds(conn):
    """Whether a filter holds for a chunk with some metadata, of some document."""

    def ask(filter_, metadata, document="docs/a.md"):
        row = sql.SQL("SELECT {} FROM (VALUES (%s::jsonb, %s)) AS t (metadata, document)")
        query = row.format(condition(conn, filter_))
        (found,) = conn.execute(query, (json.dumps(metadata), document)).fetchone()
        return bool(found)

    return ask


EXAMPLE = {
    "year": 2021,
    "price": 9.5,
    "lang": "en",
    "when": "2024-02-29",
    "at": "2024-02-29T10:00:00+02:00",
    "cell": "2021",
    "tags": ["a", "b"],
    "final": True,
    "none": None,
    "author": {"name": "Ada", "first name": "A.", "age": 36},
    "a.b": 1,
    "document": "of metadata",
    "café": "café",
}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"year": 2021}, True),
        ({"year": 2021.0}, True),
        ({"year": "2021"}, False),
        # A value that stands alone also finds the text that it is written as; `eq` does not.
        ({"cell": 2021}, True),
        ({"cell": {"eq": 2021}}, False),
        ({"cell": {"eq": "2021"}}, True),
        ({"year": {"eq": 2021.0}}, True),
        ({"year": {"eq": "2021"}}, False),
        ({"final": True}, True),
        ({"final": {"eq": 1}}, False),
        ({"none": None}, True),
        ({"missing": None}, False),
        ({"year": {"in": [2020, 2021.0]}}, True),
        ({"year": {"in": ["2021", True]}}, False),
        ({"lang": {"in": ["de", "en"]}}, True),
        ({"year": {"gte": 2021}}, True),
        ({"year": {"gt": 2021}}, False),
        ({"year": {"gt": 2020.5, "lt": 2021.5}}, True),
        ({"year": {"lte": 2020}}, False),
        ({"cell": {"gte": 2000}}, False),
        ({"final": {"gte": 0}}, False),
        ({"missing": {"gte": 0}}, False),
        ({"when": {"gte": "2024-02-29"}}, True),
        ({"when": {"gt": "2024-02-29"}}, False),
        ({"when": {"lt": "2024-03-01"}}, True),
        ({"lang": {"lt": "2024-03-01"}}, False),
        ({"at": {"gte": "2024-02-29T08:00:00Z", "lt": "2024-02-29 08:00:00.5"}}, True),
        ({"at": {"lt": "2024-02-29T10:00+02:00"}}, False),
        ({"year": {"exists": True}}, True),
        ({"none": {"exists": True}}, True),
        ({"missing": {"exists": True}}, False),
        ({"missing": {"exists": False}}, True),
        ({"lang": {"prefix": "e"}}, True),
        ({"lang": {"prefix": "%"}}, False),
        ({"year": {"prefix": "20"}}, False),
        ({"tags": {"contains": ["b"]}}, True),
        ({"tags": {"contains": ["c"]}}, False),
        ({"author": {"contains": {"name": "Ada"}}}, True),
        ({"$.author.name": "Ada"}, True),
        ({'$.author."first name"': {"prefix": "A"}}, True),
        ({"$.author.age": {"gt": 35, "lt": 37}}, True),
        ({"$.author.x.y": {"exists": True}}, False),
        ({"a.b": 1}, True),
        ({"$.a.b": 1}, False),
        ({'$."a.b"': 1}, True),
        ({"document": "docs/a.md"}, True),
        ({"document": "of metadata"}, False),
        ({"$.document": "of metadata"}, True),
        ({"document": {"prefix": "docs/"}}, True),
        ({"document": {"prefix": "doc%"}}, False),
        ({"document": {"in": ["x", "docs/a.md"]}}, True),
        ({"document": {"eq": "docs/a"}}, False),
        # Either Unicode form, in keys of documents and in values.
        ({"café": "cafe\u0301"}, True),
        ({"café": {"prefix": "cafe\u0301"}}, True),
        ({"café": {"eq": "cafe\u0301"}}, False),
        ({"or": [{"year": 1}, {"lang": "en"}]}, True),
        ({"or": [{"year": 1}, {"lang": "de"}]}, False),
        ({"and": [{"year": 2021}, {"lang": "en"}]}, True),
        ({"year": 2021, "lang": "de"}, False),
        ({"not": {"lang": "de"}}, True),
        ({"not": {"missing": {"gte": 1}}}, True),
        ({"not": {"year": 2021, "lang": "en"}}, False),
        ({"not": {"or": [{"year": 1}, {"not": {"final": True}}]}}, True),
    ],
)
def test_what_a_filter_finds(holds, wanted, expected):
    assert expected == holds(wanted, EXAMPLE)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"year": {"gt_": 1}}, '"year" has no operator "gt_"; there are eq, in, lt'),
        ({"x": {"a": 1}}, 'no operator "a"'),
        (
            {"document": {"gte": "a"}},
            '"document" has no operator "gte"; there are eq, in and prefix',
        ),
        ({"document": 1}, 'equality of "document" takes a text, not 1'),
        ({"document": {"in": [1]}}, 'in of "document" takes a list of texts, not [1]'),
        ({"year": {"gte": "x"}}, 'gte of "year" takes a number, or a date such as "2024-01-31"'),
        ({"year": {"gte": "2023-02-29"}}, 'gte of "year" takes a number, or a date'),
        ({"year": {"gte": True}}, 'gte of "year" takes a number'),
        ({"year": {"in": 1}}, 'in of "year" takes a list'),
        ({"year": {"in": []}}, 'in of "year" takes a list'),
        ({"year": {"in": [[1]]}}, 'in of "year" takes a list'),
        ({"year": {"eq": [1]}}, "lists and objects: contains"),
        ({"year": {"exists": 1}}, 'exists of "year" takes true or false, not 1'),
        ({"year": {"prefix": 1}}, 'prefix of "year" takes a text, not 1'),
        ({"or": []}, "or takes a list of filters, not []"),
        ({"or": {"a": 1}}, "or takes a list of filters"),
        ({"and": [1]}, 'a filter is an object such as {"lang": "en"}, not 1'),
        ({"not": [1]}, "a filter is an object"),
        ({"$.": 1}, '"$." is no path; write $.author.name'),
        ({"$.a..b": 1}, "is no path"),
        ({'$.a"b': 1}, "is no path"),
    ],
)
def test_what_is_no_filter_is_refused_with_what_there_is(holds, wanted, reason):
    with pytest.raises(BadFilter) as refused:
        holds(wanted, {})
    assert reason in str(refused.value)


@pytest.mark.parametrize("wanted", ["[]", "1", "null", '"x"'])
def test_nor_is_what_is_no_object(conn, wanted):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="a filter is an object"):
        conn.execute("SELECT embedfleet.filter_condition(%s)", (wanted,))


paths = texts | texts.map(lambda key: f"$.{json.dumps(key, ensure_ascii=False)}")


@many
@given(key=texts, value=texts | numbers | st.booleans() | st.none())
@example(key="'; DROP TABLE x; --", value="\\'")
@example(key="a\\", value="%s %% $1 {}")
@example(key="or", value="$$")
def test_any_key_and_any_value_is_bound_and_finds_itself(holds, key, value):
    path = f"$.{json.dumps(key, ensure_ascii=False)}"
    metadata = {key: value}
    for operator in ("eq", "contains"):
        assert holds({path: {operator: value}}, metadata)
    assert holds({path: value}, metadata)
    assert holds({path: {"in": ["another", value]}}, metadata)
    assert holds({path: {"exists": True}}, metadata)
    assert not holds({"not": {path: value}}, metadata)


@many
@given(name=paths, operator=texts, value=texts | numbers, key=texts.filter(bool))
@example(name="x", operator="gte", value="2024-01-01'::text; DROP TABLE x; --", key="x")
def test_nothing_in_a_filter_is_run(holds, name, operator, value, key):
    wanted = {name: {operator: value}}
    try:
        assert holds(wanted, {}) in {True, False}
    except BadFilter:
        assert name != "x" or operator not in {"eq", "contains"}
    assert holds({"document": key}, {}, document=key)
    assert holds({"document": {"prefix": key}}, {}, document=key + "x")


@many
@given(one=numbers, other=numbers)
def test_numbers_compare_as_numbers(holds, one, other):
    metadata = {"x": one}
    assert (one < other) == holds({"x": {"lt": other}}, metadata)
    assert (one <= other) == holds({"x": {"lte": other}}, metadata)
    assert (one > other) == holds({"x": {"gt": other}}, metadata)
    assert (one >= other) == holds({"x": {"gte": other}}, metadata)


@many
@given(one=st.datetimes(timezones=st.timezones()) | st.dates(), other=st.datetimes() | st.dates())
def test_dates_and_times_compare_as_such_in_utc_unless_they_say_otherwise(conn, holds, one, other):
    conn.execute("SET timezone = 'Asia/Kathmandu'; SET datestyle = 'German'")

    def instant(value):
        if not isinstance(value, dt.datetime):
            value = dt.datetime.combine(value, dt.time())
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)

    # An offset with seconds, as of 1880, is none that ISO 8601 knows.
    offset = instant(one).utcoffset()
    if offset.total_seconds() % 60 == 0:
        assert (instant(one) < instant(other)) == holds(
            {"x": {"lt": other}}, {"x": one.isoformat()}
        )


@pytest.mark.parametrize(
    "value",
    [
        "2024-13-01",
        "2023-02-29",
        "0000-01-01",
        "now",
        "infinity",
        "2024-01-01T25:00",
        "2024-1-1",
        20240101,
        None,
    ],
)
def test_what_is_no_date_is_never_compared_as_one_and_never_an_error(holds, value):
    assert not holds({"x": {"gte": "0001-01-01"}}, {"x": value})
    assert not holds({"x": {"lte": "9999-12-31"}}, {"x": value})
