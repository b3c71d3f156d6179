"""How good searches are, by judgements of documents; models and sizes side by side."""

import json
from xml.etree import ElementTree as ET

import ir_measures
import pytest
from ir_measures import RR, R, nDCG

import embedfleet as ef
from embedfleet.evaluation import comparison, scratch
from embedfleet.evaluation.scratch import PREFIX
from embedfleet_schema.errors import BadChunking, ModelNotFound, NoWorker, UsageError
from embedfleet_schema.leadership import COMPARISON, Leadership
from plugins.fleets import drain, filled_by

WORDS = [f"word{n}" for n in range(60)]
TEXTS = {
    f"doc {n}.md": " ".join(WORDS[n : n + 20]) + f". The sentence number {n} is of its own. End."
    for n in range(30)
}
QUERIES = {str(n): f"word{n} and word{n + 3}" for n in range(8)}
QRELS = {
    str(n): {f"doc {n}.md": 2, f"doc {n + 1}.md": 1, f"doc {n + 2}.md": 0, "gone.md": n % 2}
    for n in range(8)
}


def make(fleet, worker):
    docs = fleet.collection("docs", model="fake/16", chunking=ef.Chunking(size=8))
    docs.enqueue(ef.Document(key, text, {"n": 1}) for key, text in TEXTS.items())
    drain(worker(batch_tokens_cpu=8_192))


copied_database = filled_by(make)


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs")


@pytest.fixture
def files(tmp_path):
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text(
        "".join(json.dumps({"_id": k, "text": t}) + "\n" for k, t in QUERIES.items())
    )
    rows = [(q, d, grade) for q, grades in QRELS.items() for d, grade in grades.items()]
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    qrels.write_text("\n".join(lines) + "\n")
    return queries, qrels


def ranked(docs, text, count, *, hybrid):
    """The documents that a person would find, reading on until there are enough.

    A hybrid search fuses as many candidates as it is asked for, so it matters how many those are.
    """
    hits = docs.search(text, k=1_000)
    for k in (2 * count, 8 * count, 32 * count) if hybrid else ():
        hits = docs.hybrid_search(text, k=k)
        if len({hit.document for hit in hits}) >= count:
            break
    return list(dict.fromkeys(hit.document for hit in hits))[:count]


def by_ir_measures(docs, k, *, hybrid=False):
    run = {
        query: {
            key: float(-rank)
            for rank, key in enumerate(ranked(docs, text, max(k, 10), hybrid=hybrid))
        }
        for query, text in QUERIES.items()
    }
    found = ir_measures.calc_aggregate([nDCG @ 10, R @ k, RR], QRELS, run)
    return [found[nDCG @ 10], found[R @ k], found[RR]]


@pytest.mark.parametrize("k", [3, 20])
@pytest.mark.parametrize("indexed", [False, True])
def test_the_figures_are_those_of_ir_measures(docs, k, indexed):
    if indexed:
        docs.index()
    found = docs.eval(QUERIES, QRELS, k=k)
    assert by_ir_measures(docs, k) == pytest.approx([found.ndcg, found.recall, found.mrr], abs=1e-4)
    assert (8, 10, 1) == (found.queries, found.relevant, found.missing)
    assert not found.known_items
    assert 0 < found.mrr < 1


def test_so_are_those_of_hybrid_searches(docs):
    found = docs.eval(QUERIES, QRELS, k=5, hybrid=True)
    expected = by_ir_measures(docs, 5, hybrid=True)
    assert expected == pytest.approx([found.ndcg, found.recall, found.mrr], abs=1e-4)
    assert found.mrr > docs.eval(QUERIES, QRELS, k=5).mrr


def test_files_say_the_same_as_mappings(docs, files):
    assert docs.eval(QUERIES, QRELS) == docs.eval(*files)
    assert docs.eval(QUERIES, QRELS) == docs.eval(*map(str, files))


