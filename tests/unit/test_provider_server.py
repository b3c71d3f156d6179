"""The provider of the tests itself: what it answers to OpenAI's own client, and what it counts."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest

from plugins.provider_server.answers import digest_of, duration, vectors_of
from plugins.provider_server.provider import FOREIGN_EVERY_S
from plugins.provider_server.quota import Bucket, Slices, SlidingLog

MODEL = "bench-model"
MANY = 6_000_000.0


@pytest.fixture(scope="module")
def openai():
    """OpenAI's own client, which takes a second of a core to import: in one process of several."""
    import openai

    return openai


@pytest.fixture
def client(openai):
    """Makes clients of OpenAI for a provider; they do not retry."""
    opened = []

    def make(server, key="a-key", **settings):
        made = openai.OpenAI(base_url=server.url, api_key=key, max_retries=0, **settings)
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def embed(client, texts, **options):
    return client.embeddings.create(model=MODEL, input=texts, dimensions=8, **options)


def counts(server):
    return server.account()["models"][MODEL]


def test_a_bucket_refills_without_a_pause_and_holds_a_minute():
    bucket = Bucket(0.0, 600)
    assert 0.0 == bucket.wait(0.0, 600)
    bucket.take(0.0, 600)
    assert [0.0, pytest.approx(1.0)] == [bucket.left(0.0), bucket.wait(0.0, 10)]
    assert [25.0, 57.5] == [bucket.left(2.5), bucket.full_in(2.5)]
    assert math.inf == bucket.wait(2.5, 601)
    bucket.change(2.5, 300)
    assert [25.0, 30.0] == [bucket.left(2.5), bucket.left(3.5)]


def test_a_bucket_of_one_second_lets_no_burst_through():
    bucket = Bucket(0.0, 600, capacity_s=1)
    assert [0.0, math.inf] == [bucket.wait(100.0, 10), bucket.wait(100.0, 11)]


def test_a_sliding_log_lets_through_what_left_the_last_minute():
    log = SlidingLog(0.0, 100)
    log.take(0.0, 60)
    log.take(10.0, 40)
    assert [30.0, 40.0] == [log.wait(30.0, 60), log.wait(30.0, 61)]
    assert [60.0, 0.0, 10.0] == [log.left(60.0), log.wait(60.0, 60), log.wait(60.0, 100)]
    assert math.inf == log.wait(60.0, 101)


def test_a_slice_that_is_not_used_is_lost():
    slices = Slices(0.0, 600)
    assert [0.0, math.inf] == [slices.wait(5.0, 10), slices.wait(5.0, 11)]
    slices.take(5.25, 10)
    assert [0.75, 0.0] == [slices.wait(5.25, 1), slices.wait(6.0, 10)]


def test_durations_are_written_as_openai_writes_them():
    shown = [duration(seconds) for seconds in (0.02, 1, 4.253, 360, 83909.144)]
    assert ["20ms", "1s", "4.253s", "6m0s", "23h18m29.144s"] == shown


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_an_answer_holds_the_vectors_of_its_texts_and_what_they_cost(provider, client, encoding):
    server = provider(limits={"requests": 100, "tokens": 1_000})
    asked = client(server).embeddings.with_raw_response.create(
        model=MODEL, input=["one two", "three"], dimensions=8, encoding_format=encoding
    )
    found = asked.parse()
    expected = vectors_of([digest_of("one two"), digest_of("three")], 8)
    rows = [json.loads(asked.text)["data"][n]["embedding"] for n in (0, 1)]
    assert {"base64": str, "float": list}[encoding] is type(rows[0])
    if encoding == "float":
        assert np.array_equal(expected, np.array([each.embedding for each in found.data], "f4"))
    assert [pytest.approx(1)] * 2 == np.linalg.norm(expected, axis=1).tolist()
    assert (3, 3) == (found.usage.prompt_tokens, found.usage.total_tokens)
    assert ("100", "99") == tuple(
        asked.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining")
    )
    assert ("1000", "997", "180ms") == tuple(
        asked.headers[f"x-ratelimit-{name}-tokens"] for name in ("limit", "remaining", "reset")
    )


def test_a_429_says_how_long_and_counts_as_a_request(provider, client, openai):
    server = provider(limits={"requests": 100, "tokens": 120})
    ours = client(server)
    began = time.monotonic()
    embed(ours, ["word " * 120])
    with pytest.raises(openai.RateLimitError) as caught:
        embed(ours, ["word " * 10])
    passed_s = time.monotonic() - began
    headers = caught.value.response.headers
    assert ("rate_limit_exceeded", "tokens") == (caught.value.code, caught.value.type)
    wait_ms = int(headers["retry-after-ms"])
    assert 5_000 - 1_000 * passed_s <= wait_ms <= 5_000
    assert math.ceil(wait_ms / 1_000) == int(headers["retry-after"])
    assert "98" == headers["x-ratelimit-remaining-requests"]
    # Two tokens a second come back.
    assert 0 <= int(headers["x-ratelimit-remaining-tokens"]) <= 2 * passed_s
    found = counts(server)
    assert (2, 1, 120, 1) == tuple(
        found[name] for name in ("received", "admitted", "tokens", "limited")
    )


