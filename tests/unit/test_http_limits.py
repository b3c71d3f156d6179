"""What the console decides by itself: rates, addresses, sessions, what a request asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.responses import Response

from embedfleet.web.calls import Calls
from embedfleet.web.embeddings import read
from embedfleet.web.rates import Rates
from embedfleet.web.serving import Address
from embedfleet.web.sessions import COOKIE, MOST_SESSIONS, SESSION_S, Sessions
from embedfleet.web.web_errors import BadRequest, TooBusy, TooMany
from embedfleet_schema.errors import UsageError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@given(st.integers(1, 600), st.lists(st.floats(0, 20), max_size=60))
def test_a_key_gets_its_requests_a_minute_and_a_quarter_at_once(per_minute, pauses):
    clock, passed = Clock(), 0
    rates = Rates(clock)
    for pause in pauses:
        clock.now += pause
        wait_s = refused(rates, per_minute)
        if wait_s:
            clock.now += wait_s
            assert 0 == refused(rates, per_minute)
        passed += 1
    assert passed <= clock.now / 60 * per_minute + max(1, per_minute / 4) + 1


def refused(rates, per_minute):
    """For how many seconds; 0 where it is let in."""
    try:
        rates.take(1, per_minute)
    except TooMany as told:
        return told.retry_after_s
    return 0


def test_one_key_takes_nothing_from_another():
    rates = Rates(Clock())
    rates.take(1, 1)
    with pytest.raises(TooMany, match="may make 1 requests a minute"):
        rates.take(1, 1)
    rates.take(2, 1)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])  # noqa: S104
def test_another_address_needs_tls(host, tmp_path):
    with pytest.raises(UsageError, match="unencrypted"):
        Address(host).check()
    Address(host, behind_proxy=True).check()
    Address(host, certificate=tmp_path, key=tmp_path).check()
    with pytest.raises(UsageError, match="both"):
        Address(host, certificate=tmp_path).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_none_and_answers_to_its_own_names(host):
    Address(host).check()
    assert {"localhost", "127.0.0.1", "[::1]"} == Address(host).hosts
    assert Address(host, behind_proxy=True).hosts is None


def browser(cookie=""):
    headers = [(b"cookie", f"{COOKIE}={cookie}".encode())] if cookie else []
    return HTTPConnection({"type": "http", "headers": headers})


def signed_in(sessions, *, secure=False):
    response = Response()
    assert sessions.sign_in("token", response, secure=secure)
    header = response.headers["set-cookie"]
    return header.partition("=")[2].partition(";")[0], header


def test_a_browser_signs_in_with_the_token_and_out_again():
    clock = Clock()
    sessions = Sessions("token", clock)
    assert not sessions.sign_in("tokem", Response(), secure=False)
    secret, header = signed_in(sessions, secure=True)
    assert {"HttpOnly", "SameSite=strict", "Secure"} <= set(header.split("; "))
    session = sessions.of(browser(secret))
    assert session is not None
    assert sessions.is_own_form(browser(secret), session.csrf)
    assert not sessions.is_own_form(browser(secret), "other")
    assert not sessions.is_own_form(browser(), session.csrf)
    assert secret not in repr(vars(sessions))
    clock.now = SESSION_S + 1
    assert sessions.of(browser(secret)) is None
    another, header = signed_in(sessions)
    assert "Secure" not in header
    sessions.sign_out(browser(another), Response())
    assert sessions.of(browser(another)) is None


def test_sessions_are_bounded():
    sessions = Sessions("token", Clock())
    secrets = [signed_in(sessions)[0] for _ in range(MOST_SESSIONS + 1)]
    assert sessions.of(browser(secrets[0])) is None
    assert sessions.of(browser(secrets[-1])) is not None


async def full():
    calls = Calls(threads=1, most_waiting=0)
    import asyncio
    import threading

    over = threading.Event()
    first = asyncio.create_task(calls.run(over.wait))
    await asyncio.sleep(0)
    try:
        with pytest.raises(TooBusy):
            await calls.run(over.wait)
    finally:
        over.set()
    assert await first
    await asyncio.sleep(0)
    assert await calls.run(lambda: 7) == 7
    calls.close()


def test_calls_that_would_wait_too_long_are_refused():
    import asyncio

    asyncio.run(full())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = ["model", "input", "encoding_format", "dimensions", "input_type", "truncate", "user"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_a_body_asks_for_vectors_or_is_refused(body):
    try:
        wanted = read(body)
    except BadRequest:
        return
    assert wanted.texts
    assert all(isinstance(text, str) and text.strip() for text in wanted.texts)
    assert wanted.model == body["model"]