def test_what_is_left_out_is_counted(docs):
    qrels = {**QRELS, "no text": {"doc 1.md": 1}}
    found = docs.eval({**QUERIES, "unjudged": "word", "0": " "}, qrels)
    assert (1, 1, 1) == (found.without_judgement, found.without_text, found.unreadable)
    assert 0.0 == found.scores[0].ndcg
    assert 8 == found.queries


def test_a_judged_key_is_found_in_either_unicode_form(fleet, docs, worker):
    composed, apart = "caf\u00e9.md", "cafe\u0301.md"
    docs.enqueue([ef.Document(composed, "coffee and cake"), ef.Document("\u00e9", "tea")])
    drain(worker())
    found = docs.eval({"q": "coffee and cake"}, {"q": {apart: 1}}, k=1_000)
    assert (1.0, 0) == (found.recall, found.missing)
    found = docs.eval({"q": "coffee"}, {"q": {"\u00e9": 1, "gone\0": 1, "\ud800": 1}}, k=1_000)
    assert (1 / 3, 2) == (pytest.approx(found.recall), found.missing)


def test_without_judgements_documents_are_looked_for_by_their_sentences(docs):
    found = docs.eval(sample=12, hybrid=True)
    assert (12, True, 12) == (found.queries, found.known_items, found.relevant)
    assert found.mrr > docs.eval(sample=12).mrr
    assert found == docs.eval(sample=12, hybrid=True)


def test_what_cannot_be_evaluated_says_why(fleet, docs):
    with pytest.raises(UsageError, match=r"go together; give qrels, too"):
        docs.eval(QUERIES)
    with pytest.raises(UsageError, match=r"none of the queries \('0', '1', '2', ...\) is judged"):
        docs.eval(QUERIES, {"x": {"doc 1.md": 1}})
    with pytest.raises(
        UsageError, match=r"such as '1', and those of the collection are such as 'd"
    ):
        docs.eval(QUERIES, {"0": {"1": 1}})
    with pytest.raises(UsageError, match="no grade is above 0"):
        docs.eval(QUERIES, {"0": {"doc 1.md": 0}})
    with pytest.raises(UsageError, match="empty has no live documents"):
        fleet.collection("empty", model="fake/16").eval()


def test_from_the_command_line(docs, files, command):
    queries, qrels = files
    answer = command("eval", "docs", "--queries", queries, "--qrels", qrels, "-k", 5)
    found = docs.eval(QUERIES, QRELS, k=5)
    assert "docs: fake/16, 8 queries, by vectors" in answer.out
    assert f"nDCG@10      {found.ndcg:.4f}" in answer.out
    assert f"recall@5     {found.recall:.4f}" in answer.out
    assert "1 of 10 relevant documents are not in the collection" in answer.err
    answer = command("eval", "docs", "--queries", queries, "--qrels", qrels, "--hybrid", "--json")
    assert docs.eval(QUERIES, QRELS, hybrid=True).ndcg == pytest.approx(answer.json["ndcg"])
    assert "Nobody judged" in command("eval", "docs", "--sample", 5).err
    assert 2 == command("eval", "docs", "--queries", queries).code
    assert 2 == command("eval", "docs", "--plot", "x.svg").code
    assert 2 == command("eval", "docs", "--chunks", "8", "--plot", files[0].parent).code
    assert 2 == command("eval", "docs", "--chunks", "200,many").code


def names(fleet):
    return [each.name for each in fleet.collections()]


