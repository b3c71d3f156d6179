"""What a policy decides about an index: pure, by what is stored and what waits."""

import pytest

from embedfleet_schema.store.index_policy import FEW_VECTORS, Standing, decide

MANY = 10 * FEW_VECTORS


@pytest.mark.parametrize(
    ("indexed", "vectors", "waiting", "expected"),
    [
        # A first load, its end, and a trickle after it.
        (False, 0, MANY, "keep"),
        (False, MANY, 0, "build"),
        (True, MANY, MANY // 100, "keep"),
        (True, MANY, 0, "keep"),
        # A second load, smaller than what is there, then as large, under way and over.
        (True, MANY, MANY // 2, "keep"),
        (True, MANY, MANY, "drop"),
        (False, MANY + MANY // 4, 3 * MANY // 4, "build"),
        (False, MANY, 3 * MANY, "keep"),
        (False, 2 * MANY, 0, "build"),
        # Little is compared as fast.
        (False, FEW_VECTORS - 1, 0, "keep"),
        (True, FEW_VECTORS // 2, FEW_VECTORS // 2 - 1, "keep"),
        (False, 0, 0, "keep"),
    ],
)
def test_an_index_goes_for_a_load_as_large_as_what_is_there_and_comes_after_it(
    indexed, vectors, waiting, expected
):
    assert expected == decide(Standing(indexed, vectors, waiting))
