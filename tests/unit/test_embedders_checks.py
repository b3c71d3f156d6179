import numpy as np
import pytest

from embedfleet_schema.types import Space
from embedfleet_workers.embedders.checks import checked
from embedfleet_workers.embedding_errors import BadAnswer

SPACE = Space("fake", "4", 4, 256)
LOOSE = Space("fake", "4", 4, 256, normalized=False)
HALVES = Space("fake", "4", 4, 256, normalized=False, storage="halfvec")


def units(count=3):
    return np.eye(4, dtype=np.float32)[:count]


def with_row(row, values):
    vectors = units()
    vectors[row] = values
    return vectors


def test_good_vectors_pass_unchanged():
    np.testing.assert_array_equal(units(), checked(units(), 3, SPACE))


@pytest.mark.parametrize(
    "answer",
    [units().tolist(), units().astype(np.float64), np.asfortranarray(units()), units(4)[::-1][:3]],
)
def test_other_layouts_of_floating_numbers_become_contiguous_float32(answer):
    matrix = checked(answer, 3, SPACE)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    np.testing.assert_array_equal(np.asarray(answer), matrix)


def test_no_vectors_for_no_texts_is_right():
    for empty in ([], np.empty((0, 4)), np.empty((0, 4), np.float32)):
        assert checked(empty, 0, SPACE).shape == (0, 4)


@pytest.mark.parametrize(
    ("answer", "space", "message"),
    [
        (units(2), SPACE, "2 vectors for 3 texts"),
        (units(4), SPACE, "4 vectors for 3 texts"),
        ([], SPACE, "0 vectors for 3 texts"),
        (units()[:, :3], SPACE, "3 dimensions, fake/4 has 4"),
        (units()[0], SPACE, r"array of shape \(4,\)"),
        ([[1.0], [1.0, 2.0]], SPACE, "not a matrix"),
        (units().astype(np.int64), SPACE, "type int64"),
        ([["a", "b", "c", "d"]] * 3, SPACE, "not floating-point"),
        (with_row(1, np.nan), SPACE, "row 1 holds a value that is not finite"),
        (with_row(2, np.inf), SPACE, "row 2 holds a value that is not finite"),
        (with_row(0, [1, 0, 0, np.nan]), LOOSE, "row 0 holds a value that is not finite"),
        (units().astype(np.float64) * 1e300, LOOSE, "not finite"),
        (with_row(1, 0), SPACE, "row 1 is a zero vector"),
        (np.zeros((3, 4)), SPACE, r"row 0 \(and 2 more\) is a zero vector"),
        (with_row(1, 0.51), SPACE, "row 1 is not of unit length"),
        (with_row(1, 70_000), HALVES, "row 1 has a value too large for halfvec"),
        (with_row(1, 1e-9), HALVES, "row 1 becomes a zero vector as halfvec"),
    ],
)
def test_an_unusable_answer_is_named(answer, space, message):
    with pytest.raises(BadAnswer, match=message):
        checked(answer, 3, space)


@pytest.mark.parametrize("length", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_any_finite_length_passes_where_the_space_is_not_normalized(length):
    vectors = units() * np.float32(length)
    np.testing.assert_array_equal(vectors, checked(vectors, 3, LOOSE))


def test_rounding_in_half_precision_still_counts_as_unit_length():
    vectors = np.full((1, 4), 0.5) * (1 + 9e-4)
    assert checked(vectors, 1, SPACE).shape == (1, 4)