def test_models_and_sizes_are_set_side_by_side(fleet, docs, embedding):
    found = docs.compare(["fake/16", "fake/32"], [8, 40], QUERIES, QRELS, sample=20)
    assert [("fake/16", 16, 8), ("fake/16", 16, 40), ("fake/32", 32, 8), ("fake/32", 32, 40)] == [
        (each.model, each.dimensions, each.size) for each in found
    ]
    assert ["docs"] == names(fleet)
    assert found[0].chunks == found[2].chunks > found[1].chunks == found[3].chunks
    for each in found:
        assert (20, 0, 0) == (each.documents, each.ready_made, each.failed)
        assert (0.0, 8) == (each.usd, each.evaluation.queries)
        assert each.bytes_per_chunk > 4 * each.dimensions
    # All that is judged is in the sample but for what the collection does not have, and a space of
    # the fake model gives the same vectors whichever collection asks.
    whole = docs.compare([], [], QUERIES, QRELS, sample=1_000)
    own = docs.eval(
        QUERIES, {q: {d: g for d, g in r.items() if d in TEXTS} for q, r in QRELS.items()}
    )
    (same,) = whole
    assert (30, 8) == (same.documents, same.size)
    assert own.ndcg == pytest.approx(same.evaluation.ndcg)
    assert own.mrr == pytest.approx(same.evaluation.mrr)


def test_a_table_and_an_svg_come_of_the_command(fleet, docs, command, embedding, tmp_path):
    plot = tmp_path / "compared.svg"
    words = ("--compare", "fake/16,fake/32", "--chunks", "8,40", "--sample", "20")
    answer = command("eval", "docs", *words, "--plot", plot)
    assert 0 == answer.code, answer.err
    assert "nDCG@10" in answer.out
    assert 4 == sum(line.startswith("fake/") for line in answer.out.splitlines())
    assert "Nobody judged" in answer.err
    texts = [each.text for each in ET.parse(plot).iter() if each.tag.endswith("}text")]
    assert {"nDCG@10", "chunks/s", "8", "40", "fake/16, 16 dimensions"} <= set(texts)
    assert 4 == len(command("eval", "docs", *words, "--json").json)
    assert ["docs"] == names(fleet)


def test_what_a_killed_comparison_left_is_dropped_and_what_is_interrupted_leaves_nothing(
    fleet, docs, monkeypatch
):
    fleet.collection(f"{PREFIX}7", model="fake/16").enqueue([ef.Document("a", "left waiting")])
    fleet.collection(f"{PREFIX}of_mine", model="fake/16")
    asked = []

    def interrupted(self, **_):
        asked.append(names(fleet))
        raise KeyboardInterrupt

    monkeypatch.setattr(ef.Job, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        docs.compare(["fake/32"], [8])
    assert [["docs", f"{PREFIX}1", f"{PREFIX}of_mine"]] == asked
    assert ["docs", f"{PREFIX}of_mine"] == names(fleet)


def test_one_comparison_runs_at_a_time(fleet, docs):
    fleet.collection(f"{PREFIX}1", model="fake/16")
    other = Leadership(fleet.db, COMPARISON)
    assert other.take()
    try:
        with pytest.raises(UsageError, match="another comparison runs"):
            docs.compare(["fake/32"])
        assert f"{PREFIX}1" in names(fleet)
    finally:
        other.give_back()


def test_what_cannot_be_compared_is_refused_before_anything_is_made(fleet, docs, monkeypatch):
    monkeypatch.setattr(scratch, "made", None)
    monkeypatch.setattr(comparison, "made", None)
    with pytest.raises(BadChunking):
        docs.compare(["fake/16"], [8, 100_000])
    with pytest.raises(ModelNotFound):
        docs.compare(["fake/16", "/no/such/model"])
    with pytest.raises(UsageError, match="no document that is judged"):
        docs.compare(["fake/16"], [], QUERIES, {"0": {"gone.md": 1}})
    assert ["docs"] == names(fleet)


def test_without_a_worker_it_says_how_to_start_one(fleet, docs, monkeypatch):
    monkeypatch.setattr("embedfleet.waiting.NO_WORKER_S", 0.2)
    monkeypatch.setitem(ef.Job.wait.__wrapped__.__kwdefaults__, "no_worker_s", 0.2)
    with pytest.raises(NoWorker):
        docs.compare(["fake/32"], sample=3)
    assert ["docs"] == names(fleet)
