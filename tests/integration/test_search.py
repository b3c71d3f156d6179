"""Search through the view: order, filters, the index, and what is refused."""

import numpy as np
import psycopg
import pytest

import embedfleet as ef
from embedfleet_schema.errors import BadFilter, BadVector
from plugins.fleets import ask, drain, filled_by


def grouped(count):
    return [ef.Document(f"d{n}", f"text number {n}", {"group": n % 100}) for n in range(count)]


def fill(fleet, worker):
    docs = fleet.collection("docs", model="fake/32")
    docs.enqueue(grouped(300))
    drain(worker(batch_tokens_cpu=8_192))


copied_database = filled_by(fill)


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs")


def exact_order(fleet, docs, vector, limit):
    statement = f"SELECT document FROM embedfleet.{docs.name} ORDER BY embedding <=> %s LIMIT %s"
    with fleet.db.transaction() as conn:
        conn.execute("SET LOCAL search_path = public")
        return [key for (key,) in conn.execute(statement, (vector, limit))]


def test_hits_come_best_first_with_their_score(fleet, docs):
    vector = docs.embed_query("anything")
    hits = docs.search("anything", k=10)
    assert exact_order(fleet, docs, vector, 10) == [hit.document for hit in hits]
    assert sorted((hit.score for hit in hits), reverse=True) == [hit.score for hit in hits]
    (best,) = docs.search(vector, k=1)
    assert hits[0] == best


def test_a_hit_tells_all_about_its_chunk(docs):
    (hit,) = docs.search(
        "anything",
        k=1,
        where={
            "group": 7,
        },
    )
    assert hit.metadata == {"group": 7}
    number = int(hit.document.removeprefix("d"))
    assert (f"text number {number}", 0) == (hit.content, hit.position)
    assert number % 100 == 7


def test_an_index_is_built_once_and_used(fleet, docs):
    name = docs.index()
    assert name is not None
    assert docs.index() is None
    assert docs.counts().indexed
    statement = docs.search_sql(k=5).replace("$1", f"'{docs.embed_query('x').tolist()}'")
    with fleet.db.transaction() as conn:
        # A small table is read whole unless that is made dear.
        conn.execute("SET LOCAL enable_seqscan = off")
        conn.execute("SET LOCAL enable_sort = off")
        rows = conn.execute(statement).fetchall()
        scans = conn.execute(
            "SELECT pg_stat_get_xact_numscans(%s::regclass)", (f"embedfleet.{name}",)
        ).fetchone()
    assert (1,) == scans
    # A relaxed scan may give them slightly out of order.
    assert sorted(rows, key=lambda row: -row[-1]) == rows


def test_an_index_that_was_left_half_built_is_built_again(fleet, docs):
    name = docs.index()
    with fleet.db.transaction() as conn:
        conn.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
            (f"embedfleet.{name}",),
        )
    assert not docs.counts().indexed
    assert docs.index() == name
    assert docs.counts().indexed


def test_a_rare_filter_still_gets_all_its_hits_with_an_index(fleet, docs):
    docs.index()
    for n in range(20):
        hits = docs.search(f"question {n}", k=3, where={"group": n})
        assert [n] * 3 == [hit.metadata["group"] for hit in hits]


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_every_metric_and_storage_finds_a_text_by_its_own_vector(fleet, worker, metric, storage):
    name = f"c_{metric}_{storage}"
    docs = fleet.collection(name, model="fake/32", metric=metric, storage=storage)
    docs.enqueue(grouped(20))
    drain(worker())
    docs.index()
    with fleet.db.transaction() as conn:
        statement = f"SELECT embedding FROM embedfleet.{name} WHERE document = 'd7'"
        ((stored,),) = conn.execute(statement).fetchall()
    vector = np.asarray(stored.to_list() if storage == "halfvec" else stored.to_numpy(), "float32")
    (hit,) = docs.search(vector, k=1)
    assert hit.document == "d7"


@pytest.mark.parametrize(
    "vector", [[0.0] * 31, [0.0] * 33, [[0.0] * 32], [float("nan")] * 32, [float("inf")] * 32]
)
def test_a_vector_that_does_not_fit_is_refused(docs, vector):
    with pytest.raises(BadVector):
        docs.search(vector)


