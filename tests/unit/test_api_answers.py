import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.types import Space
from embedfleet_workers.embedders.api.answers import vectors_of
from embedfleet_workers.embedding_errors import BadAnswer

SPACE = Space("openai", "m", 4, 256)
LOOSE = Space("openai", "m", 4, 256, normalized=False)


def packed(values, dtype="<f4"):
    return base64.b64encode(np.asarray(values, dtype=dtype).tobytes()).decode()


def test_base64_and_lists_give_the_same_unit_vectors():
    rows = [[3.0, 0.0, 4.0, 0.0], [0.0, -2.0, 0.0, 0.0]]
    expected = np.array([[0.6, 0, 0.8, 0], [0, -1, 0, 0]], dtype=np.float32)
    for items in (list(enumerate(rows)), [(0, packed(rows[0])), (1, packed(rows[1]))]):
        found = vectors_of(items, 2, SPACE)
        np.testing.assert_allclose(expected, found, atol=1e-7)
        assert (np.float32, True) == (found.dtype, found.flags.c_contiguous)


def test_whole_numbers_in_a_list_are_numbers():
    assert [[1, 0, 0, 0]] == vectors_of([(0, [7, 0, 0, 0])], 1, SPACE).tolist()


def test_the_length_stays_where_the_space_is_not_normalized():
    assert [[3, 0, 4, 0]] == vectors_of([(0, [3, 0, 4, 0])], 1, LOOSE).tolist()


def test_a_shuffled_answer_is_put_right():
    rows = np.eye(4)
    items = [(index, rows[index].tolist()) for index in (2, 0, 3, 1)]
    assert rows.tolist() == vectors_of(items, 4, SPACE).tolist()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "0 vectors for 2 texts"),
        ([(0, [1, 0, 0, 0])], "1 vectors for 2 texts"),
        ([(n, [1, 0, 0, 0]) for n in range(3)], "3 vectors for 2 texts"),
        ([(0, [1, 0, 0, 0]), (0, [1, 0, 0, 0])], "index 0 is missing, doubled or out of range"),
        ([(0, [1, 0, 0, 0]), (2, [1, 0, 0, 0])], "index 2"),
        ([(0, [1, 0, 0, 0]), (-1, [1, 0, 0, 0])], "index -1"),
        ([(0, [1, 0, 0, 0]), (None, [1, 0, 0, 0])], "index None"),
        ([(0, [1, 0, 0, 0]), ("1", [1, 0, 0, 0])], "index '1'"),
        ([(0, [1, 0, 0, 0]), (1, [1, 0, 0])], r"shape \(3,\), openai/m has 4"),
        ([(0, [1, 0, 0, 0]), (1, [[1, 0, 0, 0]])], r"shape \(1, 4\)"),
        ([(0, [1, 0, 0, 0]), (1, packed([1]))], r"shape \(1,\), openai/m has 4"),
        ([(0, [1, 0, 0, 0]), (1, packed([1, 0, 0, 0], "<f8"))], r"shape \(8,\)"),
        ([(0, [1, 0, 0, 0]), (1, "A")], "cannot be read"),
        ([(0, [1, 0, 0, 0]), (1, "AAA=")], "cannot be read"),
        ([(0, [1, 0, 0, 0]), (1, "")], r"shape \(0,\)"),
        ([(0, [1, 0, 0, 0]), (1, None)], r"shape \(\)"),
        ([(0, [1, 0, 0, 0]), (1, {"a": 1})], "cannot be read"),
        ([(0, [1, 0, 0, 0]), (1, ["a", "b", "c", "d"])], "cannot be read"),
        ([(0, [1, 0, 0, 0]), (1, [1, None, 0, 0])], "row 1 holds a value that is not finite"),
        ([(0, [1, 0, 0, 0]), (1, [float("nan"), 0, 0, 0])], "row 1 holds a value that is not"),
        ([(0, [1, 0, 0, 0]), (1, packed([np.inf, 0, 0, 0]))], "row 1 holds a value that is not"),
        ([(0, [1, 0, 0, 0]), (1, packed([0, 0, 0, 0]))], "row 1 is a zero vector"),
        ([(0, [1, 0, 0, 0]), (1, [1e39, 0, 0, 0])], "row 1 holds a value that is not finite"),
    ],
)
def test_an_unusable_answer_is_named(items, message):
    with pytest.raises(BadAnswer, match=message):
        vectors_of(items, 2, SPACE)


VECTORS = st.one_of(
    st.text(max_size=30),
    st.binary(min_size=16, max_size=16).map(lambda raw: base64.b64encode(raw).decode()),
    st.lists(st.floats(width=32), min_size=3, max_size=5),
    st.none(),
    st.dictionaries(st.text(), st.integers()),
    st.lists(st.one_of(st.integers(), st.text(), st.none(), st.booleans()), max_size=5),
)


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(-1, 3)), VECTORS), max_size=4))
def test_an_answer_gives_unit_vectors_or_is_refused(items):
    try:
        found = vectors_of(items, 2, SPACE)
    except BadAnswer:
        return
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
