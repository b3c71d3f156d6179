"""The embedder of an API space over real sockets: what is sent, how often, and what comes out."""

import asyncio
import threading

import numpy as np
import pytest

from embedfleet_schema.types import Space
from embedfleet_workers.allowance import Allowance
from embedfleet_workers.embedders.api import endpoint, fan_out
from embedfleet_workers.embedders.protocol import EmbedsInParts
from embedfleet_workers.embedding_errors import (
    AboveRateLimit,
    BadAnswer,
    EmbedderBusy,
    EmbeddingError,
    InputAtFault,
    ProviderStopped,
    ReservationSpent,
)
from plugins.open_limiter import OpenLimiter
from plugins.provider_dialects import Misdeed, expected_vectors, factory_to, rate_limited, refusal

SPACE = Space("openai", "text-embedding-3-small", 8, 8_192)
TEXTS = [f"text number {n}" for n in range(12)]
HTML = Misdeed(200, body=b"<html><body>Sorry</body></html>")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Faults are tried again at once."""
    monkeypatch.setattr(fan_out, "BACKOFF_BASE_S", 0.001)
    monkeypatch.setattr(fan_out, "BACKOFF_LIMIT_S", 0.001)


@pytest.fixture
def limiter():
    return OpenLimiter()


@pytest.fixture
def server(dialect):
    return dialect("openai", 8)


@pytest.fixture
def make(server, limiter):
    """Makes the embedder of the server behind the limiter."""
    opened = []

    def make(space=SPACE, most_inputs=None, **settings):
        api = factory_to(server, limiter, **settings)
        opened.append(api)
        embedder = api.embedder(space)
        if most_inputs:
            embedder._endpoint.most_inputs = most_inputs
        return embedder

    yield make
    for api in opened:
        api.close()


def rows_of(parts):
    return sorted(row for part in parts for row in part.rows)


def collect_all(embedder, texts=TEXTS, kind="document"):
    """The parts that were given out, and the error at the end."""
    parts = []
    try:
        for part in embedder.parts(texts, kind):
            parts.append(part)  # noqa: PERF402 - they are kept when it raises
    except EmbeddingError as error:
        return parts, error
    return parts, None


def collect(embedder, texts=TEXTS, kind="document"):
    """Those of the parts that hold vectors, and the error at the end."""
    parts, error = collect_all(embedder, texts, kind)
    return [part for part in parts if part.rows], error


def check(parts, texts=TEXTS):
    """Each part holds the vectors of its own texts."""
    expected = expected_vectors(list(texts), "document", 8)
    for part in parts:
        np.testing.assert_allclose(expected[list(part.rows)], part.vectors, atol=1e-6)


def test_it_answers_in_parts(make):
    assert isinstance(make(), EmbedsInParts)


def test_each_text_comes_once_whatever_the_number_of_requests(make, server):
    parts, error = collect(make(most_inputs=5))
    check(parts)
    assert (None, list(range(12))) == (error, rows_of(parts))
    assert [5, 5, 2] == sorted((len(texts) for texts in server.texts()), reverse=True)


def test_what_was_spent_is_what_the_provider_says(make, server, limiter):
    (part,), _ = collect(make())
    assert (1, 12 * 3) == (part.spent.requests, part.spent.tokens)
    assert {"requests": 1, "tokens": 36} == limiter.told[0].actual


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_requests_wait_in_the_lane_of_their_batch(make, limiter, lane):
    for _ in make(most_inputs=4).parts(TEXTS, "document", lane=lane):
        pass
    assert {lane} == {told.lane for told in limiter.told}


def test_the_text_of_a_query_is_interactive(make, limiter):
    make().embed(["where is it?"], "query")
    assert ["interactive"] == [told.lane for told in limiter.told]


def test_requests_stay_within_what_the_limiter_thinks_is_a_good_size(make, server, limiter):
    limiter.most_tokens = 13  # a text has 4
    collect(make())
    assert [3] * 4 == [len(texts) for texts in server.texts()]


def test_reservations_follow_what_answers_state(make, limiter):
    embedder = make(most_inputs=1)
    collect(embedder, [f"{n:01000d}" for n in range(60)])
    # A thousand digits are 334 tokens of cl100k_base, and the server counts 201.
    assert 334 == limiter.told[0].costs["tokens"]
    assert 201 <= limiter.told[-1].costs["tokens"] <= 210


def test_the_prompt_of_the_space_is_put_before_each_text(make, server):
    space = Space("openai", "e5", 8, 512, document_prompt="passage: ", query_prompt="query: ")
    embedder = make(space)
    embedder.embed(["a"], "document")
    embedder.embed(["b"], "query")
    assert [["passage: a"], ["query: b"]] == server.texts()


def test_as_many_requests_as_allowed_are_under_way_at_once(make, server):
    arrived, all_there = [], threading.Event()

    def plan(call):
        arrived.append(call)
        if len(arrived) == 3:
            all_there.set()
        assert all_there.wait(10)

    server.plan = plan
    parts, error = collect(make(most_inputs=4, api_requests=3))
    assert (None, 12) == (error, len(rows_of(parts)))


def test_a_part_is_given_out_while_others_are_under_way(make, server):
    server.plan = lambda call: Misdeed(stall=True) if call.texts == ["slow"] else None
    parts = make(most_inputs=1).parts(["slow", "quick"], "document")
    assert [1] == list(next(parts).rows)
    server.released.set()
    assert [0] == list(next(parts).rows)
    assert [] == list(parts)


def test_the_first_request_waits_briefly_to_be_admitted_and_the_others_longer(make, limiter):
    collect(make(most_inputs=4, defer_after_s=2.5))
    assert [2.5, 60.0, 60.0] == [told.max_wait_s for told in limiter.told]


def test_a_batch_that_would_wait_too_long_sends_nothing(make, server, limiter):
    async def busy(told):
        raise EmbedderBusy(seconds=17.0, reason="the rate limit")

    limiter.before = busy
    parts, error = collect(make(most_inputs=4))
    assert ([], [], 1) == (parts, server.calls, len(limiter.told))
    assert 17.0 == error.seconds


def test_a_batch_that_has_begun_keeps_what_it_has_when_it_has_to_wait_too_long(make, limiter):
    async def busy(told):
        if len(limiter.told) > 2:
            raise EmbedderBusy(seconds=17.0, reason="the rate limit")

    limiter.before = busy
    parts, error = collect(make(most_inputs=3, api_requests=1))
    check(parts)
    assert (list(range(6)), EmbedderBusy) == (rows_of(parts), type(error))


def test_a_429_is_told_to_the_limiter_and_costs_nothing_but_a_new_wait(make, server, limiter):
    headers = {"retry_after": "2", "x_ratelimit_limit_tokens": "300000"}
    server.script(*[rate_limited(**headers)] * 10)
    parts, error = collect(make())
    check(parts)
    assert (None, 12) == (error, len(rows_of(parts)))
    assert ["rate_limited"] * 10 + ["settled"] == limiter.ends()
    assert (2.0, {"tokens": 300_000}) == (
        limiter.told[0].retry_after_s,
        limiter.told[0].reading.limits,
    )


def test_after_a_429_a_long_wait_gives_the_slot_back(make, server, limiter):
    async def far(told):
        if len(limiter.told) == 3 and told.max_wait_s < 30:
            raise EmbedderBusy(seconds=30.0, reason="the rate limit")

    limiter.before = far
    server.plan = lambda call: rate_limited() if len(server.calls) == 2 else None
    parts, error = collect(make(most_inputs=6, api_requests=1, defer_after_s=2.5))
    check(parts)
    assert (list(range(6)), EmbedderBusy) == (rows_of(parts), type(error))
    assert [2.5, 60.0, 2.5] == [told.max_wait_s for told in limiter.told]


def test_headers_of_a_good_answer_reach_the_limiter(make, server, limiter):
    server.headers = {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "900"}
    collect(make())
    assert ({"tokens": 1000}, {"tokens": 900}) == (
        limiter.told[0].reading.limits,
        limiter.told[0].reading.remaining,
    )


FAULTS = {
    "500": refusal(500),
    "503": refusal(503, retry_after="0.001"),
    "408": refusal(408),
    "HTML": HTML,
    "truncated": Misdeed(truncated=True),
    "reset": Misdeed(reset=True),
    "no embeddings": Misdeed(200, body=b'{"data": null}'),
    "a list": Misdeed(200, body=b"[]"),
    "too few": Misdeed(spoil=lambda items: items.pop()),
    "too many": Misdeed(spoil=lambda items: items.append(items[0])),
    "doubled index": Misdeed(spoil=lambda items: items[1].update(index=0)),
    "no index": Misdeed(spoil=lambda items: items[1].pop("index")),
    "quarter width": Misdeed(spoil=lambda items: items[0].update(embedding="AACAPwAAAAA=")),
    "NaN": Misdeed(spoil=lambda items: items[0].update(embedding=[float("nan")] * 8)),
    "zero": Misdeed(spoil=lambda items: items[0].update(embedding=[0.0] * 8)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_tried_again_and_told_to_the_limiter(make, server, limiter, fault):
    server.script(fault, fault)
    parts, error = collect(make())
    check(parts)
    assert (None, 12) == (error, len(rows_of(parts)))
    assert ["failed", "failed", "settled"] == limiter.ends()


def test_a_shuffled_answer_is_put_right(make, server):
    server.script(Misdeed(spoil=lambda items: items.reverse()))
    parts, error = collect(make())
    check(parts)
    assert (None, 1) == (error, len(server.calls))


def test_a_server_that_ignores_base64_is_understood(make, server):
    def spoil(items):
        for item, vector in zip(items, expected_vectors(TEXTS, "document", 8), strict=True):
            item["embedding"] = vector.tolist()

    server.script(Misdeed(spoil=spoil))
    parts, error = collect(make())
    check(parts)
    assert (None, 1) == (error, len(server.calls))


@pytest.mark.parametrize("fault", [refusal(503), HTML, FAULTS["zero"]], ids=["503", "HTML", "zero"])
def test_a_provider_that_is_down_is_left_alone_for_a_while(make, server, fault):
    server.plan = lambda call: fault
    parts, error = collect(make())
    assert ([], EmbedderBusy) == (parts, type(error))
    assert 15 <= error.seconds <= 45
    assert fan_out.TRIES + 1 == len(server.calls)
    assert ["A probe."] == server.texts()[-1]


@pytest.mark.parametrize(
    ("fault", "raised"), [(refusal(500), EmbeddingError), (FAULTS["NaN"], BadAnswer)]
)
def test_one_request_that_always_fails_beside_others_is_charged(make, server, fault, raised):
    server.plan = lambda call: fault if TEXTS[4] in call.texts else None
    parts, error = collect(make(most_inputs=2, api_requests=2))
    check(parts)
    assert raised is type(error)
    assert [row for row in range(12) if row not in (4, 5)] == rows_of(parts)
    calls = server.texts()
    # Where the others were done before it failed first, nobody knows that the provider is well.
    assert calls.count(["A probe."]) <= 1
    assert fan_out.TRIES + 5 == len(calls) - calls.count(["A probe."])


@pytest.mark.parametrize(
    ("fault", "raised"), [(refusal(500), EmbeddingError), (FAULTS["NaN"], BadAnswer)]
)
def test_a_request_that_always_fails_is_charged_when_nobody_else_asks(make, server, fault, raised):
    server.plan = lambda call: fault if TEXTS[4] in call.texts else None
    parts, error = collect(make())
    assert ([], raised) == (parts, type(error))
    assert [TEXTS] * fan_out.TRIES + [["A probe."]] == server.texts()


def test_a_model_that_is_down_is_not_well_because_another_of_the_account_is(server, limiter):
    api = factory_to(server, limiter)
    well = Space("openai", "text-embedding-3-large", 8, 8_192)
    calls = []

    def plan(call):
        calls.append(call)
        if call.body["model"] == well.model:
            return None
        if len(calls) == 2:
            api.embedder(well).embed(["a text"], "document")
        return refusal(503)

    server.plan = plan
    try:
        assert EmbedderBusy is type(collect(api.embedder(SPACE))[1])
    finally:
        api.close()


def test_an_answer_that_is_of_no_use_is_paid_for(make, server):
    server.script(FAULTS["quarter width"], refusal(500), HTML)
    parts, error = collect_all(make())
    # Three tokens a text are what the server counts.
    assert [(0, 1, 36), (12, 1, 36)] == [
        (len(part.rows), part.spent.requests, part.spent.tokens) for part in parts
    ]
    assert error is None


def collect_paid(embedder, allowance):
    """The rows that were answered, and the error at the end."""
    rows = []
    try:
        for part in embedder.parts(TEXTS, "document", allowance=allowance):
            rows += part.rows
    except EmbeddingError as error:
        return rows, type(error)
    return rows, None


def test_no_more_is_sent_than_an_allowance_pays_for(make, server):
    # The server counts three tokens a text, and two were expected of it: 24 in all.
    rows, error = collect_paid(make(most_inputs=1, api_requests=1), Allowance([2] * 12))
    assert (8, 8, ReservationSpent) == (len(rows), len(server.calls), error)


def test_what_is_repeated_is_paid_for_once_more(make, server):
    rows, error = collect_paid(make(), Allowance([3] * 12))
    assert (12, None) == (len(rows), error)
    server.script(FAULTS["quarter width"])
    rows, error = collect_paid(make(), Allowance([5] * 12))
    assert ([], ReservationSpent, 2) == (rows, error, len(server.calls))
    server.script(FAULTS["quarter width"])
    rows, error = collect_paid(make(most_inputs=1, api_requests=1), Allowance([6] * 12))
    assert (12, None, 2 + 13) == (len(rows), error, len(server.calls))


def test_what_is_not_answered_costs_an_allowance_nothing(make, server):
    server.script(refusal(500), rate_limited(0.0), HTML)
    rows, error = collect_paid(make(), Allowance([3] * 12))
    assert (12, None, 4) == (len(rows), error, len(server.calls))


def test_a_model_of_another_width_stops_its_space_and_says_so(make, server, limiter):
    space = Space("openai", "my-deployment", 4, 8_192)
    parts, error = collect(make(space), ["one", "two"])
    assert ([], ProviderStopped, "wrong_dimensions") == (parts, type(error), error.stop.code)
    assert "--dimensions 8" in str(error)
    assert ([], fan_out.TRIES + 1) == (limiter.stops, len(server.calls))


def test_what_cannot_be_sent_at_all_is_no_fault_of_a_text(make, server, monkeypatch):
    embedder = make()

    async def send(texts, kind):
        raise UnicodeEncodeError("ascii", "\u201dkey", 0, 1, "no")

    monkeypatch.setattr(embedder._endpoint.adapter, "send", send)
    parts, error = collect(embedder)
    assert ([], EmbedderBusy) == (parts, type(error))
    assert "key" not in str(error)
    assert "UnicodeEncodeError" in str(error)


def test_a_stalled_request_ends_at_its_deadline(make, server, limiter):
    server.script(Misdeed(stall=True))
    parts, error = collect(make(api_timeout_s=3.0))
    assert (None, 12) == (error, len(rows_of(parts)))
    assert ["failed", "settled"] == limiter.ends()


def test_a_body_that_drips_does_not_stretch_the_deadline(make, server, limiter):
    server.script(Misdeed(drip=True))
    parts, error = collect(make(api_timeout_s=3.0))
    assert (None, 12) == (error, len(rows_of(parts)))
    assert ["failed", "settled"] == limiter.ends()


def test_one_bad_text_is_found_by_halving_and_its_neighbours_are_embedded_once(make, server):
    bad = refusal(400, "", "this text is not allowed")
    server.plan = lambda call: bad if "bad" in call.texts else None
    texts = [*TEXTS[:9], "bad", *TEXTS[9:]]
    parts, error = collect(make(), texts)
    check(parts, texts)
    assert InputAtFault is type(error)
    assert "this text is not allowed" in str(error)
    assert [row for row in range(13) if row != 9] == rows_of(parts)
    answered = [text for texts in server.texts() if "bad" not in texts for text in texts]
    assert sorted([*TEXTS, "A probe."]) == sorted(answered)
    # Halved from 13 down to 1: 5 requests with the bad text, one answered beside each.
    assert (5, 5) == (
        sum("bad" in texts for texts in server.texts()),
        sum("bad" not in texts for texts in server.texts()),
    )


def test_before_the_first_text_is_blamed_the_provider_is_tried_with_a_harmless_one(make, server):
    server.plan = lambda call: refusal(400, "", "dimensions are not supported")
    parts, error = collect(make(), ["one"])
    assert ([], ProviderStopped, "request_refused") == (parts, type(error), error.stop.code)
    assert [["one"], ["A probe."]] == server.texts()


def test_a_single_bad_text_is_blamed_when_the_harmless_one_passes(make, server):
    server.plan = lambda call: refusal(400, "", "no") if "bad" in call.texts else None
    parts, error = collect_all(make(), ["bad", "bad"])
    assert ([(0, 2), (0, 2)], InputAtFault) == (
        [(len(part.rows), part.spent.tokens) for part in parts],
        type(error),
    )
    probed = [["bad"], ["A probe."]]
    assert [["bad", "bad"], *probed, *probed] == server.texts()


def test_a_model_that_begins_to_refuse_everything_stops_its_space(make, server):
    embedder = make()
    assert (None, 1) == (collect(embedder)[1], len(server.calls))
    server.plan = lambda call: refusal(400, "", "this model was retired")
    error = collect(embedder)[1]
    assert (ProviderStopped, "request_refused") == (type(error), error.stop.code)


def test_a_text_that_is_no_unicode_is_never_sent_and_its_neighbours_are(make, server):
    parts, error = collect(make(), ["fine", "half a pair: \ud83e", "well"])
    assert ([0, 2], InputAtFault) == (rows_of(parts), type(error))
    assert [["fine", "well"]] == server.texts()


@pytest.mark.parametrize(
    "large",
    [
        refusal(400, "max_tokens_per_request", "Requested 300001 tokens"),
        refusal(429, "rate_limit_exceeded", "Request too large for the model"),
        rate_limited(x_should_retry="false"),
    ],
)
def test_a_request_that_is_too_large_is_halved_and_the_size_remembered(
    make, server, limiter, large
):
    server.plan = lambda call: large if len(call.texts) > 3 else None
    embedder = make()
    parts, error = collect(embedder)
    check(parts)
    assert (None, list(range(12))) == (error, rows_of(parts))
    assert [12, 6, 3, 3, 3, 3] == [len(texts) for texts in server.texts()]
    assert "rate_limited" not in limiter.ends()
    server.calls.clear()
    collect(embedder)
    assert [3] * 4 == [len(texts) for texts in server.texts()]


def test_one_text_that_is_too_large_makes_the_requests_of_others_no_smaller(make, server):
    server.plan = lambda call: refusal(413, "", "too long") if "long" in call.texts else None
    embedder = make()
    parts, error = collect(embedder, [*TEXTS, "long"])
    assert (list(range(12)), InputAtFault) == (rows_of(parts), type(error))
    server.calls.clear()
    collect(embedder)
    assert [12] == [len(texts) for texts in server.texts()]


def test_more_inputs_are_tried_again_after_many_full_requests(make, server, monkeypatch):
    monkeypatch.setattr(endpoint, "FULL_ANSWERS_TO_GROW", 4)
    large = refusal(413, "", "too much")
    server.script(large)
    embedder = make()
    for sizes in ([12, 6, 6], [6, 6], [12]):
        server.calls.clear()
        assert collect(embedder)[1] is None
        assert sizes == [len(texts) for texts in server.texts()]


def test_one_text_larger_than_the_whole_rate_limit_waits_and_its_neighbours_do_not(make, server):
    large = rate_limited(x_should_retry="false")
    server.plan = lambda call: large if "large" in call.texts else None
    embedder = make()
    parts, error = collect(embedder, [*TEXTS, "large"])
    assert (list(range(12)), AboveRateLimit) == (rows_of(parts), type(error))
    assert 1 == server.texts().count(["large"])
    server.calls.clear()
    collect(embedder)
    assert [12] == [len(texts) for texts in server.texts()]


STOPS = {
    "401": (refusal(401, "invalid_api_key"), "invalid_api_key"),
    "403": (refusal(403), "http_403"),
    "insufficient_quota": (rate_limited("insufficient_quota"), "insufficient_quota"),
    "spend limit": (rate_limited("project_spend_limit_exceeded"), "project_spend_limit_exceeded"),
}


@pytest.mark.parametrize(("stop", "code"), STOPS.values(), ids=STOPS)
def test_a_refused_account_stops_the_fleet_at_once(make, server, limiter, stop, code):
    server.plan = lambda call: stop
    parts, error = collect(make(most_inputs=1, api_requests=1))
    assert ([], ProviderStopped, code) == (parts, type(error), error.stop.code)
    assert ([code], 1) == ([stop.code for stop in limiter.stops], len(server.calls))


def test_an_unknown_model_stops_its_space_and_not_the_account(make, server, limiter):
    server.plan = lambda call: refusal(404, "model_not_found")
    parts, error = collect(make())
    assert ([], ProviderStopped, []) == (parts, type(error), limiter.stops)
    assert "openai/text-embedding-3-small" in str(error)


@pytest.mark.parametrize(
    ("late", "given"), [(None, [3, 4, 5]), (rate_limited(), []), (refusal(500), [])]
)
def test_after_a_stop_what_was_under_way_counts_and_nothing_more_is_sent(
    make, server, limiter, late, given
):
    both = threading.Barrier(2)

    def plan(call):
        both.wait(10)
        if TEXTS[0] in call.texts:
            return rate_limited("insufficient_quota")
        assert limiter_knows.wait(10)
        return late

    limiter_knows = threading.Event()
    tell = limiter.stop

    async def stopped(stop):
        await tell(stop)
        limiter_knows.set()

    limiter.stop = stopped
    server.plan = plan
    parts, error = collect(make(most_inputs=3, api_requests=2))
    assert (given, ProviderStopped) == (rows_of(parts), type(error))
    assert 2 == len(server.calls)


def test_what_is_under_way_is_given_out_when_the_rest_is_not_wanted(make, server, limiter):
    all_there, in_line, left = threading.Barrier(3), threading.Event(), threading.Event()

    async def admitted(told):
        if len(limiter.told) > 3:
            in_line.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told.end = "called off"
                raise

    def plan(call):
        all_there.wait(10)
        if TEXTS[0] not in call.texts:
            assert left.wait(10)

    def wanted():
        assert in_line.wait(10)
        left.set()
        return False

    limiter.before, server.plan = admitted, plan
    parts = list(make(most_inputs=2, api_requests=3).parts(TEXTS, "document", wanted))
    check(parts)
    assert (list(range(6)), 3) == (rows_of(parts), len(server.calls))
    assert ["settled"] * 3 + ["called off"] == limiter.ends()


def test_leaving_early_takes_back_what_was_not_sent(make, server, limiter):
    waits, arrived = threading.Event(), threading.Event()

    async def admitted(told):
        if len(limiter.told) > 2:
            waits.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told.end = "called off"
                raise

    def stalled(call):
        if TEXTS[2] not in call.texts:
            return None
        arrived.set()
        return Misdeed(stall=True)

    limiter.before = admitted
    server.plan = stalled
    parts = make(most_inputs=2, api_requests=3).parts(TEXTS, "document")
    assert [0, 1] == list(next(parts).rows)
    assert waits.wait(10)
    assert arrived.wait(10)
    parts.close()
    # The first was answered, the second is under way and counts, the others never were.
    assert ["settled", "settled", "called off"] == limiter.ends()[:3]
    assert {"called off"} == set(limiter.ends()[2:])
    assert 2 == len(server.calls)


def test_a_closed_access_ends_what_is_under_way(server, limiter):
    api = factory_to(server, limiter)
    server.plan = lambda call: Misdeed(stall=True)
    embedder = api.embedder(SPACE)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(collect(embedder)))
    thread.start()
    while not server.calls:
        thread.join(0.01)
    api.close()
    thread.join(10)
    ((parts, error),) = ended
    assert ([], EmbeddingError) == (parts, type(error))
    with pytest.raises(EmbeddingError, match="closed"):
        embedder.embed(TEXTS, "document")
