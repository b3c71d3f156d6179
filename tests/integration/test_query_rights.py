"""Who may have texts embedded by SQL, how often, and who sees them."""

import threading
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from embedfleet.fleet import Fleet
from embedfleet_schema.database_errors import NotPermitted
from embedfleet_schema.migrate import migrate
from embedfleet_schema.roles import ROLES, renew_grants, set_up_roles
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import query_requests
from plugins.fleets import ask
from plugins.worker_processes import eventually

CALL = "CALL embedfleet.embed('docs', %s, NULL)"
TEXT = "what is written in the secret paper"


@pytest.fixture
def login(fleet, docs, worker):
    """Makes logins of some roles; returns a connection of each, in autocommit mode. A worker runs
    that has the model loaded.
    """
    set_up_roles(fleet.settings.direct_database)
    runtime = worker()
    runtime._embedder_of(docs.info.space, "cpu")
    eventually(fleet.workers)
    made, opened = [], []

    def connect(*roles):
        name = f"user_{uuid4().hex[:12]}"
        ask(fleet, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
        made.append(name)
        for role in roles:
            ask(fleet, f"GRANT embedfleet_{role} TO {name}")
        parts = urlsplit(fleet.settings.direct_database)
        url = parts._replace(netloc=f"{name}:pw@{parts.hostname}:{parts.port}").geturl()
        opened.append(psycopg.connect(url, autocommit=True))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()
    runtime.stop()
    for role in (*ROLES, *made):
        ask(fleet, f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        ask(fleet, f"DROP OWNED BY {role}")
        ask(fleet, f"DROP ROLE {role}")


def test_who_has_the_right_gets_a_vector_and_a_search_takes_it(login):
    client = login("search", "ask")
    (vector,) = client.execute(CALL, [TEXT]).fetchone()
    assert [] == client.execute("SELECT * FROM embedfleet.search('docs', %s)", [vector]).fetchall()


@pytest.mark.parametrize("role", ["search", "producer", "worker"])
def test_who_lacks_the_right_is_told_what_to_grant(login, role):
    client = login(role)
    with pytest.raises(errors.InsufficientPrivilege) as told:
        client.execute(CALL, [TEXT])
    assert "may not have texts embedded by SQL" in told.value.diag.message_primary
    assert "GRANT embedfleet_ask TO user_" in told.value.diag.message_hint
    for statement in (
        f"SELECT embedfleet.ask('docs', '{TEXT}')",
        f"SELECT embedfleet.answer('{uuid4()}')",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            client.execute(statement)


def test_python_names_the_missing_right(login, fleet, docs):
    client = login("search")
    url = f"postgresql://{client.info.user}:pw@{client.info.host}:{client.info.port}"
    given = {"database_url": f"{url}/{client.info.dbname}", "redis_url": fleet.settings.redis}
    with (
        Fleet(load_settings(**given)) as reader,
        pytest.raises(NotPermitted, match="permission denied for function ask"),
    ):
        query_requests.vector_of(reader.db, docs.info, TEXT)


@pytest.mark.parametrize("role", ["search", "producer", "ask"])
@pytest.mark.parametrize("table", ["query_request", "query_limit", "query_rate"])
def test_nobody_but_workers_reads_requests(login, role, table):
    client = login(role)
    for statement in (f"TABLE embedfleet.{table}", f"DELETE FROM embedfleet.{table}"):
        with pytest.raises(errors.InsufficientPrivilege):
            client.execute(statement)


def test_an_answer_is_for_who_asked_and_for_no_other_role(login):
    asking, other = login("ask"), login("ask")
    request, _ = asking.execute("SELECT * FROM embedfleet.ask('docs', %s)", [TEXT]).fetchone()
    read = "SELECT vector FROM embedfleet.answer(%s)"
    with pytest.raises(errors.NoDataFound, match="there is no such request"):
        other.execute(read, [request])
    eventually(lambda: asking.execute(read, [request]).fetchone()[0] is not None)


def test_a_role_that_was_set_does_not_hide_who_asks(login, fleet):
    """The rate is that of who logged in."""
    client = login("ask")
    ask(fleet, "UPDATE embedfleet.query_limit SET per_minute = 1")
    client.execute(CALL, ["one"])
    client.execute("SET ROLE embedfleet_ask")
    with pytest.raises(errors.ConfigurationLimitExceeded, match=f"role {client.info.user} may"):
        client.execute(CALL, ["two"])


def test_the_rate_is_that_of_each_role_and_the_owner_sets_it(login, fleet):
    busy, other = login("ask"), login("ask")
    ask(fleet, "UPDATE embedfleet.query_limit SET per_minute = 2")
    insert = "INSERT INTO embedfleet.query_limit VALUES (%s, 3, 0, 5)"
    ask(fleet, insert, other.info.user)
    for n in range(2):
        busy.execute(CALL, [f"text {n}"])
    with pytest.raises(errors.ConfigurationLimitExceeded):
        busy.execute(CALL, ["text 2"])
    for n in range(3):
        other.execute(CALL, [f"me {n}"])
    with pytest.raises(errors.ConfigurationLimitExceeded):
        other.execute(CALL, ["me 3"])
    with pytest.raises(errors.InvalidParameterValue, match="has 6 characters, and 5"):
        other.execute(CALL, ["abcdef"])
    ask(fleet, "UPDATE embedfleet.query_limit SET per_minute = 0")
    with pytest.raises(errors.ConfigurationLimitExceeded):
        busy.execute(CALL, ["text 3"])


def test_statements_show_a_text_only_where_its_caller_wrote_it(login, fleet, worker):
    """While a worker has it, and afterwards: in no session but the caller's own."""
    for runtime in (worker(fake_faults="latency=0.5") for _ in range(2)):
        runtime._embedder_of(fleet.collection("docs").info.space, "cpu")
    client, reader = login("ask"), login("search")
    seen, hidden, over = set(), set(), threading.Event()

    def look():
        statements = "SELECT pid, query FROM pg_stat_activity WHERE query ~ 'secret paper'"
        while not over.is_set():
            found = ask(fleet, statements + " AND query !~ 'pg_stat_activity'")
            seen.update(pid for pid, _ in found)
            hidden.update(reader.execute(statements + " AND query !~ 'pg_stat'").fetchall())

    watching = threading.Thread(target=look)
    watching.start()
    for n in range(4):
        client.execute(f"CALL embedfleet.embed('docs', '{TEXT} {n}', NULL)")
    over.set()
    watching.join()
    assert {client.info.backend_pid} == seen
    assert set() == hidden


def test_roles_of_before_go_on_without_the_new_one(fleet, login):
    """Where nobody has run `migrate --roles` since, a migration renews the rights of the others."""
    ask(fleet, "DROP OWNED BY embedfleet_ask")
    ask(fleet, "DROP ROLE embedfleet_ask")
    renew_grants(fleet.settings.direct_database)
    migrate(fleet.settings.direct_database)
    client = login("search")
    with pytest.raises(errors.InsufficientPrivilege, match="may not have texts embedded"):
        client.execute(CALL, [TEXT])
    set_up_roles(fleet.settings.direct_database)
    ask(fleet, f"GRANT embedfleet_ask TO {client.info.user}")
    assert client.execute(CALL, [TEXT]).fetchone() is not None