def test_a_request_larger_than_the_whole_limit_is_told_not_to_come_again(provider, client, openai):
    server = provider(limits={"tokens": 100})
    with pytest.raises(openai.RateLimitError) as caught:
        embed(client(server), ["word " * 101])
    assert "false" == caught.value.response.headers["x-should-retry"]


def test_keys_models_and_accounts_are_refused_for_good(provider, client, openai):
    server = provider(refused_keys=["bad"], unknown_models=["gone"])
    with pytest.raises(openai.AuthenticationError) as refused:
        embed(client(server, key="bad"), ["text"])
    with pytest.raises(openai.NotFoundError) as unknown:
        client(server).embeddings.create(model="gone", input=["text"])
    server.set(stopped="insufficient_quota")
    with pytest.raises(openai.RateLimitError) as stopped:
        embed(client(server), ["text"])
    codes = [each.value.code for each in (refused, unknown, stopped)]
    assert ["invalid_api_key", "model_not_found", "insufficient_quota"] == codes
    server.set(stopped="")
    assert 1 == len(embed(client(server), ["text"]).data)
    assert (2, 1) == (counts(server)["refused"], counts(server)["admitted"])


def test_what_no_provider_takes_is_refused(provider, client, openai):
    ours = client(provider())
    for texts in ([], ["text", ""], ["text"] * 2_049):
        with pytest.raises(openai.BadRequestError):
            embed(ours, texts)
    with pytest.raises(openai.BadRequestError) as caught:
        embed(ours, ["word " * 300_001])
    assert "max_tokens_per_request" == caught.value.code


def test_faults_come_in_the_order_asked_for(provider, client, openai):
    script = ["limited", "error", "reset", "truncated", "html", "quarter", "floats", ""]
    server = provider(script=script)
    ours = client(server)
    expected = [openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError]
    for error in expected:
        with pytest.raises(error):
            embed(ours, ["text"])
    with pytest.raises(json.JSONDecodeError):
        embed(ours, ["text"], encoding_format="base64")
    raw = ours.embeddings.with_raw_response
    assert raw.create(model=MODEL, input=["text"]).text.startswith("<!doctype html>")
    widths = [len(embed(ours, ["text"]).data[0].embedding) for _ in range(3)]
    assert [2, 8, 8] == widths
    found = counts(server)
    assert (7, 5, 2, 1) == tuple(
        found[name] for name in ("admitted", "spoiled", "answered", "limited")
    )
    assert dict.fromkeys(script[:-1], 1) == server.account()["faults"]
    # The same text was paid for twice: with floats, and at the end.
    assert (1, 1) == (found["repeated_requests"], found["repeated_texts"])


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_a_client_that_leaves_is_counted(provider, client, openai, fault):
    server = provider(script=[fault])
    with pytest.raises((openai.APITimeoutError, httpx2.ReadTimeout)):
        embed(client(server, timeout=0.2), ["text"])
    while server.account()["in_flight"]:
        pass
    assert 1 == counts(server)["abandoned"]


def test_another_program_takes_its_share(provider, client):
    server = provider(limits={"tokens": MANY}, foreign=0.5)
    embed(client(server), ["text"])
    while not counts(server)["foreign_tokens"]:
        pass
    turn = 0.5 * MANY / 60 * FOREIGN_EVERY_S
    assert pytest.approx(0) == counts(server)["foreign_tokens"] % turn


def test_limits_can_change_in_mid_run(provider, client):
    server = provider(limits={"requests": 100})
    raw = client(server).embeddings.with_raw_response
    raw.create(model=MODEL, input=["text"])
    server.set(limits={"requests": 50})
    headers = raw.create(model=MODEL, input=["text"]).headers
    assert ("50", "49") == tuple(
        headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining")
    )


def test_many_clients_at_once_are_counted_each(provider, client, openai):
    server = provider(limits={"requests": 100}, latency_s=0.05, jitter_s=0.05)
    ours = client(server)

    def ask(number):
        try:
            return len(embed(ours, [f"text {number}"]).data)
        except openai.RateLimitError:
            return 0

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(120)))
    found = counts(server)
    assert sum(answers) == found["admitted"] == found["answered"]
    assert 120 == found["received"] == found["admitted"] + found["limited"]
    assert (0, True) == (server.account()["in_flight"], server.account()["most_in_flight"] > 4)
    assert found["admitted"] == sum(second[1] for second in found["seconds"])
    paid = server.paid(digest_of(f"text {n}") for n in range(1_000))
    assert (found["admitted"], found["admitted"]) == paid
    server.reset_account()
    assert {} == server.account()["models"]
    assert found["admitted"] == server.account()["texts_answered"]
