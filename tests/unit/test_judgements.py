"""Queries and judgements as BEIR and TREC have them; sentences in place of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.evaluation.judgements import read_judgements, read_queries
from embedfleet.evaluation.known_items import known_items, sentence
from embedfleet.evaluation.resampled import document
from embedfleet_producer.chunking import Chunker
from embedfleet_producer.tokens import counter_for
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import UsageError
from embedfleet_schema.store.samples import StoredChunk
from embedfleet_schema.types import Chunking

TREC = "1 0 184 3\n1 0 a/b.md 0\n2\tQ0\tmy file.txt\t1\n"
BEIR = "\ufeffquery-id\tcorpus-id\tscore\n1\t184\t3\n1\ta/b.md\t0\n\n2\tmy file.txt\t1\n"
JUDGED = {"1": {"184": 3, "a/b.md": 0}, "2": {"my file.txt": 1}}


@pytest.mark.parametrize("text", [TREC, BEIR, BEIR.partition("\n")[2]])
def test_both_formats_say_the_same(tmp_path, text):
    (file := tmp_path / "qrels").write_text(text)
    assert JUDGED == read_judgements(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 184\n", "line 1: a judgement has 3 columns"),
        ("1\t2\t3\n1\t2\tx\n", "line 2: the grade 'x' is no whole number"),
        ("1 0 2 yes\n", "line 1: the grade 'yes'"),
        ("1 0 2 1\n1 0 2 2\n", "line 2: document '2' has two grades for query '1'"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgements"),
        ("", "holds no judgements"),
    ],
)
def test_what_is_no_judgement_is_refused_with_its_line(tmp_path, text, reason):
    (file := tmp_path / "qrels").write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_judgements(file)


def test_queries_come_by_their_ids(tmp_path):
    (file := tmp_path / "q.jsonl").write_text(
        '{"_id": 1, "text": "a"}\n{"id": "x", "query": "b"}\n'
    )
    assert {"1": "a", "x": "b"} == read_queries(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", 'line 1: a query is {"_id"'),
        ('{"_id": "1"}', "line 1: a query is"),
        ("{", "line 1: it is not JSON"),
        ('{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}', "line 2: the query '1' is there"),
        ("\n", "holds no queries"),
    ],
)
def test_what_is_no_query_is_refused_with_its_line(tmp_path, text, reason):
    (file := tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(UsageError, match=reason.replace("{", r"\{")):
        read_queries(file)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone cannot be read: No such file"):
        read_queries(tmp_path / "gone")
    (file := tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        read_judgements(file)


def test_a_known_item_is_a_sentence_of_its_document_and_the_same_each_time():
    chunks = [
        "One two three. The valve of the pump leaks since Monday. Short one.",
        "Call the desk.",
    ]
    assert "The valve of the pump leaks since Monday." == sentence("a", chunks)
    assert "Call the desk." == sentence("a", chunks[1:])
    assert 40 == len(sentence("a", ["word " * 100]).split())
    queries, judged = known_items([("a", chunks), ("b", chunks), ("c", []), ("d", ["other"])])
    assert {"a", "b", "d"} == queries.keys()
    assert {"a": 1, "b": 1} == judged["a"] == judged["b"]
    assert {"d": 1} == judged["d"]


@given(st.text(st.sampled_from("ab .\n"), min_size=1), st.integers(1, 6), st.integers(0, 2))
def test_a_text_comes_back_from_its_chunks_but_for_white_space(text, size, overlap):
    space = resolve_space("fake/8")
    cut = Chunking(size, min(overlap, size - 1))
    chunker = Chunker(space, cut, counter_for(space, cut))
    chunks = [
        StoredChunk(each.start, each.content, of_markdown=False) for each in chunker.chunk(text)
    ]
    found = document("key", chunks)
    assert text.split() == (found.text or "").split()
    assert len(text.rstrip()) == len(found.text or "")


def test_ready_made_chunks_stay():
    found = document(
        "key",
        [StoredChunk(None, "one", of_markdown=False), StoredChunk(None, "two", of_markdown=False)],
    )
    assert (None, ["one", "two"]) == (found.text, found.chunks)
    assert "markdown" == document("key", [StoredChunk(0, "# a", of_markdown=True)]).mode
