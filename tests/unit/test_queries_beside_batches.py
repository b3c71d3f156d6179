"""A text of a query does not wait for the batch that a model works on."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from embedfleet_schema.types import Space
from embedfleet_workers.embedders.forward import PackedForward
from embedfleet_workers.embedders.tokens import TokenizerTraits, Tokens

SPACE = Space("local", "held", 4, 16)
WAIT_S = 60


class HeldEngine:
    """Runs packs of more than one text only once it is let go."""

    name = "torch"
    precision = "float32"
    streams = 1
    padded_tokens = 32

    def __init__(self):
        self.running = threading.Event()
        self.let_go = threading.Event()
        self.bound = []

    def bind(self):
        self.bound.append(threading.current_thread().name)

    def run(self, features):
        rows = len(features["input_ids"])
        if rows > 1:
            self.running.set()
            assert self.let_go.wait(WAIT_S)
        return np.ones((rows, 4), dtype=np.float32)


@pytest.fixture
def tokens():
    words = {"[UNK]": 0, "how": 1, "do": 2, "I": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Tokens(
        TokenizerTraits(
            tokenizer.to_str(),
            max_tokens=16,
            cut_side="right",
            pads_left=False,
            pad_id=0,
            pad_type_id=0,
            has_types=False,
            splits_specials=False,
        )
    )


def test_a_query_is_embedded_while_a_batch_is(tokens):
    engine = HeldEngine()
    forward = PackedForward(engine, tokens, SPACE)
    with ThreadPoolExecutor(1) as slots:
        batch = slots.submit(forward, ["how do I"] * 50, "document")
        assert engine.running.wait(WAIT_S)
        assert (1, 4) == forward(["how do I"], "query").shape
        assert not batch.done()
        engine.let_go.set()
        assert (50, 4) == batch.result(WAIT_S).shape
    assert ["embedfleet-forward_0", "embedfleet-query_0"] == sorted(engine.bound)
    forward.close()


def test_many_queries_at_once_use_all_streams(tokens):
    engine = HeldEngine()
    engine.let_go.set()
    forward = PackedForward(engine, tokens, SPACE)
    assert (50, 4) == forward(["how do I"] * 50, "query").shape
    assert ["embedfleet-forward_0"] == engine.bound
    forward.close()


@pytest.mark.parametrize(
    ("text", "share"), [("how do I", 0.0), ("why", 1.0), ("how why", 0.5), ("", 1.0)]
)
def test_a_tokenizer_tells_how_much_it_does_not_know(tokens, text, share):
    assert share == tokens.unread_share(text)
