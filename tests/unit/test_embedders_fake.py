import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.errors import BadSettings
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.fake import FakeEmbedder, fake_vectors
from embedfleet_workers.embedders.faults import Faults
from embedfleet_workers.embedding_errors import (
    BadAnswer,
    EmbedderBusy,
    EmbeddingError,
    InputAtFault,
)

SPACE = Space("fake", "8", 8, 256)


def faulty(text):
    return FakeEmbedder(SPACE, Faults.parse(text))


def test_vectors_are_the_same_on_every_machine():
    expected = np.array(
        [
            [
                0.20587844,
                0.39608857,
                0.30636853,
                -0.4445082,
                0.47003382,
                -0.34566098,
                -0.31015632,
                0.26957086,
            ],
            [
                -0.10892158,
                0.47632614,
                0.11791297,
                -0.50016344,
                0.29676238,
                -0.41542074,
                -0.34535316,
                0.3424492,
            ],
        ],
        dtype=np.float32,
    )
    np.testing.assert_array_equal(expected, fake_vectors(SPACE, ["a", "ü"], "document"))


@given(st.lists(st.text(max_size=50), max_size=20), st.sampled_from([1, 2, 5, 384]))
def test_any_texts_at_any_width_give_unit_vectors(texts, dimensions):
    space = Space("fake", str(dimensions), dimensions, 256)
    vectors = FakeEmbedder(space).embed(texts, "document")
    assert vectors.shape == (len(texts), dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_another_space_and_another_kind_give_other_vectors():
    other = Space("fake", "8", 8, 256, revision="2")
    documents = fake_vectors(SPACE, ["a"], "document")
    assert not np.allclose(documents, fake_vectors(other, ["a"], "document"))
    assert not np.allclose(documents, fake_vectors(SPACE, ["a"], "query"))


def test_unrelated_texts_are_nearly_orthogonal():
    vectors = fake_vectors(Space("fake", "768", 768, 256), [str(n) for n in range(200)], "document")
    cosines = vectors @ vectors.T - np.eye(200)
    assert np.abs(cosines).max() < 0.25
    assert abs(cosines.mean()) < 0.005


def test_poison_is_the_inputs_own_fault():
    embedder = faulty("poison=XYZZY")
    assert embedder.embed(["plugh"], "document").shape == (1, 8)
    with pytest.raises(InputAtFault, match="XYZZY"):
        embedder.embed(["plugh", "say XYZZY"], "document")


def test_every_third_call_fails_and_the_next_succeeds():
    embedder = faulty("error_every=3")
    outcomes = []
    for _ in range(6):
        try:
            embedder.embed(["a"], "document")
        except EmbeddingError:
            outcomes.append("error")
        else:
            outcomes.append("fine")
    assert outcomes == ["fine", "fine", "error", "fine", "fine", "error"]


def test_a_busy_embedder_says_how_long_to_wait():
    with pytest.raises(EmbedderBusy) as caught:
        faulty("busy_every=1;busy_seconds=2.5").embed(["a"], "document")
    assert caught.value.seconds == 2.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("too_few", "1 vectors for 2 texts"),
        ("too_many", "3 vectors for 2 texts"),
        ("too_narrow", "7 dimensions"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("zero", "zero vector"),
    ],
)
def test_a_wrong_answer_is_caught_by_the_checks(wrong, message):
    with pytest.raises(BadAnswer, match=message):
        faulty(f"wrong={wrong}").embed(["a", "b"], "document")


def test_wrong_answers_can_be_rare():
    embedder = faulty("wrong=nan;wrong_every=2")
    embedder.embed(["a"], "document")
    with pytest.raises(BadAnswer):
        embedder.embed(["a"], "document")


def test_latency_is_waited_for():
    started = time.monotonic()
    faulty("latency=0.05").embed(["a"], "document")
    assert time.monotonic() - started >= 0.05


def test_a_killing_text_kills_the_process_without_a_word():
    program = (
        "from embedfleet_schema.types import Space\n"
        "from embedfleet_workers.embedders import load_embedder\n"
        "embedder = load_embedder(Space('fake', '8', 8, 256), device='cpu', faults='kill=BOOM')\n"
        "embedder.embed(['quiet'], 'document')\n"
        "embedder.embed(['BOOM'], 'document')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-9, b"", b"")


def test_faults_are_read_from_a_setting():
    expected = Faults(latency=0.05, poison="a b", kill="BOOM", error_every=3, wrong="nan")
    assert expected == Faults.parse("latency=0.05;poison=a b;kill=BOOM;error_every=3;wrong=nan")
    assert Faults() == Faults.parse("")


@pytest.mark.parametrize(
    "text",
    ["nonsense", "colour=red", "latency=soon", "latency=-1", "wrong=nearly", "error_every=1.5"],
)
def test_a_setting_that_makes_no_sense_is_refused(text):
    with pytest.raises(BadSettings, match=text.split("=")[0]):
        Faults.parse(text)


def test_tokens_are_punctuation_marks_and_pieces_of_words():
    texts = ["", "two words", "a.b!", "x" * 33]
    assert [0, 2, 4, 3] == FakeEmbedder(SPACE).count_tokens(texts)
