"""What a reranker is worth and what it takes, on a collection with judgements.

`--data` is a folder in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels.tsv; `--rerank` a
model as `embedfleet search --rerank` takes it. Printed are nDCG@10 and MRR of the search by vector,
and of its first `--top` chunks in the reranker's order, with the seconds that the median query
takes. A random permutation of the same hits shows what a model without knowledge would do.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers
from embedfleet.reranking import RERANK_TOP
from hybrid import judgements, lines, ndcg


def reciprocal(ranked: list[str], grades: dict[str, int]) -> float:
    found = (rank for rank, each in enumerate(dict.fromkeys(ranked), 1) if grades.get(each, 0) > 0)
    return 1 / next(found, float("inf"))


class Measured:
    """One order of the hits, over all queries."""

    def __init__(self) -> None:
        self.gains: list[float] = []
        self.ranks: list[float] = []

    def add(self, hits: list[ef.Hit], grades: dict[str, int]) -> None:
        order = [hit.document for hit in hits]
        self.gains.append(ndcg(order, grades))
        self.ranks.append(reciprocal(order, grades))

    def __str__(self) -> str:
        means = (statistics.fmean(each) for each in (self.gains, self.ranks))
        return "nDCG@10 {:.4f}, MRR {:.4f}".format(*means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rerank", metavar="MODEL")
    parser.add_argument("--top", type=int, default=RERANK_TOP)
    parser.add_argument("--queries", type=int, default=1_000)
    given = parser.parse_args()
    if given.data is None or given.rerank is None:
        print("nothing is measured without --data FOLDER and --rerank MODEL")
        return
    grades = judgements(given.data / "qrels.tsv")
    queries = [each for each in lines(given.data / "queries.jsonl") if each["_id"] in grades]
    print(machine())
    with scratch_fleet() as fleet, workers(fleet, 1):
        docs = fleet.collection("docs", model="all-MiniLM-L6-v2")
        documents = (
            ef.Document(each["_id"], text)
            for each in lines(given.data / "corpus.jsonl")
            if (text := f"{each['title']}\n{each['text']}".strip())
        )
        docs.enqueue(documents).wait()
        plain, drawn, reranked = Measured(), Measured(), Measured()
        seconds = []
        for query in queries[: given.queries]:
            hits = docs.search(query["text"], k=given.top)
            began = time.perf_counter()
            ordered = docs.reranked(query["text"], hits, given.rerank)
            seconds.append(time.perf_counter() - began)
            shuffled = random.Random(query["_id"]).sample(hits, len(hits))
            for measured, order in ((plain, hits), (drawn, shuffled), (reranked, ordered)):
                measured.add(order, grades[query["_id"]])
    print(f"by vector: {plain}")
    print(f"the same {given.top} in random order: {drawn}")
    print(f"by {given.rerank}: {reranked}, {statistics.median(seconds):.2f} s a query")


if __name__ == "__main__":
    main()
