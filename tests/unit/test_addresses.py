"""What is shown of an address: nothing that could be a piece of a password."""

import inspect
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from embedfleet_schema import addresses, errors, redis_url, settings
from embedfleet_schema.addresses import BadDatabaseUrl, check_database_url, redacted
from embedfleet_schema.broker import celery_app
from embedfleet_schema.errors import BadSettings
from embedfleet_schema.redis_url import BadRedisUrl, parse_redis_url
from embedfleet_schema.settings import load_settings

PIECE = 4
# Each may stand anywhere in a password that a person wrote into a URL as it is.
SPECIAL = "@/?#:&=%;, '\"[]\\\t$+"
PASSWORDS = st.text(st.sampled_from(SPECIAL) | st.characters(exclude_categories=["Cs"]), min_size=4)
POSTGRES = (
    "postgresql://{}@db.example:5432/app",
    "postgresql://u:{}@db.example/app",
    "postgres://u:{}@one.example:5432,two.example:5433/app?sslmode=require",
    "postgresql://u@db.example/app?password={}&sslmode=require",
    "postgresql://u:{}@/app?host=/run/postgresql",
    "postgresql://u:{}@[::1]:5432/app",
    "postgresql://u:{}",
    "postgresql:// u:{}@db.example/app",
    "postgresql//u:{}@db.example/app",
    "host=db.example password={} dbname=app user=u",
    "host=db.example password='{}' dbname=app user=u",
    "password={}",
    "password = {} host=db.example",
    "password={} host=db.example port=5433 user=u dbname=app",
    "user=u password={} host=one.example,two.example port=5432,5433 dbname=app",
    "host=db.example sslpassword={} password='{}' dbname=app",
    "host=u:{}@db.example dbname=app",
    "host=postgresql://u:{}@db.example/app",
    "dbname=postgresql://u:{}@db.example/app",
    "dbname='host=db.example password={}'",
    "postgresql:///app?user=u&password={}&host=/run/postgresql",
    "mysql://u:{}@db.example/app",
)
REDIS = (
    "redis://:{}@cache.example:6379/0",
    "redis://u:{}@cache.example",
    "rediss://:{}@cache.example:6380/0?ssl_cert_reqs=required",
    "redis://cache.example/0?password={}",
    "redis+socket://:{}@/run/redis.sock?virtual_host=1",
    "unix://:{}@/run/redis.sock?db=1",
    "sentinel://:{}@one.example,two.example/0?master_name=main",
    "sentinel://:{}@one.example;sentinel://:{}@two.example/0?master_name=main",
    "sentinels://one.example/0?master_name=main&sentinel_password={}",
    "valkeys://u:{}@cache.example/1",
    "redis//:{}@cache.example",
    "redis://:{}",
)


# All words that are ours.
VOCABULARY = "".join(map(inspect.getsource, (addresses, redis_url, settings, errors)))
CELERY = repr(celery_app("redis://h", socket_timeout_s=1.0).conf.table())


def pieces(password: str, known: str) -> list[str]:
    """Its parts, but for those that are known without it."""
    found = [password[n : n + PIECE] for n in range(len(password) - PIECE + 1)]
    return [piece for piece in found if piece not in known]


def said(url: str) -> str:
    """What the settings say of it as either address, and the libraries with them."""
    words = []
    for read in (
        lambda: load_settings(redis_url=url, database_url="postgresql://h/d"),
        lambda: load_settings(database_url=url).database,
        lambda: check_database_url(url),
        lambda: parse_redis_url(url),
    ):
        try:
            read()
        except (BadSettings, BadDatabaseUrl, BadRedisUrl) as error:
            words.append(str(error))
    return " ".join(words)


