import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_workers.embedders.api.providers.adapter import (
    Faulty,
    RateLimited,
    Rejected,
    TooLarge,
)
from embedfleet_workers.embedders.api.providers.error_replies import DAILY_WAIT_S, error_reply
from embedfleet_workers.rate_limits.quota import Reading
from embedfleet_workers.stop import Stop

STATUSES = [400, 401, 402, 403, 404, 408, 409, 413, 422, 424, 429, 498, 500, 503, 529]


def openai(code=None, message="", kind=None):
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}).encode()


def gemini(code, status, *details):
    error = {"code": code, "message": "it says", "status": status, "details": list(details)}
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            401,
            openai("invalid_api_key"),
            Stop("invalid_api_key", "it answered 401 (invalid_api_key)"),
        ),
        (
            401,
            b'{"detail": "Provided API key is invalid."}',
            Stop("http_401", "it answered 401"),
        ),
        (402, b"", Stop("http_402", "it answered 402")),
        (403, b"<html>", Stop("http_403", "it answered 403")),
        (498, b'{"message": "invalid token"}', Stop("http_498", "it answered 498")),
        (
            403,
            b'{"code": "AUTHZ_INSUFFICIENT_BALANCE", "message": "Insufficient account balance"}',
            Stop("authz_insufficient_balance", "it answered 403 (authz_insufficient_balance)"),
        ),
        (
            429,
            openai("insufficient_quota"),
            Stop("insufficient_quota", "it answered 429 (insufficient_quota)"),
        ),
        (
            429,
            openai(kind="insufficient_quota"),
            Stop("insufficient_quota", "it answered 429 (insufficient_quota)"),
        ),
        (
            429,
            openai("credit_balance_exhausted"),
            Stop("credit_balance_exhausted", "it answered 429 (credit_balance_exhausted)"),
        ),
        (
            429,
            openai("project_spend_limit_exceeded"),
            Stop("project_spend_limit_exceeded", "it answered 429 (project_spend_limit_exceeded)"),
        ),
        (
            429,
            openai("organization_usage_limit_exceeded"),
            Stop(
                "organization_usage_limit_exceeded",
                "it answered 429 (organization_usage_limit_exceeded)",
            ),
        ),
        (
            400,
            gemini(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}),
            Stop("api_key_invalid", "it answered 400 (api_key_invalid)"),
        ),
    ],
)
def test_what_no_waiting_cures_stops_the_whole_account(status, body, expected):
    assert expected == error_reply(status, {}, body)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, openai("model_not_found"), "model_not_found"),
        (403, openai("model_not_found"), "model_not_found"),
        (404, openai("DeploymentNotFound"), "deploymentnotfound"),
        (404, b"no such page", "http_404"),
        (400, b'{"code": "INPUT_MODEL_NOT_FOUND", "message": "x"}', "input_model_not_found"),
        (400, b'{"type": "invalid_model", "code": "1500", "message": "x"}', "1500"),
    ],
)
def test_an_unknown_model_stops_that_model_alone(status, body, code):
    found = error_reply(status, {}, body)
    assert (code, False) == (found.code, found.whole_account)


def test_a_month_that_is_spent_stops_the_account():
    """Cohere's trial keys: no waiting of minutes cures that."""
    body = b'{"message": "You are using a Trial key, which is limited to 1000 API calls / month."}'
    found = error_reply(429, {}, body)
    assert ("monthly_quota_spent", True) == (found.code, found.whole_account)
    message = "You are using a Trial key, which is limited to 100 API calls / minute."
    reply = error_reply(429, {}, json.dumps({"message": message}).encode())
    assert RateLimited(reading=Reading({"requests": 100.0}, about=("requests",))) == reply


def test_a_429_is_only_early():
    assert RateLimited() == error_reply(429, {}, b"")
    assert RateLimited(2.0) == error_reply(503, {"retry-after": "2"}, openai("slow_down"))
    headers = {"retry-after": "3", "x-ratelimit-limit-tokens": "300000"}
    found = error_reply(429, headers, openai("rate_limit_exceeded"))
    assert (3.0, {"tokens": 300_000}) == (found.retry_after_s, found.reading.limits)


def test_the_wait_is_taken_from_words_and_details_where_no_header_states_it():
    words = openai("rate_limit_exceeded", "Limit 1. Please try again in 2.812s.")
    assert 2.812 == error_reply(429, {}, words).retry_after_s
    details = gemini(429, "RESOURCE_EXHAUSTED", {"retryDelay": "34.5s"})
    assert 34.5 == error_reply(429, {}, details).retry_after_s
    assert 1.0 == error_reply(429, {"retry-after": "1"}, details).retry_after_s


