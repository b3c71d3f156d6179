"""Readers who try to see more than they may: what is not live yet, and other collections."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import embedfleet as ef
from embedfleet_schema.database_errors import GrantUseless, LongName, NotPermitted, UnknownRole
from embedfleet_schema.errors import CollectionGone
from embedfleet_schema.exchange_errors import ExposeRefused
from embedfleet_schema.roles import ROLES, set_up_roles
from embedfleet_schema.store.grants import grant
from plugins.fleets import ask, drain, filled_by

OWN = {"own text", "own key", '{"own": "metadata"}'}
# What only others may read, and what nobody may yet.
OTHERS = ("OTHERTEXT", "OTHERKEY", "OTHERMETA")
DRAFTS = ("DRAFTTEXT", "DRAFTKEY", "DRAFTMETA")
VECTOR = str([1.0] * 16)

# Cheaper than any condition of ours, so that a planner that may puts it first; and an operator that
# it tries on the values in its statistics.
SPY = """
CREATE FUNCTION pg_temp.spy(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE NOTICE '%', value;
    RETURN true;
END
$$;
CREATE FUNCTION pg_temp.spy_two(one text, other text) RETURNS boolean
LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE NOTICE '% %', one, other;
    RETURN true;
END
$$;
CREATE FUNCTION pg_temp.spy_all(state text, value text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '%', value;
    RETURN value;
END
$$;
CREATE OPERATOR pg_temp.<<< (
    LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.spy_two, RESTRICT = scalarltsel
);
CREATE AGGREGATE pg_temp.spied(text) (SFUNC = pg_temp.spy_all, STYPE = text);
"""
SETTINGS = ("enable_indexscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")
ATTACKS = {
    "content": "SELECT 1 FROM {} WHERE pg_temp.spy(content)",
    "metadata": "SELECT 1 FROM {} WHERE pg_temp.spy(metadata::text)",
    "key": "SELECT 1 FROM {} WHERE pg_temp.spy(document)",
    "position": "SELECT 1 FROM {} WHERE pg_temp.spy('position ' || position)",
    "cast": "SELECT 1 FROM {} WHERE content !~ 'own' AND content::int > 0",
    "cast of a key": "SELECT 1 FROM {} WHERE document !~ 'own' AND document::int > 0",
    "cast of metadata": "SELECT 1 FROM {} WHERE (metadata ->> 'k')::int > 0",
    "operator": "SELECT 1 FROM {} WHERE content OPERATOR(pg_temp.<<<) 'x'",
    "statistics of content": "EXPLAIN SELECT 1 FROM {} WHERE content OPERATOR(pg_temp.<<<) 'x'",
    "statistics of keys": "EXPLAIN SELECT 1 FROM {} WHERE document OPERATOR(pg_temp.<<<) 'x'",
    "statistics of metadata": (
        "EXPLAIN SELECT 1 FROM {} WHERE metadata::text OPERATOR(pg_temp.<<<) 'x'"
    ),
    "lateral": (
        "SELECT 1 FROM {} AS t, LATERAL (SELECT pg_temp.spy(t.content) AS s) AS l WHERE l.s"
    ),
    "join": "SELECT 1 FROM {0} AS a JOIN {0} AS b ON pg_temp.spy_two(a.content, b.content)",
    "subquery": "SELECT (SELECT pg_temp.spy(content) FROM {} OFFSET 0 LIMIT 1)",
    "case": "SELECT 1 FROM {} WHERE CASE WHEN pg_temp.spy(content) THEN true END",
    "order": "SELECT 1 FROM {} ORDER BY pg_temp.spy(content)",
    "group": "SELECT 1 FROM {} GROUP BY pg_temp.spy(content)",
    "aggregate": "SELECT pg_temp.spied(content) FROM {}",
    "returned": "SELECT * FROM {}",
}
# Of what only the view has.
ATTACKS_ON_VECTORS = {
    "vector": "SELECT 1 FROM {} WHERE pg_temp.spy(embedding::text)",
    "order of vectors": "SELECT 1 FROM {} ORDER BY pg_temp.spy(embedding::text)",
    "search": (
        "SELECT 1 FROM {} WHERE pg_temp.spy(embedding::text)"
        f" ORDER BY embedding OPERATOR(public.<=>) '{VECTOR}' LIMIT 100"
    ),
}


def fill(fleet, worker):
    """A collection with one live document, and beside it what its readers must not see."""
    docs = fleet.collection("mine", model="fake/16")
    others = fleet.collection("theirs", model="fake/16")
    own = ef.Document("own key", metadata={"own": "metadata"}, chunks=["own text"])
    gone = ef.Document("DRAFTKEY gone", "DRAFTTEXT gone", {"k": "DRAFTMETA"})
    # What readers see came with a former version, and stayed as it was.
    for chunks in (own.chunks, [*own.chunks, "DRAFTTEXT former"]):
        docs.enqueue([replace(own, chunks=chunks)])
        drain(worker())
    docs.enqueue([own, gone])
    others.enqueue([ef.Document("OTHERKEY", "OTHERTEXT", {"k": "OTHERMETA"})])
    drain(worker())
    # What a crash may leave of a document that was deleted: its text and its vector.
    ask(fleet, f"DELETE FROM embedfleet.{docs.info.documents} WHERE key = %s", gone.key)
    # A new version and a new document, of which the longer half is embedded.
    docs.enqueue(
        ef.Document(
            key,
            chunks=[f"DRAFTTEXT {key} {'word ' * words}" for words in (60, 50)],
            metadata={"k": "DRAFTMETA"},
        )
        for key in ("own key", "DRAFTKEY")
    )
    half = worker()
    assert ["done", "done"] == [half.run_one("cpu") for _ in range(2)]
    assert [(1, 4, 6, 4)] == ask(fleet, STORED)


copied_database = filled_by(fill)


@pytest.fixture
def docs(fleet):
    return fleet.collection("mine")


STORED = """
SELECT (SELECT count(*) FROM embedfleet.mine), (SELECT count(*) FROM embedfleet._vectors_1_1),
    (SELECT count(*) FROM embedfleet._texts_1),
    (SELECT count(*) FROM embedfleet._chunks_1 WHERE metadata @> '{"k": "DRAFTMETA"}')
"""


@pytest.fixture
def reader(fleet):
    """The name of a role that may connect, and nothing else."""
    name = f"reader_{uuid4().hex[:12]}"
    ask(fleet, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    yield name
    ask(fleet, f"DROP OWNED BY {name}")
    ask(fleet, f"DROP ROLE {name}")


@pytest.fixture
def login(fleet, reader):
    url = make_conninfo(fleet.settings.direct_database, user=reader, password="pw")
    with psycopg.connect(url, autocommit=True) as conn:
        yield conn


def seen(conn, statement):
    """All that a caller learns of a statement: rows, notices, errors."""
    told = []
    conn.add_notice_handler(lambda notice: told.append(notice.message_primary))
    for setting in SETTINGS:
        conn.execute(f"SET {setting} = off")
    conn.execute("DISCARD TEMP")
    conn.execute(SPY)
    try:
        told += map(str, conn.execute(statement).fetchall())
    except psycopg.Error as error:
        told.append(str(error))
    return "\n".join(told)


@pytest.fixture
def granted_view(fleet, docs, reader):
    """The name of the view of `docs`, which the reader may read."""
    ask(fleet, "ANALYZE")
    assert "mine" == docs.grant(reader, view=True)
    return "embedfleet.mine"


def secret_vectors(fleet):
    """The vectors that no reader of `mine` may see."""
    return [
        vector
        for (vector,) in ask(
            fleet,
            "SELECT embedding::text FROM embedfleet._vectors_1_1"
            " EXCEPT SELECT embedding::text FROM embedfleet.mine"
            " UNION SELECT embedding::text FROM embedfleet.theirs",
        )
    ]


@pytest.mark.parametrize("name", ATTACKS | ATTACKS_ON_VECTORS)
def test_a_reader_of_the_view_sees_what_is_live_in_it_and_nothing_else(
    fleet, granted_view, login, name
):
    attack = (ATTACKS | ATTACKS_ON_VECTORS)[name].format(granted_view)
    vectors = secret_vectors(fleet)
    assert 4 == len(vectors)
    secrets = (*OTHERS, *DRAFTS, "position 1", *vectors)
    learnt = seen(login, attack)
    assert [] == [secret for secret in secrets if secret in learnt]
    planned = seen(login, f"EXPLAIN (ANALYZE, VERBOSE) {attack.removeprefix('EXPLAIN ')}")
    assert [] == [secret for secret in (*secrets, "s_2") if secret in planned]


@pytest.mark.parametrize("name", ATTACKS)
def test_nor_does_who_was_granted_a_search(docs, reader, login, name):
    assert "search_mine" == docs.grant(reader)
    learnt = seen(login, ATTACKS[name].format(f"embedfleet.search_mine('{VECTOR}', 100)"))
    assert [] == [secret for secret in (*OTHERS, *DRAFTS) if secret in learnt]


# In the words of the view that LlamaIndex reads.
OF_EXPOSED = ("content", "metadata", "cast", "operator", "join", "aggregate", "returned", "vector")


@pytest.mark.parametrize("name", OF_EXPOSED)
def test_nor_does_who_reads_the_view_for_another_library(fleet, docs, reader, login, name):
    assert "data_mine" == docs.expose()
    assert "mine" == docs.grant(reader, view=True)
    attack = (ATTACKS | ATTACKS_ON_VECTORS)[name].format("embedfleet.data_mine")
    attack = attack.replace("metadata", "metadata_").replace("content", "text")
    learnt = seen(login, attack)
    assert "own" in learnt or name not in ("content", "returned")
    secrets = (*OTHERS, *DRAFTS, *secret_vectors(fleet))
    assert [] == [secret for secret in secrets if secret in learnt]


def test_the_view_for_another_library_is_closed_and_dropped_with_that_of_the_collection(
    fleet, docs, reader, login
):
    docs.expose()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute("SELECT 1 FROM embedfleet.data_mine")
    docs.grant(reader, view=True)
    rows = login.execute("SELECT node_id, text, metadata_ FROM embedfleet.data_mine").fetchall()
    ((number,),) = login.execute("SELECT id::text FROM embedfleet.mine").fetchall()
    metadata = {"own": "metadata", "document": "own key", "position": 0}
    assert [(number, "own text", metadata)] == rows
    with pytest.raises(GrantUseless, match="data_mine, mine"):
        docs.grant(reader)
    # Made anew it keeps its readers.
    docs.expose()
    assert 1 == len(login.execute("SELECT 1 FROM embedfleet.data_mine").fetchall())
    docs.revoke(reader, view=True)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute("SELECT 1 FROM embedfleet.data_mine")
    assert docs.unexpose()
    assert not docs.unexpose()
    docs.expose()
    docs.drop()
    assert [(None,)] == ask(fleet, "SELECT to_regclass('embedfleet.data_mine')")


def test_a_view_takes_no_name_that_something_else_has(fleet, docs):
    other = fleet.collection("data_mine", model="fake/16")
    with pytest.raises(ExposeRefused, match="has a relation of that name"):
        docs.expose()
    assert not docs.unexpose()
    other.drop()
    ask(fleet, "CREATE TABLE embedfleet.data_mine (id int)")
    with pytest.raises(ExposeRefused, match="has a relation of that name"):
        docs.expose()
    long = fleet.collection("a" * 60, model="fake/16")
    with pytest.raises(ExposeRefused, match="more than 58 characters"):
        long.expose()
    docs.drop()
    assert [(0,)] == ask(fleet, "SELECT count(*) FROM embedfleet.data_mine")


READABLE = {
    "_documents_1": ("id, live_version, live_kept, key", "own key"),
    "_chunks_1": (
        "id, document_id, version, position, text_id, metadata::text",
        '{"own": "metadata"}',
    ),
    "_texts_1": ("id, content", "own text"),
    "_vectors_1_1": ("embedding, text_id", 1),
}


@pytest.mark.parametrize("table", READABLE)
def test_nor_from_the_tables_below_it(granted_view, login, table):
    columns, expected = READABLE[table]
    (row,) = login.execute(f"SELECT {columns} FROM embedfleet.{table}").fetchall()
    assert expected == row[-1]
    # A view reads all that there is of a vector.
    for other in ("ctid", "*") if table != "_vectors_1_1" else ("ctid",):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute(f"SELECT {other} FROM embedfleet.{table}")
    login.execute("SET row_security = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute(f"SELECT {columns} FROM embedfleet.{table}")


def test_nor_from_statistics_and_old_grants(fleet, docs, granted_view, reader, login):
    assert [] == login.execute("SELECT 1 FROM pg_stats WHERE schemaname = 'embedfleet'").fetchall()
    docs.revoke(reader, view=True)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute("SELECT content FROM embedfleet.mine")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute("SELECT content FROM embedfleet._texts_1")
    # Who grants the view alone opens nothing.
    ask(fleet, f"GRANT SELECT ON embedfleet.mine TO {reader}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="_1"):
        login.execute("SELECT content FROM embedfleet.mine")


SEARCHES = {
    "search": "embedfleet.search('mine', '{}', 100)",
    "filtered": """embedfleet.search('mine', '{}', 100, '{{"not": {{"x": 1}}}}')""",
    "documents": "embedfleet.nearest_documents('mine', '{}', 100)",
    "diverse": "embedfleet.diverse('mine', '{}', 100)",
    "hybrid": "embedfleet.hybrid_search('mine', 'own drafttext othertext', '{}', 100)",
}
# What gives no row of a single document.
OTHER_SEARCHES = {
    "similar": "embedfleet.similar('mine', 'own key', 100)",
    "similar to a draft": "embedfleet.similar('mine', 'DRAFTKEY', 100)",
    "duplicates": "embedfleet.duplicates('mine', -1)",
    "neighbours": "embedfleet.neighbours('mine', {}, 100, 100)",
    "words": "embedfleet.matched('mine', 'drafttext', 'simple', NULL, 100)",
}


@pytest.mark.parametrize("call", OTHER_SEARCHES)
def test_nor_by_what_is_alike_or_beside_it(fleet, granted_view, login, call):
    chunks = [number for (number,) in ask(fleet, "SELECT id FROM embedfleet._chunks_1")]
    for number in chunks if "{}" in OTHER_SEARCHES[call] else [0]:
        function = OTHER_SEARCHES[call].format(number)
        learnt = seen(login, f"SELECT * FROM {function}").replace("live document", "")
        # What was asked for is no secret.
        assert [] == [
            word for word in (*OTHERS, *DRAFTS) if word in learnt.replace('"DRAFTKEY"', "")
        ]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute(f"SELECT * FROM {function.replace('mine', 'theirs')}")


@pytest.mark.parametrize("call", SEARCHES)
def test_nor_by_the_search_that_runs_with_the_rights_of_its_caller(granted_view, login, call):
    function = SEARCHES[call].format(VECTOR)
    secrets = (*OTHERS, *DRAFTS)
    for attack in ATTACKS.values():
        learnt = seen(login, attack.format(function))
        assert [] == [secret for secret in secrets if secret in learnt]
    assert ["own key"] == [key for (key,) in login.execute(f"SELECT document FROM {function}")]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute(f"SELECT * FROM {function.replace('mine', 'theirs')}")
    for closed in (
        f"compared(1, '{{}}', '{VECTOR}', 10, true)",
        "matched_by_owner('mine', 'text', 'simple', NULL, 10)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute(f"SELECT embedfleet.{closed}")


@pytest.mark.parametrize("call", SEARCHES)
def test_who_was_granted_one_search_may_not_call_that(docs, reader, login, call):
    docs.grant(reader)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute(f"SELECT * FROM {SEARCHES[call].format(VECTOR)}")


def test_what_goes_live_is_seen_at_once(docs, granted_view, worker, login):
    drain(worker())
    rows = login.execute("SELECT document, content FROM embedfleet.mine").fetchall()
    assert {"own key", "DRAFTKEY"} == {key for key, _ in rows}
    assert 4 == len(rows)


def test_who_was_granted_a_search_gets_the_live_rows_of_that_collection(docs, reader, login):
    docs.grant(reader)
    found = "SELECT document, content, metadata::text FROM embedfleet.search_mine(%s{})"
    rows = login.execute(found.format(""), (VECTOR,)).fetchall()
    assert [OWN] == [set(row) for row in rows]
    assert (
        rows == login.execute(found.format(""", 5, '{"own": "metadata"}'"""), (VECTOR,)).fetchall()
    )
    assert [] == login.execute(found.format(""", 5, '{"own": "other"}'"""), (VECTOR,)).fetchall()


RELATIONS = [
    "mine",
    "theirs",
    "_documents_1",
    "_chunks_1",
    "_texts_1",
    "_vectors_1_1",
    "failure",
    "batch",
    "job",
    "space",
    "collection",
]


@pytest.mark.parametrize("relation", RELATIONS)
def test_and_reads_nothing_else(docs, reader, login, relation):
    docs.grant(reader)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute(f"SELECT FROM embedfleet.{relation}")


def test_nor_from_the_statistics_nor_from_a_plan(fleet, docs, reader, login):
    docs.grant(reader)
    ask(fleet, "ANALYZE embedfleet._chunks_1, embedfleet._documents_1")
    assert [] == login.execute("SELECT 1 FROM pg_stats WHERE schemaname = 'embedfleet'").fetchall()
    search = f"SELECT * FROM embedfleet.search_mine('{VECTOR}', 5)"
    plan = "\n".join(line for (line,) in login.execute(f"EXPLAIN (ANALYZE, VERBOSE) {search}"))
    assert "Function Scan on embedfleet.search_mine" in plan
    assert not [name for name in (docs.info.vectors, docs.info.chunks, "Filter") if name in plan]


@pytest.mark.parametrize(
    "call",
    ["'[1]'", f"'{VECTOR}', -1", f"'{VECTOR}', 5, '[]'", "NULL", f"'{VECTOR}', NULL", "'x'"],
)
def test_no_argument_makes_it_tell_more(docs, reader, login, call):
    docs.grant(reader)
    learnt = seen(login, f"SELECT * FROM embedfleet.search_mine({call})")
    assert [] == [secret for secret in (*OTHERS, *DRAFTS) if secret in learnt]


def test_only_who_was_granted_may_call_it_until_it_is_taken_back(fleet, docs, reader, login):
    call = f"SELECT count(*) FROM embedfleet.search_mine('{VECTOR}')"
    docs.revoke(reader)
    fleet.collection("theirs").grant(reader)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        login.execute(call)
    docs.grant(reader)
    assert (1,) == login.execute(call).fetchone()
    docs.revoke(reader)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute(call)
    docs.grant(reader)
    docs.grant(reader)
    docs.drop()
    with pytest.raises(psycopg.errors.UndefinedFunction):
        login.execute(call)


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_it_finds_what_search_finds_and_uses_the_index(
    fleet, worker, reader, login, storage, metric
):
    docs = fleet.collection("many", model="fake/16", storage=storage, metric=metric)
    docs.enqueue([ef.Document(f"d{n}", f"text number {n}", {"n": n % 100}) for n in range(400)])
    drain(worker(batch_tokens_cpu=8_192))
    index = docs.index(memory_mb=8, workers=0)
    docs.grant(reader)
    vector = docs.embed_query("text number 7")
    found = "SELECT document FROM embedfleet.search_many(%s, %s, %s)"
    scans = "SELECT pg_stat_get_xact_numscans(%s::regclass)"
    # The caller's own, which a call does not change.
    login.execute("SET hnsw.ef_search = 41")
    for k, where in ((10, None), (150, None), (4, {"n": 7}), (10, {"n": 7})):
        expected = [hit.document for hit in docs.search(vector, k=k, where=where)]
        with login.transaction():
            login.execute("SET LOCAL enable_seqscan = off")
            login.execute("SET LOCAL enable_sort = off")
            as_json = None if where is None else '{"n": 7}'
            rows = login.execute(found, (str(vector.tolist()), k, as_json)).fetchall()
            (used,) = login.execute(scans, (f"embedfleet.{index}",)).fetchone()
            ef_search = login.execute("SHOW hnsw.ef_search").fetchone()
        assert expected == [key for (key,) in rows]
        assert used >= 1
        assert ("41",) == ef_search


def test_a_filter_gets_its_rows_however_far_they_are(fleet, worker, reader, login):
    docs = fleet.collection("many", model="fake/16")
    docs.enqueue([ef.Document(f"d{n}", f"text number {n}", {"n": n}) for n in range(300)])
    drain(worker(batch_tokens_cpu=8_192))
    docs.index(memory_mb=8, workers=0)
    docs.grant(reader)
    vector = str(docs.embed_query("text number 7").tolist())
    with login.transaction():
        login.execute("SET LOCAL enable_seqscan = off")
        login.execute("SET LOCAL enable_sort = off")
        login.execute("SET LOCAL work_mem = '64kB'")
        found = """SELECT document FROM embedfleet.search_many(%s, 10, '{"n": 299}')"""
        assert [("d299",)] == login.execute(found, (vector,)).fetchall()


def test_a_role_that_can_read_already_is_not_granted_anything(fleet, docs, reader):
    superuser = ask(fleet, "SELECT current_user")[0][0]
    with pytest.raises(
        GrantUseless, match=r"\(_chunks_1, _documents_1, _texts_1, _vectors_1_1, mine\)"
    ):
        docs.grant(superuser)
    ask(fleet, f"GRANT SELECT ON embedfleet.theirs TO {reader}")
    docs.grant(reader)
    ask(fleet, f"GRANT SELECT (content) ON embedfleet.mine TO {reader}")
    with pytest.raises(GrantUseless, match=r"\(mine\)"):
        docs.grant(reader)


@pytest.fixture
def roles(fleet):
    set_up_roles(fleet.settings.direct_database)
    yield
    for role in ROLES:
        ask(fleet, f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        ask(fleet, f"DROP OWNED BY {role}")
        ask(fleet, f"DROP ROLE {role}")


@pytest.mark.parametrize("group", ["embedfleet_search", "pg_read_all_data"])
def test_nor_is_a_member_of_a_reading_role_who_does_not_inherit(fleet, docs, roles, reader, group):
    ask(fleet, f"ALTER ROLE {reader} NOINHERIT")
    ask(fleet, f"GRANT {group} TO {reader}")
    with pytest.raises(GrantUseless, match=reader):
        docs.grant(reader)
    ask(fleet, f"REVOKE {group} FROM {reader}")


def test_the_function_belongs_to_the_owner_of_the_schema(fleet, docs, roles, reader, login):
    docs.grant(reader)
    owner = "SELECT proowner::regrole::text, prosecdef FROM pg_proc WHERE proname = 'search_mine'"
    assert [("embedfleet_owner", True)] == ask(fleet, owner)
    set_up_roles(fleet.settings.direct_database)
    call = f"SELECT count(*) FROM embedfleet.search_mine('{VECTOR}')"
    assert (1,) == login.execute(call).fetchone()


def test_an_owner_without_other_rights_grants_in_a_new_connection(
    fleet, docs, roles, reader, login
):
    """There pgvector has not declared its settings yet, which only a superuser may set then."""
    owner = f"owner_{uuid4().hex[:12]}"
    ask(fleet, f"CREATE ROLE {owner} LOGIN PASSWORD 'pw' IN ROLE embedfleet_owner")
    try:
        with ef.connect(make_conninfo(fleet.settings.database, user=owner, password="pw")) as own:
            own.collection("mine").grant(reader)
    finally:
        ask(fleet, f"DROP ROLE {owner}")
    call = f"SELECT count(*) FROM embedfleet.search_mine('{VECTOR}')"
    assert (1,) == login.execute(call).fetchone()


def test_a_producer_grants_nothing(fleet, docs, roles, reader):
    ask(fleet, f"GRANT embedfleet_producer TO {reader}")
    url = make_conninfo(fleet.settings.database, user=reader, password="pw")
    other = f"other_{uuid4().hex[:12]}"
    ask(fleet, f"CREATE ROLE {other}")
    try:
        with ef.connect(url) as producer, pytest.raises(NotPermitted):
            producer.collection("mine").grant(other)
    finally:
        ask(fleet, f"DROP ROLE {other}")


def test_what_cannot_be_granted_is_said(fleet, docs, reader):
    with pytest.raises(UnknownRole, match="no role 'nobody\"s'"):
        docs.grant('nobody"s')
    with pytest.raises(UnknownRole):
        docs.revoke("nobody")
    longest = fleet.collection("a" * 56, model="fake/16")
    assert f"search_{'a' * 56}" == longest.grant(reader)
    with pytest.raises(LongName, match="56 characters"):
        fleet.collection("a" * 57, model="fake/16").grant(reader)


def test_nothing_is_granted_on_a_collection_that_is_gone(fleet, docs, reader):
    """Or the next one of that name would be open to whom nobody let in."""
    stale = fleet.collection("mine")
    docs.drop()
    with pytest.raises(CollectionGone, match="dropped"):
        stale.grant(reader)
    # Or dropped just after somebody looked.
    with pytest.raises(CollectionGone, match="dropped"):
        grant(fleet.db, stale.info, reader)
    function = "SELECT to_regproc('embedfleet.search_mine')"
    assert [(None,)] == ask(fleet, function)


def test_grants_at_once_take_turns(fleet, docs, reader):
    with ThreadPoolExecutor(4) as pool:
        assert {"search_mine"} == set(pool.map(docs.grant, [reader] * 8))


def test_from_the_command_line(docs, reader, login, command):
    done = command("collection", "grant", "mine", reader)
    assert (0, f"{reader} may search with embedfleet.search_mine") == (
        done.code,
        done.out.partition("(")[0],
    )
    taken = command("collection", "grant", "mine", reader, "--revoke", "--json")
    assert {
        "name": "mine",
        "role": reader,
        "function": "embedfleet.search_mine",
        "granted": False,
    } == taken.json
    read = command("collection", "grant", "mine", reader, "--view")
    assert f"{reader} may read embedfleet.mine\n" == read.out
    assert [OWN] == [
        set(row)
        for row in login.execute("SELECT document, content, metadata::text FROM embedfleet.mine")
    ]
    taken = command("collection", "grant", "mine", reader, "--view", "--revoke")
    assert f"{reader} may not read embedfleet.mine any more\n" == taken.out
    refused = command("collection", "grant", "mine", "nobody")
    assert (2, True) == (refused.code, "CREATE ROLE nobody" in refused.err)
