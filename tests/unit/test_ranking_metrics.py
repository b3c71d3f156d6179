"""The metrics are those of trec_eval, as ir-measures computes them."""

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, R, nDCG

from embedfleet.evaluation.metrics import mean, score

DOCUMENTS = [f"d{number}" for number in range(25)]
# Of grades below 0, trec_eval's C code reads beyond its tables.
GRADES = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 4), min_size=1, max_size=20)
RANKINGS = st.permutations(DOCUMENTS).flatmap(
    lambda order: st.integers(0, len(order)).map(lambda count: order[:count])
)
QUERIES = st.dictionaries(
    st.sampled_from(["1", "2", "3", "4"]), st.tuples(GRADES, RANKINGS), min_size=1
)


def by_trec_eval(judged, measures):
    qrels = {query: grades for query, (grades, _) in judged.items()}
    run = {
        query: {key: float(-rank) for rank, key in enumerate(ranked)}
        for query, (_, ranked) in judged.items()
        if ranked
    }
    return ir_measures.calc_aggregate(measures, qrels, run)


@given(QUERIES, st.integers(1, 30))
def test_they_are_those_of_trec_eval(judged, k):
    scores = [score(query, ranked, grades, k=k) for query, (grades, ranked) in judged.items()]
    expected = by_trec_eval(judged, [nDCG @ 10, R @ k, RR])
    assert expected[nDCG @ 10] == pytest.approx(mean([s.ndcg for s in scores]), abs=1e-6)
    assert expected[R @ k] == pytest.approx(mean([s.recall for s in scores]), abs=1e-6)
    assert expected[RR] == pytest.approx(mean([s.reciprocal_rank for s in scores]), abs=1e-6)


def test_a_ranking_in_the_order_of_the_grades_is_perfect():
    found = score("q", ["a", "b", "c"], {"a": 3, "b": 1, "x": 0}, k=2)
    assert (1.0, 1.0, 1.0) == (found.ndcg, found.recall, found.reciprocal_rank)
    assert 0.5 == score("q", ["c", "a"], {"a": 3, "b": 1}, k=2).recall


def test_nothing_relevant_is_nothing_found():
    found = score("q", ["a"], {"a": 0, "b": -1}, k=5)
    assert (0.0, 0.0, 0.0) == (found.ndcg, found.recall, found.reciprocal_rank)
    assert 0.0 == mean([])
