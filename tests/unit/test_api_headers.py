import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_workers.embedders.api.providers.headers import (
    LONGEST_WAIT_S,
    duration,
    hinted_wait,
    reading_of,
    retry_after,
)
from embedfleet_workers.rate_limits.quota import Reading

NAMES = st.sampled_from(
    [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "X-RateLimit-Limit-Tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-limit-project-tokens",
        "x-ratelimit-limit-req-10-second",
        "x-ratelimit-limit-req-0-second",
        "x-trial-endpoint-call-limit",
        "retry-after",
        "retry-after-ms",
        "date",
    ]
)
VALUES = st.one_of(
    st.text(),
    st.floats().map(str),
    st.integers().map(str),
    st.from_regex(r"(\d{1,400}(\.\d+)?(ms|s|m|h|d))+", fullmatch=True),
    st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT")),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("1s", 1.0),
        ("4.253s", 4.253),
        ("1m60s", 120.0),
        ("6m0s", 360.0),
        ("23h18m29.144s", 83_909.144),
        ("1d2h", 93_600.0),
        ("12", 12.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("1s and more", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, None),
        ("9" * 400 + "h", None),
        ("\u0661s", None),
    ],
)
def test_durations_are_read_in_every_form_that_providers_write(text, seconds):
    assert seconds == duration(text)


def test_openais_headers_are_limits_of_a_minute_and_what_is_left():
    headers = {
        "x-ratelimit-limit-requests": "3000",
        "x-ratelimit-limit-tokens": "1000000",
        "x-ratelimit-remaining-requests": "2999",
        "x-ratelimit-remaining-tokens": "984213",
        "x-ratelimit-reset-requests": "20ms",
        "x-ratelimit-reset-tokens": "947ms",
    }
    expected = Reading(
        {"requests": 3000, "tokens": 1_000_000}, {"requests": 2999, "tokens": 984_213}
    )
    assert expected == reading_of(headers)


def test_the_smaller_of_the_limits_of_organisation_and_project_counts():
    headers = {
        "x-ratelimit-limit-tokens": "1000000",
        "x-ratelimit-remaining-tokens": "900000",
        "x-ratelimit-limit-project-tokens": "300000",
        "x-ratelimit-remaining-project-tokens": "1000",
    }
    assert Reading({"tokens": 300_000}, {"tokens": 1000}) == reading_of(headers)


def test_what_is_left_is_that_of_the_limit_that_counts():
    headers = {
        "x-ratelimit-limit-tokens": "1000000",
        "x-ratelimit-remaining-tokens": "150000",
        "x-ratelimit-limit-project-tokens": "200000",
        "x-ratelimit-remaining-project-tokens": "200000",
    }
    assert Reading({"tokens": 200_000}, {"tokens": 200_000}) == reading_of(headers)


def test_a_limit_of_a_day_is_not_taken_for_one_of_a_minute():
    headers = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "8.64s",
    }
    assert Reading() == reading_of(headers)


@pytest.mark.parametrize("reset", ["0s", "1s", "1ms", "20ms", "0.02", ""])
def test_a_rounded_reset_does_not_make_a_limit_one_of_a_day(reset):
    headers = {
        "x-ratelimit-limit-tokens": "300000",
        "x-ratelimit-remaining-tokens": "299990",
        "x-ratelimit-reset-tokens": reset,
    }
    assert Reading({"tokens": 300_000}, {"tokens": 299_990}) == reading_of(headers)


def test_mistral_states_tokens_of_a_minute_and_requests_of_ten_seconds():
    headers = {
        "x-ratelimit-limit-tokens-minute": "20000000",
        "x-ratelimit-remaining-tokens-minute": "19999935",
        "x-ratelimit-limit-tokens-month": "200000000000",
        "x-ratelimit-remaining-tokens-month": "199999999935",
        "x-ratelimit-tokens-query-cost": "65",
        "x-ratelimit-limit-req-10-second": "60",
        "x-ratelimit-remaining-req-10-second": "58",
    }
    expected = Reading({"tokens": 20_000_000, "requests": 360}, {"tokens": 19_999_935})
    assert expected == reading_of(headers)


def test_cohere_states_the_calls_of_a_trial_key():
    headers = {"x-trial-endpoint-call-limit": "40", "x-trial-endpoint-call-remaining": "39"}
    assert Reading({"requests": 40}, {"requests": 39}) == reading_of(headers)


@pytest.mark.parametrize("value", ["-1", "0", "", "many", "1e6", "inf", "nan"])
def test_a_limit_that_makes_no_sense_is_no_limit(value):
    assert {} == reading_of({"x-ratelimit-limit-tokens": value}).limits


def test_nothing_left_is_something_to_know():
    assert {"tokens": 0} == reading_of({"x-ratelimit-remaining-tokens": "0"}).remaining


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "3", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "9999999"}, LONGEST_WAIT_S),
        ({"retry-after": "later"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for(headers, seconds):
    assert seconds == retry_after(headers)


def test_a_date_is_compared_with_the_servers_clock_not_with_ours():
    headers = {
        "Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT",
        "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
    }
    assert 30.0 == retry_after(headers)


def test_a_date_without_the_servers_clock_says_nothing():
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}) is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached. Please try again in 2.812s. Visit ...", 2.812),
        ("Please try again in 6ms.", 0.006),
        ("Please retry after 17 seconds.", 17.0),
        ("Try again in 2 minutes", 120.0),
        ("Retry in 500 milliseconds", 0.5),
        ("Please retry in 33.5s", 33.5),
        ("Try again tomorrow", None),
    ],
)
def test_a_wait_in_words_is_read_too(message, seconds):
    assert seconds == hinted_wait(message)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_whatever_headers_hold_nothing_is_raised_and_amounts_are_numbers(headers):
    found = reading_of(headers)
    assert all(0 < limit < float("inf") for limit in found.limits.values())
    assert all(0 <= left < float("inf") for left in found.remaining.values())
    wait_s = retry_after(headers)
    assert wait_s is None or 0 <= wait_s <= LONGEST_WAIT_S


@given(st.text())
def test_any_text_has_a_duration_and_a_hint_or_none(text):
    assert duration(text) is None or duration(text) >= 0
    hinted = hinted_wait("try again in " + text)
    assert hinted is None or 0 <= hinted <= LONGEST_WAIT_S