@pytest.mark.parametrize(
    "where", [{"x": float("nan")}, {"x": {1, 2}}, {"x": "\0"}, {"x": {"like": 1}}, {"or": 1}]
)
def test_a_filter_that_is_not_json_is_refused(docs, where):
    with pytest.raises(BadFilter):
        docs.search("anything", where=where)


def test_a_filter_may_hold_the_letters_of_an_escape(fleet, docs, worker):
    docs.enqueue([ef.Document("odd", "text", {"path": "c:\\u0000"})])
    drain(worker())
    assert ["odd"] == [hit.document for hit in docs.search("x", where={"path": "c:\\u0000"})]


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE embedfleet._chunks_1; --", '"}', "%s", "\\'", "$1"]
)
def test_a_filter_is_never_read_as_sql(docs, text):
    assert docs.search("anything", where={"x": text}) == []
    assert docs.counts().documents == 300


def test_a_zero_vector_cannot_be_stored(fleet, docs):
    with pytest.raises(psycopg.errors.CheckViolation), fleet.db.transaction() as conn:
        conn.execute(
            f"INSERT INTO embedfleet.{docs.info.vectors} VALUES (0, %s::public.vector)",
            (str([0.0] * 32),),
        )


def test_a_filter_on_keys_and_ranges_finds_what_it_says(docs):
    hits = docs.search(
        "x", k=50, where={"group": {"gte": 7, "lt": 9}, "document": {"prefix": "d1"}}
    )
    assert {"d107", "d108"} == {hit.document for hit in hits}


def test_a_least_score_leaves_out_what_is_less_alike(docs):
    hits = docs.search("anything", k=10)
    least = hits[3].score
    assert hits[:4] == docs.search("anything", k=10, min_score=least)
    assert [] == docs.search("anything", k=10, min_score=hits[0].score + 1e-6)


def test_a_search_leaves_the_settings_of_its_caller(fleet, docs):
    names = [
        "hnsw.iterative_scan",
        "hnsw.ef_search",
        "hnsw.max_scan_tuples",
        "hnsw.scan_mem_multiplier",
        "enable_seqscan",
        "join_collapse_limit",
        "jit",
    ]
    docs.index()
    docs.index_filters()
    vector = str(docs.embed_query("x").tolist())
    shown = "SELECT current_setting(name, true) FROM unnest(%s::text[]) AS name"
    calls = [
        "SELECT * FROM embedfleet.search('docs', %s, 5)",
        "SELECT * FROM embedfleet.search('docs', %s, 5, '{\"group\": 7}')",
        "SELECT * FROM embedfleet.search('docs', %s, 5, '{\"group\": {\"gte\": 99}}')",
    ]
    with psycopg.connect(fleet.settings.direct_database) as conn:
        conn.execute("SELECT '[1]'::public.vector")
        conn.execute("SET hnsw.ef_search = 41; SET hnsw.iterative_scan = strict_order")
        before = conn.execute(shown, (names,)).fetchall()
        for call in calls:
            assert conn.execute(call, (vector,)).fetchall()
            assert before == conn.execute(shown, (names,)).fetchall()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("'nothing', '[1]'", psycopg.errors.UndefinedTable),
        ("'alembic_version', '[1]'", psycopg.errors.UndefinedTable),
        ("'docs', NULL", psycopg.errors.InvalidParameterValue),
        ("'docs', '[1]'", psycopg.errors.DataException),
        ("'docs', {vector}, NULL", psycopg.errors.InvalidParameterValue),
        ("'docs', {vector}, 0", psycopg.errors.InvalidParameterValue),
        ("'docs', {vector}, 5, '[]'", psycopg.errors.InvalidParameterValue),
        ("NULL, {vector}", psycopg.errors.UndefinedTable),
    ],
)
def test_what_the_function_cannot_do_is_said(fleet, docs, call, error):
    vector = f"'{[1.0] * 32}'"
    with pytest.raises(error):
        ask(fleet, f"SELECT * FROM embedfleet.search({call.format(vector=vector)})")
