"""Conditions on metadata as SQL; what they find is tested beside the readers."""

from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest

from embedfleet.cli.parameters import parse_where
from embedfleet_schema.errors import BadFilter
from embedfleet_schema.store.filters import containment


def asked(where):
    return containment(where).as_string(None)


def test_texts_are_looked_for_together_and_as_they_are():
    expected = """metadata @> '{"lang": "en", "year": "12"}'::jsonb"""
    assert expected == asked({"lang": "en", "year": "12"})


def test_what_is_no_text_also_finds_its_text():
    expected = """(metadata @> '{"x": 12}'::jsonb OR metadata @> '{"x": "12"}'::jsonb)"""
    assert expected == asked({"x": 12})
    assert expected == asked(parse_where(["x=12"]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (date(2024, 1, 2), "2024-01-02"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_date_and_a_decimal_are_looked_for_as_readers_store_them(value, text):
    assert f"""metadata @> '{{"x": "{text}"}}'::jsonb""" == asked({"x": value})


@pytest.mark.parametrize("word", ["007", "1_000", "NaN", "True", "x", ""])
def test_a_word_that_is_no_json_is_text_alone(word):
    assert f"""metadata @> '{{"x": "{word}"}}'::jsonb""" == asked(parse_where([f"x={word}"]))


def test_several_conditions_hold_together():
    found = asked({"lang": "en", "year": 12, "ok": True})
    assert 2 == found.count(" AND (")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\0", b"\xff", "\ud800"])
def test_what_has_no_form_in_json_is_refused(value):
    with pytest.raises(BadFilter):
        containment({"x": value})
