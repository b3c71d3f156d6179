"""Fixed texts that tell one model from another, and how close two vectors of a text are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.types import Precision
from embedfleet_workers.embedders.protocol import Rows

# What an engine has to reach on the texts below, against plain sentence-transformers in float32.
# Measured with all-MiniLM-L6-v2, the worst of them: OpenVINO in float32 1.000000, in bfloat16
# 0.99996.
SAME: dict[Precision, float] = {"float32": 0.99999, "half": 0.9999}

# A cut beyond this many tokens is not tried: a model that takes 32,000 would be busy for minutes.
LONGEST_TOKENS = 512
_TOPICS = (
    "The baker kneads dough with flour, butter and salt, and lets it rise near the warm oven.",
    "Sailors reef the canvas before a storm, while waves break over the bow of their schooner.",
    "A compiler turns source code into machine instructions and reports every missing bracket.",
    "In the orchestra two violins and an oboe repeat the slow theme of the second movement.",
    "Glaciers carve deep valleys, carry boulders to the plain and melt into cold green lakes.",
)
_SHORT = "Water boils at 100 degrees."
_MIXED = "Zürich, 3 May 2024: the café's owner PAID 12.50 € for “naïve” e-mail tools; 日本語 too?"


def probe_texts(max_tokens: int) -> list[str]:
    """Fixed texts from short to long, the last one longer than a model takes."""
    words = 5 * min(max_tokens, LONGEST_TOKENS) // 4
    share = -(-words // len(_TOPICS))
    # One topic after the other, so that it shows in the vector where the text was cut.
    parts = [(topic.split() * share)[:share] for topic in _TOPICS]
    long = " ".join(word for part in parts for word in part)
    return [_SHORT, _MIXED, " ".join(_TOPICS), long]


def agreement(one: Rows, other: Rows) -> NDArray[np.float64]:
    """The cosine of each row with its counterpart, less where their lengths differ."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    squares: NDArray[np.float64] = np.square(one - other).sum(axis=1)
    cosines: NDArray[np.float64] = 1 - squares / np.maximum(2 * lengths, 1e-300)
    return cosines
