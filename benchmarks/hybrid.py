"""Words, vectors and both: which ranks the right documents first, on a collection with judgements.

`--data` is a folder in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels.tsv. Documents are
embedded once, by all-MiniLM-L6-v2. Weight and constant of the fusion are those that are best on one
half of the queries; what is printed is nDCG@10 of the other half, beside the defaults.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from math import log2
from pathlib import Path
from typing import Any

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers

WEIGHTS, CONSTANTS = (0.25, 0.5, 0.7, 1.0, 1.25, 1.5), (10, 20, 60)
DEFAULT = (1.0, 60)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def judgements(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in path.read_text().splitlines()[1:]:
        query, document, grade = line.split()
        found.setdefault(query, {})[document] = int(grade)
    return found


def ndcg(ranked: Iterable[str], grades: dict[str, int], k: int = 10) -> float:
    documents = list(dict.fromkeys(ranked))[:k]
    gain = sum(grades.get(each, 0) / log2(n + 2) for n, each in enumerate(documents))
    best = sorted(grades.values(), reverse=True)[:k]
    return gain / sum(grade / log2(n + 2) for n, grade in enumerate(best))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--language", default="english")
    given = parser.parse_args()
    if given.data is None:
        print("nothing is measured without --data FOLDER, a collection with judgements")
        return
    grades = judgements(given.data / "qrels.tsv")
    queries = [each for each in lines(given.data / "queries.jsonl") if each["_id"] in grades]
    random.Random(0).shuffle(queries)
    print(machine())
    with scratch_fleet() as fleet, workers(fleet, 1):
        docs = fleet.collection("docs", model="all-MiniLM-L6-v2")
        documents = (
            ef.Document(each["_id"], text)
            for each in lines(given.data / "corpus.jsonl")
            if (text := f"{each['title']}\n{each['text']}".strip())
        )
        docs.enqueue(documents).wait()
        docs.index_words(given.language)

        def mean(some: list[dict[str, Any]], weight: float, vector: float, constant: int) -> float:
            scores = []
            for query in some:
                hits = docs.hybrid_search(
                    query["text"],
                    k=100,
                    text_weight=weight,
                    vector_weight=vector,
                    constant=constant,
                )
                scores.append(ndcg((hit.document for hit in hits), grades[query["_id"]]))
            return sum(scores) / len(scores)

        tuned, held_out = queries[: len(queries) // 2], queries[len(queries) // 2 :]
        settings = [(weight, constant) for weight in WEIGHTS for constant in CONSTANTS]
        weight, constant = max(settings, key=lambda each: mean(tuned, each[0], 1.0, each[1]))
        print(f"vectors alone: {mean(held_out, 0.0, 1.0, constant):.4f}")
        print(f"words alone: {mean(held_out, 1.0, 0.0, constant):.4f}")
        print(f"both, text_weight {weight}, constant {constant}: ", end="")
        print(f"{mean(held_out, weight, 1.0, constant):.4f}")
        print(f"both, by default: {mean(held_out, DEFAULT[0], 1.0, DEFAULT[1]):.4f}")


if __name__ == "__main__":
    main()
