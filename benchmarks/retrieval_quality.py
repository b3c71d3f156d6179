"""How good the searches of a model are, and what that costs: `Collection.eval` and `compare`.

With --data, a folder as BEIR has them (corpus.jsonl, queries.jsonl, qrels.tsv); else the docstrings
of the standard library, which are searched for by their own sentences. What is judged is computed
once more by ir-measures, over rankings from `Collection.search`. With --template, only what a
template is worth is measured: with the texts as they are, and without their titles.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers
from embedfleet.cli.parameters import template_text
from embedfleet.evaluation.judgements import read_judgements, read_queries
from embedfleet.evaluation.plot import write_svg
from embedfleet.stdlib_docs import documents

MODEL = "all-MiniLM-L6-v2"


def corpus(data: Path | None, most: int, *, titles: bool = True) -> Iterator[ef.Document]:
    """Without `titles`, texts that begin with their title begin behind it."""
    if data is None:
        yield from documents(most)
        return
    with (data / "corpus.jsonl").open() as file:
        for row in map(json.loads, file):
            title = row.get("title", "")
            text = row["text"] if titles else row["text"].removeprefix(title)
            yield ef.Document(row["_id"], text, {"title": title})


def by_ir_measures(docs: ef.Collection, data: Path) -> dict[str, float]:
    """Of rankings of documents by their best chunks, from a search that finds all chunks."""
    import ir_measures
    from ir_measures import RR, R, nDCG

    run = {}
    for key, text in read_queries(data / "queries.jsonl").items():
        hits = docs.search(text, k=docs.counts().chunks)
        order = list(dict.fromkeys(hit.document for hit in hits))[:10]
        run[key] = {document: float(-rank) for rank, document in enumerate(order)}
    qrels = read_judgements(data / "qrels.tsv")
    found = ir_measures.calc_aggregate([nDCG @ 10, R @ 10, RR], qrels, run)
    return {str(measure): value for measure, value in found.items()}


def compare_templates(fleet: ef.Fleet, data: Path, template: str) -> None:
    judged = (data / "queries.jsonl", data / "qrels.tsv")
    for titles in (True, False):
        for number, each in enumerate(("", template)):
            name = f"docs_{titles:d}_{number}"
            docs = fleet.collection(name, model=MODEL, chunking=ef.Chunking(template=each))
            docs.enqueue(corpus(data, 0, titles=titles)).wait()
            found = docs.eval(*judged)
            print(
                f"{'texts as they are' if titles else 'texts without their titles'}, "
                f"template {each!r}: {docs.counts().chunks:,} chunks, nDCG@10 {found.ndcg:.4f}, "
                f"recall@10 {found.recall:.4f}, MRR {found.mrr:.4f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--documents", type=int, default=300, help="without --data")
    parser.add_argument("--models", nargs="+", default=[MODEL, f"{MODEL}@128"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--template", type=template_text, help="with --data")
    options = parser.parse_args()
    data: Path | None = options.data
    judged = (data / "queries.jsonl", data / "qrels.tsv") if data else (None, None)
    print(machine())
    with scratch_fleet() as fleet, workers(fleet, 2):
        if data is not None and options.template is not None:
            compare_templates(fleet, data, options.template)
            return
        docs = fleet.collection("docs", model=MODEL)
        docs.enqueue(corpus(data, options.documents)).wait()
        for hybrid in (False, True):
            began = time.process_time()
            found = docs.eval(*judged, hybrid=hybrid)
            print(
                f"{'words and vectors' if hybrid else 'vectors'}: {found.queries} queries, "
                f"nDCG@10 {found.ndcg:.4f}, recall@10 {found.recall:.4f}, MRR {found.mrr:.4f}, "
                f"{1e3 * (time.process_time() - began) / found.queries:.0f} ms of this process each"
            )
        if data is not None:
            print("ir-measures, vectors:", by_ir_measures(docs, data))
        compared = docs.compare(options.models, options.sizes, *judged, sample=options.sample)
        for each in compared:
            print(
                f"{each.model}, {each.dimensions} dimensions, chunks of {each.size}: "
                f"nDCG@10 {each.evaluation.ndcg:.4f}, MRR {each.evaluation.mrr:.4f}, "
                f"{each.chunks_per_s or 0:.1f} chunks/s, {each.bytes_per_chunk:,.0f} bytes a chunk"
            )
    if options.svg is not None:
        write_svg(options.svg, compared)


if __name__ == "__main__":
    main()
