"""One reading of a Redis URL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.redis_clients import async_client, client
from embedfleet_schema.redis_url import BadRedisUrl, Login, RedisAddress, Tls, parse_redis_url

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress((("h", 6379),))),
        ("valkey://h:1/2", RedisAddress((("h", 1),), db=2)),
        ("REDIS://h/", RedisAddress((("h", 6379),))),
        ("redis://", RedisAddress((("localhost", 6379),))),
        ("redis://[::1]:1", RedisAddress((("::1", 1),))),
        ("redis://h?db=3", RedisAddress((("h", 6379),), db=3)),
        ("redis://u:p%40s@h", RedisAddress((("h", 6379),), login=Login("u", "p@s"))),
        ("redis://:p@s@h", RedisAddress((("h", 6379),), login=Login(None, "p@s"))),
        ("rediss://h", RedisAddress((("h", 6379),), tls=Tls())),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", RedisAddress((("h", 6379),), tls=Tls())),
        ("valkeys://h?ssl_cert_reqs=none", RedisAddress((("h", 6379),), tls=Tls("none"))),
        ("unix:///a%20b?db=1", RedisAddress(socket="/a b", db=1)),
        ("redis+socket:///a?virtual_host=/1", RedisAddress(socket="/a", db=1)),
        (
            "sentinel://:p@a,b:1/2?master_name=m&sentinel_password=s",
            RedisAddress(
                (("a", 26379), ("b", 1)),
                db=2,
                login=Login(None, "p"),
                master="m",
                sentinel_login=Login(None, "s"),
            ),
        ),
        (
            "sentinels://a;sentinels://b/0?master_name=m",
            RedisAddress((("a", 26379), ("b", 26379)), tls=Tls(), master="m"),
        ),
    ],
)
def test_a_url_says_one_thing(url, address):
    assert address == parse_redis_url(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("h:6379", "starts with none of"),
        ("amqp://h", "starts with none of"),
        ("redis-sentinel://h", "starts with none of"),
        ("redis://a,b", "several servers"),
        ("redis://h/db", "database is not a number"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h:port", "host and port"),
        ("redis://h:70000", "port"),
        ("redis://h?ssl_cert_reqs=required", "TLS options but no TLS"),
        ("redis://h?socket_timeout=1", "an option that redis:// does not have"),
        ("rediss://h?ssl_cert_reqs=never", "ssl_cert_reqs is one of"),
        ("rediss://h?ssl_check_hostname=perhaps", "true or false"),
        ("rediss://h?ssl_cert_reqs=none&ssl_cert_reqs=required", "twice"),
        ("rediss://h?ssl_cert_reqs", "not name=value"),
        ("redis://u:p@h?password=q", "twice"),
        ("redis://:p/q@h", "%2F"),
        ("redis://:p?q@h", "%3F"),
        ("redis://:p#q@h", "%23"),
        ("redis://:p q@h", "space"),
        ("unix://run/redis.sock", "whole path"),
        ("sentinel://h/0", "master_name"),
        ("sentinel://a/0;sentinel://b/1?master_name=m", "different databases"),
    ],
)
def test_what_is_not_understood_to_its_last_letter_is_refused(url, why):
    with pytest.raises(BadRedisUrl) as raised:
        parse_redis_url(url)
    assert why in str(raised.value)


@given(username=NAMES, password=NAMES, db=st.integers(0, 99), port=st.integers(1, 65_535))
def test_an_address_survives_being_written(username, password, db, port):
    address = RedisAddress((("h", port),), db=db, login=Login(username, password))
    assert address == parse_redis_url(address.url)
    assert RedisAddress((("h", port),), db=db) == parse_redis_url(str(address))


@given(text=st.text() | st.text().map(lambda end: f"rediss://{end}"))
def test_any_text_is_an_address_or_is_refused(text):
    try:
        address = parse_redis_url(text)
    except BadRedisUrl:
        return
    assert address.tls is not None or not text.strip().lower().startswith("rediss")


@pytest.mark.parametrize("url", ["rediss://h", "sentinels://h/0?master_name=m"])
@pytest.mark.parametrize("make", [client, async_client])
def test_tls_is_a_part_of_each_connection(url, make):
    pool = make(parse_redis_url(url)).connection_pool
    assert "SSL" in pool.connection_class.__name__
    assert ("required", True) == (
        pool.connection_kwargs["ssl_cert_reqs"],
        pool.connection_kwargs["ssl_check_hostname"],
    )
