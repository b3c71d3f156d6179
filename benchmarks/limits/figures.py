"""Figures of a run, from the provider's account, the tables and the workers' logs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from psycopg import sql

from embedfleet_schema.statements import composed
from embedfleet_schema.types import CollectionInfo
from limits.stand import DIMENSIONS, Stand
from plugins.provider_server.answers import vectors_of

# What a worker logs of each batch.
BATCH = re.compile(r"batch \d+: done, .* embed (\d+) ms")
STORED = """
SELECT sha256(convert_to(t.content, 'UTF8')), v.embedding
FROM embedfleet.{vectors} AS v
JOIN embedfleet.{texts} AS t ON t.id = v.text_id
"""
# Vectors are normalized once more on their way, which may cost a last bit.
TOLERANCE = 1e-5


def of_account(
    account: dict[str, Any], model: str, span_s: float, limits: dict[str, float]
) -> dict[str, float]:
    """Shares of the quota of `span_s` seconds; of several limits of the one that was used most."""
    totals = account["models"].get(model)
    if totals is None:
        return {"used": 0.0, "used_together": 0.0, "limited_share": 0.0}
    ours = {"requests": totals["admitted"], "tokens": totals["tokens"]}
    used = {name: ours[name] * 60 / (limit * span_s) for name, limit in limits.items()}
    binding = max(used, key=lambda name: used[name])
    foreign = totals[f"foreign_{binding}"] * 60 / (limits[binding] * span_s)
    asked = totals["admitted"] + totals["limited"]
    return {
        "used": used[binding],
        "used_together": used[binding] + foreign,
        "limited_share": totals["limited"] / max(1, asked),
        "requests": totals["admitted"],
        "limited": totals["limited"],
        "largest_request": totals["largest"],
        "spoiled": totals["spoiled"],
    }


def of_the_end(stand: Stand, model: str, *, to_the_end: bool) -> dict[str, float]:
    """What is true when all workers are gone; `to_the_end`: the job was allowed to finish."""
    account = stand.provider.account()
    totals = account["models"][model]
    docs = stand.fleet.collection("docs")
    found = docs.audit()
    return {
        "lost": found.missing if to_the_end else account["texts_answered"] - found.stored,
        "stored": found.stored,
        "dead": len(docs.failures()),
        "bad_rows": bad_rows(stand, docs.info),
        "paid_twice": totals["repeated_texts"],
        "repeated_requests": totals["repeated_requests"],
        "calls_per_answer": totals["received"] / max(1, totals["answered"]),
        "longest_call_s": account["longest_s"],
        "longest_wait_s": longest_wait(stand),
    }


def longest_wait(stand: Stand) -> float:
    """The longest time between the claim of a batch and its last answer.

    From the begin of the measurement on: the first batches wait for imports, not for a limit.
    """
    found = [0]
    for log in stand.logs:
        written = log.read_bytes()[stand.notes["log_sizes"].get(log, 0) :]
        found += [int(each) for each in BATCH.findall(written.decode())]
    return max(found) / 1e3


def bad_rows(stand: Stand, collection: CollectionInfo) -> int:
    """Rows whose vector is not that of their text."""
    statement = composed(sql.SQL(STORED), collection)
    with stand.fleet.db.transaction() as conn:
        rows = conn.execute(statement).fetchall()
    if not rows:
        return 0
    expected = vectors_of([bytes(digest) for digest, _ in rows], DIMENSIONS)
    found = np.array([vector.to_numpy() for _, vector in rows], dtype=np.float32)
    return int((np.abs(found - expected).max(axis=1) > TOLERANCE).sum())