@given(form=st.sampled_from(POSTGRES + REDIS), password=PASSWORDS)
@example(form=POSTGRES[1], password="p@secrettail")
@example(form=POSTGRES[0], password="secrettail\0")
@example(form=POSTGRES[1], password="12/secrettail")
@example(form=POSTGRES[1], password="12/3?user=secrettail")
@example(form=POSTGRES[1], password="p@h/d?application_name=secrettail")
@example(form=POSTGRES[1], password="%zzsecrettail")
@example(form=POSTGRES[3], password="a&host=secrettail")
@example(form=POSTGRES[3], password="a&dbname=secrettail")
@example(form=POSTGRES[9], password="seven letters")
@example(form=POSTGRES[9], password="a host=secrettail")
@example(form=POSTGRES[10], password="a' dbname='secrettail")
@example(form=REDIS[0], password="p@secrettail/1")
@example(form=REDIS[0], password="12/secrettail")
@example(form=REDIS[0], password="12/3?master_name=secrettail")
@example(form=REDIS[3], password="a&master_name=secrettail")
@example(form=REDIS[8], password="a&master_name=secrettail")
def test_no_piece_of_a_password_is_shown(form, password):
    # Digits behind a colon are a port by every reading.
    assume(form != "postgresql://u:{}" or not re.fullmatch(r"[\d,]+", password))
    url = form.format(password, password)
    shown = redacted(url) + said(url)
    assert [] == [piece for piece in pieces(password, form + VOCABULARY) if piece in shown]


@given(form=st.sampled_from(REDIS), password=PASSWORDS)
@example(form=REDIS[0], password="p@secrettail")
@example(form=REDIS[6], password="p;secrettail")
def test_celery_shows_no_piece_of_a_password(form, password):
    url = form.format(password, password)
    try:
        app = celery_app(url, socket_timeout_s=1.0)
    except BadRedisUrl as error:
        shown = str(error)
    else:
        shown = app.connection().as_uri() + repr(app.conf.table())
    assert [] == [piece for piece in pieces(password, form + CELERY + VOCABULARY) if piece in shown]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h:5433/d", "h:5433/d"),
        ("postgresql://h", "h:5432/"),
        ("postgresql:///d", "localhost:5432/d"),
        ("postgresql://u:p%40ss@one,two:5433/d", "one:5432,two:5433/d"),
        ("host=h dbname=d password=hunter2", "h:5432/d"),
        ("host=h password=hunter2 dbname=d", "h:5432/d"),
        ("password=hunter2 host=h port=5433 user=u dbname=d", "h:5433/d"),
        (r"user=u password = 'hun\'t er2' host=a,b port=1,2 dbname='my d'", "a:1,b:2/my d"),
        ("host=@/run/pg password=hunter2 dbname=d", "@/run/pg:5432/d"),
        ("postgresql:///d?user=u&password=hunter2&host=/run/pg", "/run/pg:5432/d"),
        ("dbname=d host=/run/postgresql", "/run/postgresql:5432/d"),
        ("redis://u:hunter2@h/2", "redis://h:6379/2"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h:6379/0"),
        ("unix:///run/redis.sock?db=1", "redis+socket:///run/redis.sock"),
        ("sentinel://:hunter2@a,b:1/0?master_name=m", "sentinel://a:26379,b:1/0"),
        ("postgresql://u:hun@ter2@h/d", "postgresql://(an address that cannot be read)"),
        ("redis://:hun/ter2@h/0", "redis://(an address that cannot be read)"),
        ("mysql://u:hunter2@h/d", "(an address that cannot be read)"),
        ("hunter2", "(an address that cannot be read)"),
        ("host=h password=hunter 2 dbname=d", "(an address that cannot be read)"),
        ("host=h password='hunter2 dbname=d", "(an address that cannot be read)"),
        ("host=h password=hunter2 host=b dbname=d", "(an address that cannot be read)"),
        ("host=me:hunter2@h dbname=d", "(an address that cannot be read)"),
        ("dbname=postgresql://me:hunter2@h/d", "(an address that cannot be read)"),
    ],
)
def test_an_address_is_shown_without_its_login(url, shown):
    assert shown == redacted(url)


NAMED = {"host": "db.example", "port": "5433", "dbname": "app", "user": "u", "sslmode": "require"}


def quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@given(
    order=st.permutations([*NAMED, "password"]),
    password=st.text(
        st.sampled_from(SPECIAL)
        | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        min_size=1,
    ),
)
@example(order=["password", *NAMED], password="' host=other dbname='secret")
@example(order=[*NAMED, "password"], password="host=other")
def test_words_that_libpq_reads_are_shown_wherever_the_password_stands(order, password):
    given = NAMED | {"password": quoted(password)}
    words = " ".join(f"{name}={given[name]}" for name in order)
    assert "db.example:5433/app" == redacted(words)
    assert password == check_database_url(words)["password"]