def test_a_quota_of_a_day_is_asked_again_after_minutes():
    violation = {"quotaId": "EmbedContentRequestsPerDayPerUserPerProjectPerModel-FreeTier"}
    details = [{"violations": [violation]}, {"retryDelay": "2s"}]
    body = gemini(429, "RESOURCE_EXHAUSTED", *details)
    assert DAILY_WAIT_S == error_reply(429, {}, body).retry_after_s


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-should-retry": "false"}, "Rate limit reached"),
        ({}, "Request too large for text-embedding-3-small on tokens per min (TPM): Limit 1"),
    ],
)
def test_a_request_larger_than_the_whole_limit_is_too_large(headers, message):
    found = error_reply(429, headers, openai("rate_limit_exceeded", message))
    assert (True, TooLarge) == (found.by_limit, type(found))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai("max_tokens_per_request", "Requested 300001 tokens, max 300000 per request")),
        (400, openai(None, "Invalid 'input': maximum request size is 300000 tokens per request.")),
        (400, openai("array_above_max_length", "array too long")),
        (400, b'{"message": "invalid request: total number of texts must be at most 96"}'),
        (400, b'{"detail": "The max allowed tokens per submitted batch is 120000."}'),
        (400, b'{"object": "error", "message": "Too many inputs in request", "code": "3210"}'),
        (
            400,
            b'{"object": "error", "message": "Too many tokens in batch. Max is 16384 got 17555"}',
        ),
        (
            400,
            gemini(400, "INVALID_ARGUMENT").replace(
                b"it says", b"at most 100 requests can be in one batch"
            ),
        ),
        (
            413,
            b'{"error": "batch size 64 > maximum allowed batch size 32", "error_type": "x"}',
        ),
        (413, b"Payload Too Large"),
        (422, b'{"error": "batch size 64 > maximum allowed batch size 32"}'),
    ],
)
def test_a_request_that_holds_too_much_is_told_from_a_bad_text(status, body):
    found = error_reply(status, {}, body)
    assert (TooLarge, False) == (type(found), found.by_limit)


@pytest.mark.parametrize("status", [400, 422])
def test_other_refusals_are_about_a_text_and_say_why(status):
    body = openai(None, "maximum context length is 8192 tokens")
    expected = Rejected(f"it answered {status}: maximum context length is 8192 tokens")
    assert expected == error_reply(status, {}, body)


@pytest.mark.parametrize("status", [304, 408, 409, 424, 499, 500, 502, 503, 504, 529])
def test_everything_else_is_a_fault_of_the_server(status):
    found = error_reply(
        status, {"retry-after": "4"}, openai("server_error", "the text was: secret")
    )
    assert Faulty(f"it answered {status} (server_error)", 4.0) == found


def test_a_key_is_never_repeated():
    body = openai(None, "the key sk-123 cannot do that")
    assert Rejected("it answered 400: the key ... cannot do that") == error_reply(
        400, {}, body, key="sk-123"
    )
    assert "sk-123" not in str(error_reply(401, {}, body, key="sk-123"))


def test_a_long_message_is_cut():
    assert len(error_reply(400, {}, openai(None, "x" * 5_000)).reason) < 400


def test_a_code_that_is_a_sentence_is_no_code():
    found = error_reply(500, {}, openai("the text was: secret"))
    assert Faulty("it answered 500") == found


@given(
    st.sampled_from(STATUSES),
    st.one_of(
        st.binary(),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
            lambda inner: st.one_of(
                st.lists(inner),
                st.dictionaries(
                    st.one_of(
                        st.text(),
                        st.sampled_from(
                            ["error", "code", "message", "details", "violations", "retryDelay"]
                        ),
                    ),
                    inner,
                ),
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_body_of_a_refusal_is_read_or_ignored(status, body):
    error_reply(status, {}, body)


@pytest.mark.parametrize(
    ("message", "limits"),
    [
        (
            "Rate limit reached for m on tokens per min (TPM): Limit 1000000, Used 976163.",
            {"tokens": 1_000_000.0},
        ),
        (
            "Rate limit reached on requests per min. Limit: 3 / min. Current: 4 / min.",
            {"requests": 3.0},
        ),
        (
            "You will have reduced rate limits of 3 RPM and 10K TPM. Our usual 2,000 RPM are ...",
            {"requests": 3.0, "tokens": 10_000.0},
        ),
        ("You are using a Trial key, limited to 40 API calls / minute.", {"requests": 40.0}),
        (
            "Quota exceeded: 120 requests per minute, 30,000 tokens/minute",
            {"requests": 120.0, "tokens": 30_000.0},
        ),
        ("limit of 1.5M tokens every minute", {"tokens": 1_500_000.0}),
        ("Rate limit reached on requests per day (RPD): Limit 200, Used 200.", {}),
        ("Too many requests. Please slow down.", {}),
        ("0 requests per minute", {}),
    ],
)
def test_limits_that_only_the_body_states_are_taken_over(message, limits):
    reply = error_reply(429, {}, openai("rate_limit_exceeded", message))
    assert limits == reply.reading.limits


def test_what_headers_state_holds_against_the_body():
    headers = {"x-ratelimit-limit-requests": "500"}
    reply = error_reply(429, headers, openai(None, "limits of 3 RPM and 10K TPM"))
    assert {"requests": 500.0, "tokens": 10_000.0} == reply.reading.limits


def test_gemini_states_the_quota_that_was_spent():
    quota = {"quotaId": "EmbedContentRequestsPerMinutePerProjectPerModel-FreeTier"}
    details = {"violations": [quota | {"quotaValue": "100"}, {"quotaValue": "no number"}]}
    reply = error_reply(429, {}, gemini(429, "RESOURCE_EXHAUSTED", details))
    assert {"requests": 100.0} == reply.reading.limits
