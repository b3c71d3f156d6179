"""Words and pairs of letters, hashed into a vector: quick, and good for typing errors."""

import re
from pathlib import Path
from zlib import crc32

import numpy as np
from tokenizers import Tokenizer

from embedfleet.embedders import ModelDescription, PluginEmbedder

TOKENIZER = Path(__file__).with_name("tokenizer.json")
WIDTHS = {"small": 256, "large": 1024}


class Acme(PluginEmbedder):
    @classmethod
    def describe(cls, model, dimensions):
        if model not in WIDTHS:
            raise LookupError(f"acme has {' and '.join(WIDTHS)}, not {model}")
        return ModelDescription(
            dimensions=dimensions or WIDTHS[model],
            max_tokens=4_096,
            revision="1",
            query_prompt="query: ",
            tokenizer=TOKENIZER,
        )

    def load(self):
        self.tokenizer = Tokenizer.from_file(str(TOKENIZER))

    def count_tokens(self, texts):
        return [len(each) for each in self.tokenizer.encode_batch(list(texts))]

    def vectors(self, texts, kind):
        rows = np.zeros((len(texts), self.space.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            words = re.findall(r"\w+|[^\w\s]", text.lower()) or [text]
            for word in words:
                for piece in (word, *(word[n : n + 2] for n in range(len(word) - 1))):
                    row[crc32(piece.encode()) % len(row)] += 1
        return rows


class Plain(Acme):
    """It names no tokenizer: tokens are estimated, and who enqueues needs no package."""

    @classmethod
    def describe(cls, model, dimensions):
        return ModelDescription(dimensions=int(model), max_tokens=512)
