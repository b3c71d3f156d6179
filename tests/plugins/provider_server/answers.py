"""Bodies and headers as OpenAI writes them, and the vector that belongs to a text."""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

JSON = {"content-type": "application/json"}


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def vectors_of(digests: Sequence[bytes], dimensions: int) -> NDArray[np.float32]:
    """The vectors of texts by their SHA-256: unit length, the same in every process."""
    drawn = b"".join(hashlib.shake_256(each).digest(2 * dimensions) for each in digests)
    raw = np.frombuffer(drawn, dtype="<i2").reshape(len(digests), dimensions).astype(np.float32)
    raw /= np.sqrt(np.einsum("ij,ij->i", raw, raw))[:, np.newaxis]
    return raw


def tokens_of(text: str, charge: str) -> int:
    """What a text costs: its words, or a token for every four bytes."""
    return len(text.split()) if charge == "words" else math.ceil(len(text.encode()) / 4)


def embeddings(model: str, vectors: NDArray[np.float32], tokens: int, *, base64: bool) -> bytes:
    """The body of an answer; written by hand, because a JSON writer takes several times as long."""
    if base64:
        shown = [b'"%b"' % b64encode(row) for row in vectors.astype("<f4")]
    else:
        shown = [json.dumps(row).encode() for row in vectors.tolist()]
    rows = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % each for each in enumerate(shown)
    )
    usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
    named = json.dumps(model).encode()
    return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (rows, named, usage)


def completion(model: str, told: str, tokens: int) -> bytes:
    """The answer of an LLM that says of what it was told only what no two prompts share."""
    said = f"Said of {digest_of(told).hex()[:8]}."
    message = {"role": "assistant", "content": said}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 3, "total_tokens": tokens + 3},
    }
    return json.dumps(body).encode()


def error(message: str, kind: str, code: str | None) -> bytes:
    details = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": details}).encode()


def duration(seconds: float) -> str:
    """As Go prints it: `20ms`, `1.5s`, `6m0s`, `1h2m3s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1e3)}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    shown = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        shown = f"{int(minutes)}m{shown}"
    return f"{int(hours)}h{shown}" if hours else shown


def limit_headers(state: Mapping[str, tuple[float, float, float]]) -> dict[str, str]:
    """Headers from (limit, left, seconds until full) by dimension."""
    found: dict[str, str] = {}
    for dimension, (limit, left, full_in) in state.items():
        found[f"x-ratelimit-limit-{dimension}"] = str(int(limit))
        found[f"x-ratelimit-remaining-{dimension}"] = str(max(0, int(left)))
        found[f"x-ratelimit-reset-{dimension}"] = duration(full_in)
    return found
