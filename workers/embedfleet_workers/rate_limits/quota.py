"""Whose quota it is, what is said about it, what that is worth, and how large a request may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

# Amounts by dimension. A provider counts what it likes: `requests`, `tokens`, `inputs`.
COUNTED = ("requests", "tokens", "inputs")
Amounts = Mapping[str, float]
NOTHING: Amounts = MappingProxyType({})

# A stated limit of less than this share of what a person set is a figure of another window: Azure
# counts requests in ten seconds, a sixth of a minute.
PLAUSIBLE_SHARE = 0.2
MOST_PLAUSIBLE = 1e12
# A request of more than this share of a minute's tokens cannot be spread evenly.
LARGEST_SHARE = 0.01
# The first request where nothing is known: it costs little, whatever the limit is.
FIRST_TOKENS = 1_000.0
# Where requests are few, all of them have to fit: estimates of tokens are a little off.
MARGIN = 0.98
# A server that lets fewer requests through in a minute does not count in seconds.
PER_SECOND = 60.0


@dataclass(frozen=True, slots=True)
class LimitKey:
    """What shares one limit: an account of a provider, and a group of its models.

    `account` is a hash of the API key and its endpoint, never the key; `group` is the model's own
    name unless several models draw on one limit.
    """

    provider: str
    account: str
    group: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.account}/{self.group}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the headers of an answer say: limits per minute, and how much of them is left.

    `about` are the dimensions that the words of a refusal name.
    """

    limits: Amounts = field(default_factory=dict)
    remaining: Amounts = field(default_factory=dict)
    about: Sequence[str] = ()

    def used(self, name: str) -> float:
        """The used part of a limit, by whomever; -1 where nothing is said that can be right."""
        limit, left = self.limits[name], self.remaining.get(name, -1.0)
        return limit - left if 0 <= left <= limit else -1.0

    def without_remaining(self) -> Reading:
        return Reading(self.limits)

    def without(self, dimension: str) -> Reading:
        """For what a provider states in a way of its own."""
        limits = {name: limit for name, limit in self.limits.items() if name != dimension}
        left = {name: amount for name, amount in self.remaining.items() if name != dimension}
        return Reading(limits, left)


def is_plausible(limit: float, quota: float) -> bool:
    """Whether a stated limit is believed, beside what a person set (0: nothing)."""
    least = max(1.0, PLAUSIBLE_SHARE * quota)
    return math.isfinite(limit) and least <= limit <= MOST_PLAUSIBLE


def in_force(quota: float, stated: float) -> float:
    """The limit to keep: the smaller of what a person set and what is believed of what was stated.

    0 stands for none, in both and in the result.
    """
    if quota <= 0 or stated <= 0:
        return max(quota, stated)
    return quota if stated < PLAUSIBLE_SHARE * quota else min(quota, stated)


def all_in_force(quotas: Amounts, stated: Amounts) -> dict[str, float]:
    """The limits to keep, of every dimension that has one."""
    limits = {
        name: in_force(quotas.get(name, 0.0), stated.get(name, 0.0))
        for name in {**quotas, **stated}
    }
    return {name: limit for name, limit in limits.items() if limit > 0}


def wait_after_429(costs: Amounts, retry_after_s: float | None, reading: Reading | None) -> float:
    """Seconds until a refused request may come again; -1 where nothing tells.

    The server's `Retry-After`, else the time in which a token bucket refills what the request
    lacks.
    """
    if retry_after_s is not None and math.isfinite(retry_after_s) and retry_after_s >= 0:
        return retry_after_s
    if reading is None:
        return -1.0
    lacks = [
        # What costs more than a whole limit never fits, however long it waits.
        (min(costs[name], reading.limits[name]) - left) * 60.0 / reading.limits[name]
        for name, left in reading.remaining.items()
        if name in costs and reading.limits.get(name, 0.0) > 0 and costs[name] > left
    ]
    return max(lacks, default=-1.0)


def largest_request(limits: Amounts) -> float | None:
    """The most tokens of one request within limits per minute; None without a limit of tokens.

    A hundredth, unless requests are so few that they would run out before the tokens do.
    """
    tokens, requests = limits.get("tokens", 0.0), limits.get("requests", 0.0)
    if tokens <= 0:
        return None
    most = LARGEST_SHARE * tokens
    if requests > 0:
        each = tokens / requests
        # Texts do not fill a request: with half as much room again tokens run out first. More than
        # a second's tokens must not be in one, unless it cannot be helped.
        most = max(most, MARGIN * each, min(1.5 * each, tokens / PER_SECOND))
    return most


def most_tokens(limits: Amounts, learnt: Amounts, largest: float) -> int:
    """The most tokens of one request; `largest` is what refusals taught, 0 for nothing.

    `limits` are set or stated, and `learnt` is what stands for others: that of tokens is in
    `largest` already.
    """
    most = largest_request({**learnt, **limits}) if "tokens" in limits else None
    if most is None:
        return int(largest or FIRST_TOKENS)
    return max(1, int(min(most, largest or most)))
