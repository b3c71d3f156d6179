"""The vector of a text from plain SQL: `CALL embedfleet.embed`, a request that a worker answers."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from embedfleet.fleet import Fleet
from embedfleet_schema.errors import CollectionGone, NotAnswered
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import query_cache, query_requests
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.runtime import Launch, Runtime
from plugins.fleets import ask
from plugins.provider_dialects import refusal
from plugins.worker_processes import eventually

CALL = "CALL embedfleet.embed(%s, %s, NULL)"
TEXT = "reset my password"
POISON = "a text that no model takes"


def connected(url):
    """In autocommit mode, as psql is; a pooler does not always take prepared statements."""
    return psycopg.connect(url, autocommit=True, prepare_threshold=None)


@pytest.fixture
def client(fleet):
    with connected(fleet.settings.database) as conn:
        yield conn


@pytest.fixture
def own_session(fleet):
    """A client whose settings stay with it, which those behind a pooler do not."""
    with connected(fleet.settings.direct_database) as conn:
        yield conn


@pytest.fixture
def working(fleet, docs, worker):
    """A worker whose model is loaded and whose first heartbeat has come."""
    runtime = worker()
    runtime._embedder_of(docs.info.space, "cpu")
    eventually(fleet.workers)
    return runtime


def expected(docs, text=TEXT):
    return pytest.approx(fake_vectors(docs.info.space, [text], "query")[0].tolist())


def vector_of(client, text=TEXT, collection="docs"):
    (found,) = client.execute(CALL, (collection, text)).fetchone()
    return [float(each) for each in found.strip("[]").split(",")]


def waiting(fleet):
    return ask(fleet, "SELECT count(*) FROM embedfleet.query_request")[0][0]


def test_a_worker_answers_and_nothing_is_left_of_the_request(fleet, client, docs, working):
    assert expected(docs) == vector_of(client)
    assert 0 == waiting(fleet)


def test_what_was_answered_once_is_answered_without_a_worker(client, docs, working):
    first = vector_of(client)
    working.stop()
    assert first == vector_of(client)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no worker serves queue cpu"):
        vector_of(client, "another text")


def test_the_same_cache_serves_python(fleet, client, docs, working):
    found = vector_of(client)
    assert found == pytest.approx(
        query_cache.find(fleet.db, docs.info.space_id, TEXT).tolist(), abs=1e-6
    )


def test_a_search_takes_the_vector_as_it_comes(client, docs, working):
    (vector,) = client.execute(CALL, ("docs", TEXT)).fetchone()
    assert [] == client.execute("SELECT * FROM embedfleet.search('docs', %s)", [vector]).fetchall()


def test_in_a_transaction_one_error_says_what_to_do(fleet, docs, working):
    with psycopg.connect(fleet.settings.database) as conn:
        with pytest.raises(errors.InvalidTransactionTermination) as told:
            conn.execute(CALL, ("docs", TEXT))
        conn.rollback()
        do = "DO $$ DECLARE v public.vector; BEGIN CALL embedfleet.embed('docs', 'text', v); END $$"
        with pytest.raises(errors.InvalidTransactionTermination, match="cannot be called in a tr"):
            conn.execute(do)
    assert "embedfleet.embed commits, so it cannot be called" in told.value.diag.message_primary
    assert "autocommit=True" in told.value.diag.message_hint
    assert 0 == waiting(fleet)


def test_a_block_outside_of_a_transaction_may_call_it(client, docs, working):
    client.execute(
        "DO $$ DECLARE found public.vector; BEGIN CALL embedfleet.embed('docs', 'text', found);"
        " IF found IS NULL THEN RAISE 'nothing'; END IF; END $$"
    )


def test_a_session_that_cannot_write_is_told_of_another_way(own_session, docs, working):
    own_session.execute("SET default_transaction_read_only = on")
    with pytest.raises(errors.ReadOnlySqlTransaction) as told:
        vector_of(own_session)
    assert "Call it on the primary" in told.value.diag.message_hint


def test_strict_isolation_does_not_keep_the_answer_from_being_seen(own_session, docs, working):
    own_session.execute("SET default_transaction_isolation = 'serializable'")
    assert expected(docs) == vector_of(own_session)


def test_without_a_worker_one_error_comes_at_once(client, docs):
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no worker serves") as told:
        vector_of(client)
    assert "embedfleet worker --queue cpu" in told.value.diag.message_hint


def test_a_worker_that_does_not_listen_is_given_up_after_five_seconds(fleet, client, docs, working):
    working._queries.stop()
    began = time.monotonic()
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no worker took the text"):
        vector_of(client)
    assert time.monotonic() - began >= 5.0
    assert 0 == waiting(fleet)


@pytest.mark.parametrize(
    ("collection", "text", "error", "said"),
    [
        ("docs", "", errors.InvalidParameterValue, "no visible text"),
        ("docs", " \n\t", errors.InvalidParameterValue, "no visible text"),
        ("docs", None, errors.InvalidParameterValue, "no visible text"),
        ("docs", "x" * 2001, errors.InvalidParameterValue, "has 2001 characters, and 2000"),
        ("none", TEXT, errors.UndefinedTable, "there is no collection 'none'"),
        ("d'; DROP TABLE x; --", TEXT, errors.UndefinedTable, "no collection 'd''; DROP TABLE"),
        ("%s %I {vector}", TEXT, errors.UndefinedTable, "there is no collection"),
        (None, TEXT, errors.UndefinedTable, "there is no collection"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(client, working, collection, text, error, said):
    with pytest.raises(error, match=said):
        client.execute(CALL, (collection, text))


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE embedfleet.space; --",
        "$$; SELECT 1; $$",
        "%s %I %L {vector} \\",
        "Ünïcödé \U0001f600 日本語",
        "line\nbreak\ttab",
    ],
)
def test_a_text_is_a_text_whatever_is_in_it(client, docs, working, text):
    assert expected(docs, text) == vector_of(client, text)


def test_many_clients_at_once_each_get_their_own(fleet, docs, working):
    def client(number):
        with connected(fleet.settings.database) as conn:
            return [vector_of(conn, f"text {number} {n}") for n in range(10)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(client, range(8)))
    for number, vectors in enumerate(found):
        assert [expected(docs, f"text {number} {n}") for n in range(10)] == vectors
    assert 0 == waiting(fleet)


def test_an_answer_is_given_once_and_to_no_guess(client, docs, working):
    request, _ = client.execute("SELECT * FROM embedfleet.ask('docs', %s)", [TEXT]).fetchone()
    read = "SELECT vector FROM embedfleet.answer(%s)"
    eventually(lambda: client.execute(read, [request]).fetchone()[0] is not None)
    for wrong in (request, uuid4()):
        with pytest.raises(errors.NoDataFound, match="there is no such request"):
            client.execute(read, [wrong])


def test_what_nobody_fetches_is_swept(fleet, client, docs, working):
    client.execute("SELECT * FROM embedfleet.ask('docs', %s)", [TEXT])
    sweep(fleet.db)
    assert 1 == waiting(fleet)
    ask(fleet, "UPDATE embedfleet.query_request SET asked_at = now() - interval '61 s'")
    sweep(fleet.db)
    assert 0 == waiting(fleet)


def test_the_text_goes_with_the_answer(fleet, client, docs, working):
    client.execute("SELECT * FROM embedfleet.ask('docs', %s)", [TEXT])
    rows = "SELECT text, vector IS NULL FROM embedfleet.query_request"
    eventually(lambda: ask(fleet, rows) == [(None, False)])


def test_a_text_that_the_model_refuses_fails_alone_and_is_not_quoted(fleet, docs, worker, client):
    runtime = worker(fake_faults=f"poison={POISON}")
    runtime._embedder_of(docs.info.space, "cpu")
    eventually(fleet.workers)
    runtime._queries.stop()
    asked = "SELECT id FROM embedfleet.ask('docs', %s)"
    (good,), (bad,) = (client.execute(asked, [each]).fetchone() for each in (TEXT, POISON))
    assert runtime._queries._answers.answer_some(fleet.db.transaction)
    found = "SELECT vector IS NOT NULL, reason FROM embedfleet.answer(%s)"
    assert (True, None) == client.execute(found, [good]).fetchone()
    given, reason = client.execute(found, [bad]).fetchone()
    assert not given
    assert POISON not in reason
    assert "InputAtFault" in reason


def test_a_worker_without_the_model_waits_a_moment_for_one_that_has_it(fleet, docs, worker, client):
    worker()._queries.stop()
    eventually(fleet.workers)
    client.execute("SELECT * FROM embedfleet.ask('docs', %s)", [TEXT])
    with fleet.db.transaction() as conn:
        assert [] == query_requests.claim(conn, ["cuda", "api"], loaded=[], excluding=[])
        assert [] == query_requests.claim(conn, ["cpu"], loaded=[], excluding=[])
        with_it = {"loaded": [docs.info.space]}
        excluded = {"excluding": [docs.info.space_id]}
        assert [] == query_requests.claim(conn, ["cpu"], **with_it, **excluded)
        (claimed,) = query_requests.claim(conn, ["cpu"], **with_it, excluding=[])
        assert (TEXT, "cpu", docs.info.space_id) == (
            claimed.text,
            claimed.queue,
            claimed.space_id,
        )
        assert [] == query_requests.claim(conn, ["cpu"], **with_it, excluding=[])
        query_requests.give_back(conn, [claimed], "it has no disk")
    ask(fleet, "UPDATE embedfleet.query_request SET asked_at = now() - interval '1 s'")
    with fleet.db.transaction() as conn:
        assert 1 == len(query_requests.claim(conn, ["cpu"], loaded=[], excluding=[]))
    ask(
        fleet,
        "UPDATE embedfleet.query_request SET asked_at = now() - interval '6 s',"
        " claimed_until = now() - interval '1 s'",
    )
    (request,) = ask(fleet, "SELECT id FROM embedfleet.query_request")[0]
    _, reason, *_ = client.execute("SELECT * FROM embedfleet.answer(%s)", [request]).fetchone()
    assert "no worker answered within 6 s: it has no disk" == reason


def test_a_worker_that_cannot_load_the_model_leaves_it_to_another(fleet, worker, client):
    fleet.collection("docs", model="fake/16")
    runtime = worker(allowed_models=["local/*"])
    eventually(fleet.workers)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match=r"local/\*"):
        vector_of(client)
    runtime.stop()
    worker()
    eventually(lambda: any(each.is_alive for each in fleet.workers()))
    assert 16 == len(vector_of(client))


def test_a_worker_that_dies_over_a_text_is_replaced_by_another(fleet, docs, worker_process, client):
    worker_process(fake_faults=f"kill={TEXT}")
    eventually(fleet.workers)
    doomed, other = client, worker_process
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(vector_of, doomed)
        eventually(lambda: ask(fleet, "SELECT claimed_until FROM embedfleet.query_request"))
        other()
        assert expected(docs) == found.result(60)


def test_a_paused_model_says_why(fleet, client, docs, working):
    ask(
        fleet,
        "UPDATE embedfleet.space SET paused_at = now(), pause_code = 'quota',"
        " pause_reason = 'the account is empty'",
    )
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="account is empty") as told:
        vector_of(client)
    assert "embedfleet resume fake/16" in told.value.diag.message_hint


def test_nothing_of_a_text_is_logged(fleet, client, docs, worker, caplog):
    canary = "a canary of a question that nobody may see"
    caplog.set_level(logging.DEBUG)
    runtime = worker(fake_faults=f"poison={canary}")
    runtime._embedder_of(docs.info.space, "cpu")
    eventually(fleet.workers)
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as told:
        vector_of(client, canary)
    assert canary not in str(told.value)
    assert "queries for fake/16" in caplog.text
    assert canary not in caplog.text


def test_names_of_others_are_not_taken_for_ours(own_session, docs, working):
    """Whoever calls it runs it with his own path: nothing in it is found by that."""
    own_session.execute("CREATE SCHEMA planted")
    trap = "LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$"
    for name, arguments, returns in (
        ("format", "text, name", "text"),
        ("pg_sleep", "float8", "void"),
        ("has_function_privilege", "text, text", "boolean"),
        ("current_setting", "text", "text"),
        ("trapped", "text, text", "boolean"),
        ("trapped", "float8, float8", "boolean"),
    ):
        own_session.execute(f"CREATE FUNCTION planted.{name}({arguments}) RETURNS {returns} {trap}")
    for kind in ("text", "float8"):
        own_session.execute(
            f"CREATE OPERATOR planted.= (LEFTARG = {kind}, RIGHTARG = {kind},"
            " FUNCTION = planted.trapped)"
        )
    own_session.execute("CREATE DOMAIN planted.text AS pg_catalog.int4")
    own_session.execute("CREATE DOMAIN planted.uuid AS pg_catalog.int4")
    own_session.execute("CREATE DOMAIN planted.vector AS pg_catalog.int4")
    own_session.execute("SET search_path = planted, pg_catalog")
    assert expected(docs) == vector_of(own_session)


def test_where_the_server_itself_is_out_of_reach_requests_are_looked_for(
    fleet, client, docs, caplog
):
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    settings = fleet.settings.model_copy(update={"direct_database_url": SecretStr(nowhere)})
    runtime = Runtime(settings, Launch(("cpu",), 1, 1))
    runtime.start()
    try:
        eventually(fleet.workers)
        assert expected(docs) == vector_of(client)
    finally:
        runtime.stop()
    assert "queries are looked for every 0.5 s" in caplog.text


def test_a_worker_answers_again_after_its_session_was_ended(fleet, client, docs, working):
    vector_of(client)
    ended = (
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name = 'embedfleet'"
    )
    # A pooler would hand over a session that has not ended yet.
    client.execute(ended)
    assert expected(docs, "another text") == vector_of(client, "another text")


def test_a_stale_handle_gets_no_vector_of_the_next_collection_of_its_name(fleet, docs, working):
    fleet.collection("docs").drop()
    with pytest.raises(errors.UndefinedTable, match="there is no collection 'docs'"):
        query_requests.vector_of(fleet.db, docs.info, TEXT)
    new = fleet.collection("docs", model="fake/32")
    with pytest.raises(CollectionGone):
        query_requests.vector_of(fleet.db, docs.info, TEXT)
    assert 0 == waiting(fleet)
    assert (32,) == query_requests.vector_of(fleet.db, new.info, TEXT).shape


def test_a_client_that_cannot_write_is_not_answered_and_says_why(fleet, docs, working):
    option = "-c default_transaction_read_only=on"
    url = make_conninfo(fleet.settings.direct_database, options=option)
    given = {"database_url": url, "redis_url": fleet.settings.redis}
    with Fleet(load_settings(**given)) as reader, pytest.raises(NotAnswered, match="read-only"):
        query_requests.vector_of(reader.db, docs.info, TEXT)


@pytest.fixture
def paid(fleet, dialect, api_worker):
    """The server of a provider, with a collection of its model and a worker for it."""
    server = dialect("openai", 16)
    docs = fleet.collection("paid", model="openai/text-embedding-3-small", dimensions=16)
    runtime = api_worker(server)
    runtime._embedder_of(docs.info.space, "api")
    eventually(fleet.workers)
    return server


def test_what_a_provider_is_paid_for_is_in_the_ledger_once(fleet, client, paid):
    first = vector_of(client, collection="paid")
    assert first == vector_of(client, collection="paid")
    (day,) = fleet.usage()
    assert (1, 1) == (day.requests, day.texts)
    assert day.tokens > 0
    assert day.usd > 0
    assert 1 == len(paid.calls)


def test_a_provider_that_refuses_is_named(client, paid):
    paid.script(*[refusal(401, "invalid_api_key")] * 3)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="openai"):
        vector_of(client, collection="paid")


def test_a_client_without_a_key_asks_a_worker(fleet, paid):
    """The account of the provider is with the workers alone."""
    docs = fleet.collection("paid")
    assert 16 == len(docs.embed_query(TEXT))
    assert 1 == fleet.usage()[0].texts


def test_two_limits_hold_for_models_that_cost_and_for_those_that_do_not(fleet, client, paid):
    ask(fleet, "UPDATE embedfleet.query_limit SET paid_per_minute = 2")
    for n in range(2):
        vector_of(client, f"text {n}", "paid")
    with pytest.raises(errors.ConfigurationLimitExceeded, match="2 texts a minute"):
        vector_of(client, "text 2", "paid")
    assert 16 == len(vector_of(client, "text 1", "paid"))
    fleet.collection("docs", model="fake/16")
    runtime = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
    runtime.start()
    try:
        eventually(lambda: len(fleet.workers()) == 2)
        assert 16 == len(vector_of(client))
    finally:
        runtime.stop()


def test_a_role_gets_its_rate_back_as_time_goes_by(fleet, client, docs, working):
    ask(fleet, "UPDATE embedfleet.query_limit SET per_minute = 3")
    for n in range(3):
        vector_of(client, f"text {n}")
    with pytest.raises(errors.ConfigurationLimitExceeded, match="3 texts a minute"):
        vector_of(client, "text 3")
    ask(fleet, "UPDATE embedfleet.query_rate SET tat = tat - interval '20 s'")
    vector_of(client, "text 3")
    with pytest.raises(errors.ConfigurationLimitExceeded):
        vector_of(client, "text 4")
