from hypothesis import given
from hypothesis import strategies as st

from embedfleet_workers.embedders.packing import (
    PADDED_SHARE,
    WORTH_IT,
    TokenBudget,
    pack_by_length,
)

lengths = st.lists(st.integers(0, 300), max_size=80)
budgets = st.integers(1, 2_000)
streams = st.integers(1, 5)


@given(lengths, budgets, streams)
def test_every_text_is_in_exactly_one_pack(lengths, budget, streams):
    packs = pack_by_length(lengths, budget, streams)
    assert sorted(index for pack in packs for index in pack) == list(range(len(lengths)))
    assert all(packs)


@given(lengths, budgets, streams)
def test_no_pack_but_a_single_text_exceeds_the_budget(lengths, budget, streams):
    for pack in pack_by_length(lengths, budget):
        assert len(pack) == 1 or len(pack) * max(lengths[index] for index in pack) <= budget


@given(lengths, budgets, streams)
def test_the_longest_come_first(lengths, budget, streams):
    packs = pack_by_length(lengths, budget, streams)
    in_order = [lengths[index] for pack in packs for index in pack]
    assert in_order == sorted(lengths, reverse=True)


@given(lengths, budgets)
def test_what_is_worth_a_call_is_not_filled_up_with_padding(lengths, budget):
    for pack in pack_by_length(lengths, budget):
        width = max(1, lengths[pack[0]])
        padding = len(pack) * width - sum(lengths[index] for index in pack)
        was_worth_it = (len(pack) - 1) * width >= max(1, budget // WORTH_IT)
        assert not was_worth_it or padding <= PADDED_SHARE * len(pack) * width


def test_a_pack_ends_where_lengths_fall_off():
    pack, *others = pack_by_length([100] * 6 + [60] * 30, 2_000)
    assert list(range(6)) == pack
    assert 30 == sum(map(len, others))


def test_the_last_packs_are_cut_so_that_no_stream_is_idle():
    assert pack_by_length([10] * 6, 40, 2) == [[0, 1, 2, 3], [4, 5]]
    assert pack_by_length([10] * 4, 40, 2) == [[0, 1], [2, 3]]
    assert pack_by_length([10] * 10, 40, 2) == [[0, 1, 2, 3], [4, 5, 6, 7], [8], [9]]
    assert pack_by_length([10], 40, 2) == [[0]]


def test_a_budget_shrinks_at_once_and_grows_back_to_its_ceiling():
    budget = TokenBudget(1_000)
    budget.shrink()
    assert budget.tokens == 500
    budget.grow()
    assert 500 < budget.tokens < 520
    for _ in range(100):
        budget.grow()
    assert budget.tokens == 1_000


def test_a_budget_never_shrinks_to_nothing():
    budget = TokenBudget(2)
    for _ in range(5):
        budget.shrink()
    assert budget.tokens == 1
