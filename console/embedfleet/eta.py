"""How long embedding would take: by the limits of a provider, by experience, by a short try."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from embedfleet.connections import Connections
from embedfleet_producer.plan import Counted
from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.catalogue.model_files import has_weights
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.store import limits, plans
from embedfleet_schema.store.limits import LimitBook
from embedfleet_schema.types import Space

Basis = Literal["nothing", "limits", "history", "measured", "unknown"]

# A try goes on this long, after one text that loads the model and is not counted.
TRY_SECONDS = 1.5
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds, and where the figure comes from; None where nobody can say."""

    seconds: float | None
    basis: Basis


def estimate(connections: Connections, space: Space, counted: Counted) -> Estimate:
    """How long the fleet needs for what is to be embedded.

    Behind an API, as long as the limits that were set allow at the earliest. Else by the newest
    job of the model, else by a short try here, of one process, where the weights are at hand.
    """
    if not counted.to_embed:
        return Estimate(0.0, "nothing")
    if space.provider in API_PROVIDERS:
        settings = connections.settings
        quotas = _quotas(limits.read(connections.db), space)
        minutes = _minutes(space, counted, quotas, settings.batch_tokens("api"))
        if minutes is not None:
            return Estimate(60 * minutes / settings.limit_target, "limits")
    speed = plans.speed(connections.db, space)
    if speed:
        return Estimate(counted.tokens_to_pay / speed, "history")
    if space.provider not in API_PROVIDERS:
        measured = _try(connections, space, counted.samples)
        if measured:
            return Estimate(counted.tokens_to_pay / measured, "measured")
    return Estimate(None, "unknown")


def _quotas(book: LimitBook, space: Space) -> dict[str, float]:
    """What was set for the model, by itself or with others; for every account before for one."""
    name = book.group_of(space.provider, space.model)
    named = [each for each in book.limits if (each.provider, each.name) == (space.provider, name)]
    quotas: dict[str, float] = {}
    for each in sorted(named, key=lambda limit: limit.account, reverse=True):
        quotas.update(book.limits[each])
    return quotas


def _minutes(
    space: Space, counted: Counted, quotas: Mapping[str, float], batch_tokens: int
) -> float | None:
    """Minutes at the limit that binds; None without a limit that can be reckoned with."""
    # With the client of every API: a search does without it.
    from embedfleet_workers.embedders.api.factory import caps_of
    from embedfleet_workers.rate_limits.quota import largest_request

    caps = caps_of(space.provider, space.model)
    most = largest_request(quotas) or batch_tokens
    request_tokens = min(batch_tokens, caps.tokens or batch_tokens, most)
    by_inputs = math.ceil(counted.to_embed / (1 if caps.each_counts else caps.inputs))
    by_tokens = math.ceil(counted.tokens_to_pay / max(request_tokens, 1))
    needed = {
        "tokens": counted.tokens_to_pay,
        "inputs": counted.to_embed,
        "requests": min(max(by_inputs, by_tokens), max(counted.to_embed, by_inputs)),
    }
    known = [needed[name] / quotas[name] for name in needed.keys() & quotas.keys()]
    return max(known, default=None)


def _try(connections: Connections, space: Space, samples: Sequence[str]) -> float | None:
    """Tokens per second of the model on this machine; None where it cannot be loaded here."""
    if not samples or (space.provider == "local" and not has_weights(space.model)):
        return None
    try:
        embedder = connections.query_embedder(space)
        embedder.embed(samples[:1], "document")
        ordered = sorted(samples, key=len)
        slices = [ordered[n : n + _AT_ONCE] for n in range(0, len(ordered), _AT_ONCE)]
        tokens, elapsed = 0, 0.0
        for texts in cycle(slices):
            began = time.monotonic()
            embedder.embed(texts, "document")
            elapsed += time.monotonic() - began
            tokens += sum(embedder.count_tokens(texts))
            if elapsed > TRY_SECONDS:
                break
    except EmbedfleetError:
        return None
    return tokens / elapsed
