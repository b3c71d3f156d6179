"""The texts and the measure by which two models are told from each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.errors import ModelRefused
from embedfleet_schema.types import Space
from embedfleet_workers import selfcheck
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.embedders.probes import LONGEST_TOKENS, agreement, probe_texts
from embedfleet_workers.selfcheck import checked_embedder


@given(st.integers(1, 100_000))
def test_the_last_text_is_longer_than_the_model_takes_as_far_as_that_is_tried(max_tokens):
    *others, longest = probe_texts(max_tokens)
    assert len(longest.split()) > min(max_tokens, LONGEST_TOKENS)
    assert len(longest.split()) <= 2 * LONGEST_TOKENS
    assert all(others)


def test_agreement_is_the_cosine_of_vectors_of_one_length_and_less_of_others():
    one = fake_vectors(Space("fake", "64", 64, 512), ["a", "b", "c"], "document")
    other = fake_vectors(Space("fake", "64", 64, 512), ["a", "x", "c"], "document")
    np.testing.assert_allclose(agreement(one, other), (one * other).sum(axis=1), atol=1e-6)
    assert 0.9 > agreement(one, one * 2).max()
    assert agreement(one, np.zeros_like(one)).max() < 0


def test_the_files_of_a_model_that_is_not_allowed_are_not_looked_for(monkeypatch):
    monkeypatch.setattr(selfcheck, "file_digests", lambda _: pytest.fail("they were"))
    with pytest.raises(ModelRefused, match="loads only fake/"):
        checked_embedder(
            None, Space("local", "m", 8, 512), None, allowed_models=["fake/*"], records=True
        )


@pytest.mark.parametrize("provider", ["fake", "openai"])
def test_models_that_cannot_differ_or_cost_money_are_not_tried(provider):
    class Untouchable:
        """Fails whatever is asked of it."""

    space = Space(provider, "m", 8, 512)
    embedder = checked_embedder(Untouchable(), space, Untouchable, records=True)
    assert isinstance(embedder, Untouchable)
