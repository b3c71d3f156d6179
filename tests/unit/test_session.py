"""What a connection is opened with: all that a person wrote, and our defaults for the rest."""

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from embedfleet_schema.session import Holder, described, parameters
from plugins.documents import ROOT

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=1, max_size=20)
GIVEN = {
    "host": WORDS,
    "dbname": WORDS,
    "user": WORDS,
    "password": WORDS,
    "options": WORDS,
    "application_name": WORDS,
    "connect_timeout": st.integers(1, 600).map(str),
    "keepalives_idle": st.integers(1, 600).map(str),
    "port": st.integers(1, 65_535).map(str),
    "sslmode": st.sampled_from(["disable", "prefer", "require", "verify-full"]),
    "target_session_attrs": st.sampled_from(["any", "read-write", "primary"]),
}


@given(st.fixed_dictionaries({}, optional=GIVEN))
def test_what_a_person_wrote_stays_as_it_is(given_parameters):
    found = parameters(make_conninfo(**given_parameters))
    assert given_parameters == {name: found[name] for name in given_parameters}
    assert "UTF8" == found["client_encoding"]


@given(st.fixed_dictionaries({}, optional=GIVEN))
def test_what_nobody_wrote_is_ours(given_parameters):
    found = parameters(make_conninfo(**given_parameters))
    ours = parameters("")
    assert {name: ours[name] for name in ours.keys() - given_parameters} == {
        name: found[name] for name in ours.keys() - given_parameters
    }


def test_a_network_that_drops_everything_is_noticed_within_a_minute():
    """Where something was sent, the kernel sends it again for a quarter of an hour, unless told."""
    ours = parameters("")
    idle_s, interval_s, count = (
        ours[f"keepalives_{name}"] for name in ("idle", "interval", "count")
    )
    assert ours["tcp_user_timeout"] == 1_000 * (idle_s + interval_s * count) < 60_000


def test_a_holder_is_named_as_far_as_it_may_be_seen():
    since = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
    seen = Holder(7, "web", "psql", "idle in transaction", since)
    unseen = Holder(8, "other", "", None, None)
    assert (
        "pid 7, role web, psql, idle in transaction, since 2026-11-29 12:00:00 UTC; "
        "pid 8, role other" == described([seen, unseen])
    )
    assert "a session that has ended since" == described([])


def test_connections_are_opened_in_one_place():
    """Any other would be without the path, the limits and the encoding."""
    opening = re.compile(r"psycopg\.connect\(|ConnectionPool\(|create_engine\(")
    folders = ("schema", "producer", "workers", "console")
    found = {
        path.name
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if opening.search(path.read_text())
    }
    # The embedded stack makes its database through one of its own, which looks up no name.
    # `database.py` pools what `opening.py` opens, and `redis_clients.py` pools those of Redis.
    places = ("opening.py", "database.py", "migrate.py", "postgres.py", "redis_clients.py")
    assert set(places) == found
