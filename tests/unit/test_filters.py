"""What Python adds to a filter before the database compiles it; what it finds is tested there."""

import json
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest

from embedfleet.cli.parameters import parse_filter, parse_where
from embedfleet_schema.errors import BadFilter
from embedfleet_schema.store.filters import as_filter


def asked(where):
    return json.loads(as_filter(where))


def test_a_filter_goes_to_the_database_as_it_is():
    wanted = {"lang": "en", "year": {"gte": 2020}, "or": [{"a": 1}, {"document": "x"}]}
    assert wanted == asked(wanted)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (date(2024, 1, 2), "2024-01-02"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_date_and_a_decimal_are_looked_for_as_readers_store_them(value, text):
    assert {"x": text} == asked({"x": value})


def test_a_number_is_also_looked_for_as_python_writes_it():
    assert {"and": [{"or": [{"x": 1e16}, {"x": "1e+16"}]}, {"y": 1}]} == asked({"x": 1e16, "y": 1})


def forms(condition):
    """Those that one condition is looked for in."""
    return condition.get("or", [condition])


@pytest.mark.parametrize("word", ["007", "1_000", "NaN", "True", "x", "", '"text"'])
def test_a_word_is_also_looked_for_as_it_was_typed(word):
    assert {"x": word} in forms(asked(parse_where([f"x={word}"])))


def test_conditions_hold_together_and_none_is_written_twice():
    wanted = {"and": [{"lang": "en"}, {"or": [{"year": 12}, {"year": "12"}]}]}
    assert wanted == asked(parse_where(["lang=en", "year=12"]))


@pytest.mark.parametrize("key", ["document", "or", "$.a", 'a"b'])
def test_a_word_before_the_equals_sign_is_a_key_of_the_metadata(key):
    assert {f"$.{json.dumps(key)}": 1} in forms(asked(parse_where([f"{key}=1"])))


def test_an_object_that_was_typed_is_no_operator():
    assert {"x": {"contains": {"gte": 1}}} in forms(asked(parse_where(['x={"gte": 1}'])))


def test_words_and_a_filter_hold_together():
    given = '{"year": {"gte": 2020}}'
    assert {"year": {"gte": 2020}} == parse_filter([], given)
    words, others = parse_filter(["lang=en"], given)["and"]
    assert ({"year": {"gte": 2020}}, asked(parse_where(["lang=en"]))) == (others, words)


@pytest.mark.parametrize("text", ["", "lang=en", "[1]", '{"x": NaN}', "[" * 100_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(BadFilter):
        parse_filter([], text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\0", b"\xff", "\ud800"])
def test_what_has_no_form_in_json_is_refused(value):
    with pytest.raises(BadFilter):
        as_filter({"x": value})
