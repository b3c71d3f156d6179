"""Hybrid search: words and vectors in one list, with and without an index on the words."""

import math
import re

import pytest

import embedfleet as ef
from embedfleet_schema.errors import BadArgument, BadFilter, UsageError
from plugins.fleets import ask, drain, filled_by

TEXTS = {
    "valve": "The valve EX-4711 leaks. Close the valve, then call the desk.",
    "pump": "Pumps: the pump stops when the pressure falls.",
    "desk": "Call the desk about holidays.",
    "long": "The valve is mentioned here once, among many other words. " + "Nothing else. " * 20,
    "quote": "It's a 'quoted' word \\ with a backslash & an ampersand.",
}


def make(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(ef.Document(key, text, {"key": key}) for key, text in TEXTS.items())
    drain(worker(batch_tokens_cpu=8_192))


copied_database = filled_by(make)


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs")


def matched(fleet, question, language="simple", filter_=None, k=10):
    statement = (
        "SELECT v.document, m.score FROM embedfleet.matched('docs', %s, %s::regconfig, %s, %s) AS m"
        " JOIN embedfleet.docs AS v USING (id) ORDER BY m.score DESC, m.id"
    )
    return ask(fleet, statement, question, language, filter_, k)


def bm25(question):
    """The formula, over the texts as `simple` reads them."""
    split = {key: re.findall(r"[a-z]+|-[0-9]+", text.lower()) for key, text in TEXTS.items()}
    wanted = set(question.lower().split())
    found = {key: words for key, words in split.items() if wanted & set(words)}
    mean = sum(len(set(words)) for words in found.values()) / len(found)
    scores = {}
    for key, words in found.items():
        length = 0.25 + 0.75 * len(set(words)) / mean
        scores[key] = sum(
            math.log(1 + (len(TEXTS) - n + 0.5) / (n + 0.5))
            * words.count(word)
            * 2.2
            / (words.count(word) + 1.2 * length)
            for word in wanted & set(words)
            for n in [sum(word in others for others in split.values())]
        )
    return scores


@pytest.mark.parametrize("indexed", [False, True])
def test_words_are_ranked_by_bm25(fleet, docs, indexed):
    if indexed:
        assert f"{docs.info.texts}_words" == docs.index_words()
    else:
        ask(fleet, f"ANALYZE embedfleet.{docs.info.vectors}")
    for question in ("valve", "pump pressure", "nothing valve desk"):
        expected = bm25(question)
        found = dict(matched(fleet, question))
        assert expected.keys() == found.keys()
        assert expected == pytest.approx(found)
    assert [] == matched(fleet, "unheard")
    assert [] == matched(fleet, "")


def test_the_index_gives_what_reading_all_texts_gives(fleet, docs):
    questions = ["call the desk", "quoted", "EX-4711", "'; DROP TABLE x; --", "a\\b & c | !d", "%s"]
    ask(fleet, f"ANALYZE embedfleet.{docs.info.vectors}")
    before = [matched(fleet, question) for question in questions]
    docs.index_words()
    assert before == [matched(fleet, question) for question in questions]
    scans = "SELECT pg_stat_get_xact_numscans(%s::regclass)"
    with fleet.db.transaction() as conn:
        conn.execute("SET LOCAL enable_seqscan = off")
        conn.execute("SELECT * FROM embedfleet.matched('docs', 'desk', 'simple', NULL, 5)")
        name = f"embedfleet.{docs.info.texts}_words"
        assert (1,) == conn.execute(scans, (name,)).fetchone()


def test_a_language_knows_endings_and_comes_from_the_index(fleet, docs):
    assert [] == matched(fleet, "leaking")
    assert ["valve"] == [key for key, _ in matched(fleet, "leaking", "english")]
    docs.index_words("english")
    assert docs.index_words("english") is None
    language = "SELECT embedfleet.text_language('docs')::text"
    assert [("english",)] == ask(fleet, language)
    best = docs.hybrid_search("leaking", vector_weight=0.0)[0]
    assert "valve" == best.document
    # In another language, ours is built anew.
    assert f"{docs.info.texts}_words" == docs.index_words("german")
    assert [("german",)] == ask(fleet, language)


def test_both_lists_are_fused_by_reciprocal_rank(fleet, docs):
    vector = str(docs.embed_query("valve desk").tolist())
    call = (
        "SELECT document, score, text_rank, vector_rank"
        " FROM embedfleet.hybrid_search('docs', %s, %s, 5{})"
    )
    words = [key for key, _ in matched(fleet, "valve desk")]
    near = [hit.document for hit in docs.search("valve desk", k=5)]
    for options, weights, constant in (
        ("", (1, 1), 60),
        (", NULL, 'simple', 2, 0.5, 10", (2, 0.5), 10),
    ):
        expected = {}
        for weight, ranked in zip(weights, (words, near), strict=True):
            for rank, key in enumerate(ranked, 1):
                expected[key] = expected.get(key, 0) + weight / (constant + rank)
        rows = ask(fleet, call.format(options), "valve desk", vector)
        assert expected == pytest.approx({key: score for key, score, *_ in rows})
        assert sorted(expected.values(), reverse=True) == pytest.approx([row[1] for row in rows])
        for key, _, text_rank, vector_rank in rows:
            assert text_rank == (words.index(key) + 1 if key in words else None)
            assert vector_rank == near.index(key) + 1


def test_a_filter_holds_for_both(docs):
    hits = docs.hybrid_search("valve", where={"document": {"in": ["long", "pump"]}})
    assert ["long", "pump"] == sorted(hit.document for hit in hits)
    with pytest.raises(BadFilter):
        docs.hybrid_search("valve", where={"x": {"like": 1}})


def test_a_language_that_is_not_there_is_refused(docs):
    with pytest.raises(UsageError, match="does not know the language 'klingon'; there are arabic"):
        docs.index_words("klingon")
    for language in ("klingon", "no such; name"):
        with pytest.raises(UsageError, match=f"the language '{language}'; there are arabic"):
            docs.hybrid_search("valve", language=language)
    with pytest.raises(BadArgument):
        docs.hybrid_search("valve", text_weight=float("nan"))


def test_from_the_command_line(fleet, docs, command):
    assert f"built {docs.info.texts}_words" in command("index", "docs", "--text", "english").out
    found = command("search", "docs", "EX-4711", "--hybrid", "-k", "1", "--json").json
    assert ["valve"] == [hit["document"] for hit in found]
    assert 2 == command("search", "docs", "x", "--hybrid", "--sql").code
    assert 2 == command("index", "docs", "--text", "klingon").code
