"""What the command line makes of words before any server is asked."""

import json
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.cli.entry import explain, split_globals
from embedfleet.cli.output import one_line, plain
from embedfleet.cli.parameters import parse_where, unicode_text
from embedfleet.cli.stack import worker_count
from embedfleet.progress import duration
from embedfleet_schema.amounts import quantity, volume
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import BadFilter, NotConfigured, UsageError
from embedfleet_schema.logs import without_passwords
from embedfleet_schema.settings import load_settings
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.tuning import FILE, Tuned, save
from embedfleet_workers.launch import cpu_processes

# A value with NUL cannot be stored, so its JSON is taken for a word.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@given(key=TEXTS.filter(lambda text: text and "=" not in text), value=JSON_VALUES | TEXTS)
def test_a_json_value_in_a_condition_keeps_its_type(key: str, value: Any):
    assert {key: value} == parse_where([f"{key}={json.dumps(value)}"])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("lang=en", {"lang": "en"}),
        ("year=2024", {"year": 2024}),
        ('year="2024"', {"year": "2024"}),
        ("final=true", {"final": True}),
        ("formula=a=b", {"formula": "a=b"}),
        ("empty=", {"empty": ""}),
        ("price=NaN", {"price": "NaN"}),
        ("tags=[1, 2]", {"tags": [1, 2]}),
        ("broken=[1, 2", {"broken": "[1, 2"}),
        ("deep=" + "[" * 100_000, {"deep": "[" * 100_000}),
        ("long=" + "1" * 5_000, {"long": "1" * 5_000}),
    ],
)
def test_a_condition_is_a_key_and_json_or_else_a_word(condition: str, expected: dict[str, Any]):
    assert expected == parse_where([condition])


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        (["lang"], "there is no = in it"),
        (["=en"], "there is no key before the ="),
        (["a=1", "a=2"], "the key 'a' is given twice"),
        (["a=\udcff"], "it is not valid UTF-8"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(conditions: list[str], reason: str):
    with pytest.raises(BadFilter) as refused:
        parse_where(conditions)
    assert reason == refused.value.reason


def test_an_argument_that_is_not_unicode_is_refused():
    with pytest.raises(UsageError, match="not valid UTF-8"):
        unicode_text("caf\udce9")


@pytest.mark.parametrize(
    ("words", "front", "rest"),
    [
        (["up"], [], ["up"]),
        (["up", "--data", "x"], ["--data", "x"], ["up"]),
        (["--data=x", "up", "--debug"], ["--data=x", "--debug"], ["up"]),
        (["up", "--data"], ["--data"], ["up"]),
        (["search", "a", "--", "--debug"], [], ["search", "a", "--", "--debug"]),
    ],
)
def test_global_options_may_stand_anywhere(words: list[str], front: list[str], rest: list[str]):
    assert (front, rest) == split_globals(words)


@given(st.lists(st.sampled_from(["up", "--data", "--data=x", "--debug", "--", "-k", "x"])))
def test_splitting_off_global_options_loses_no_word(words: list[str]):
    front, rest = split_globals(words)
    assert sorted(words) == sorted(front + rest)


def test_our_errors_keep_their_words_and_exit_code():
    error = UsageError(reason="that makes no sense")
    assert ("error: that makes no sense", 2) == explain(error)
    assert explain(NotConfigured())[1] == 1


def test_an_unexpected_error_is_named_and_leads_to_the_traceback():
    line, code = explain(ZeroDivisionError("division by zero\nsecond line"))
    assert 1 == code
    assert (
        "error: ZeroDivisionError: division by zero. Run again with --debug for the traceback"
        == line
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("redis://:p%40ss@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql//me:sec:r@et@host/db", "postgresql//me:***@host/db"),
        ("host=h password=secret dbname=d", "host=h password=*** dbname=d"),
        ("postgresql://h/d?password=secret&user=me", "postgresql://h/d?password=***&user=me"),
        ('missing "=" after "mysql://u:secret@h/d"', 'missing "=" after "mysql://u:***@h/d"'),
        ("nothing: to hide @ all", "nothing: to hide @ all"),
    ],
)
def test_a_shown_url_hides_its_password(url: str, expected: str):
    assert expected == without_passwords(url)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7_500, "2 h 05 min"),
    ],
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float, expected: str):
    assert expected == duration(seconds)


@given(TEXTS)
def test_printed_text_holds_nothing_that_steers_a_terminal(text: str):
    shown = plain(text)
    assert not any(ord(each) < 32 and each not in "\t\n" for each in shown)
    assert "\x1b" not in shown
    assert "\n" not in one_line(text)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 bytes"), (999, "999 bytes"), (81_920, "81.9 kB"), (6_442_450_944, "6.4 GB")],
)
def test_a_volume_is_said_in_the_largest_unit_that_fits(count: int, expected: str):
    assert expected == volume(count)


def test_one_is_not_several():
    assert ["1 batch", "2,000 batches", "0 days"] == [
        quantity(1, "batch", "batches"),
        quantity(2_000, "batch", "batches"),
        quantity(0, "day"),
    ]


def test_workers_are_counted_or_as_many_as_are_best_here(tmp_path):
    assert [0, 0, 3, 64] == [worker_count(given) for given in (0, "0", "3", "64")]
    assert worker_count("auto") is None
    settings = load_settings(data=tmp_path)
    assert cores() == cpu_processes(settings)
    space = resolve_space("fake/16")
    save(tmp_path / FILE, space, [Tuned("torch", "float32", 512, 9.0, processes=7)])
    assert 7 == cpu_processes(settings)


@pytest.mark.parametrize("given", ["65", "-1", "2.5", "all", "", "²"])
def test_a_number_of_workers_that_is_none_is_refused(given):
    with pytest.raises(typer.BadParameter, match="neither auto nor a number"):
        worker_count(given)
