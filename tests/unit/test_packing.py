from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.packing import MAX_TEXTS, pack

texts = st.dictionaries(st.integers(1, 2**63 - 1), st.integers(1, 300), max_size=200)


@given(texts, st.integers(1, 1_000))
def test_every_text_is_in_exactly_one_batch(texts, budget):
    packed = [text_id for batch in pack(texts.items(), budget) for text_id in batch.texts]
    assert sorted(texts) == sorted(packed)


@given(texts, st.integers(1, 1_000))
def test_a_batch_keeps_the_budget_unless_one_text_alone_breaks_it(texts, budget):
    for batch in pack(texts.items(), budget):
        assert batch.tokens == sum(texts[text_id] for text_id in batch.texts)
        assert batch.tokens <= budget or len(batch.texts) == 1


@given(texts, st.integers(1, 1_000))
def test_texts_of_similar_length_share_a_batch(texts, budget):
    longest = [
        max(texts[text_id] for text_id in batch.texts) for batch in pack(texts.items(), budget)
    ]
    shortest = [
        min(texts[text_id] for text_id in batch.texts) for batch in pack(texts.items(), budget)
    ]
    assert all(low >= high for low, high in zip(shortest, longest[1:], strict=False))


def test_the_load_is_spread_evenly():
    packed = pack([(n, 10) for n in range(110)], 1_000)
    assert [550, 550] == [batch.tokens for batch in packed]


def test_a_batch_never_has_more_texts_than_the_largest_request_takes():
    packed = pack([(n, 1) for n in range(5_000)], 1_000_000)
    assert max(len(batch.texts) for batch in packed) == MAX_TEXTS
    assert 5_000 == sum(len(batch.texts) for batch in packed)
