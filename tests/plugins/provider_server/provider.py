"""What the server answers: keys, quotas, faults, and at last vectors."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plugins.provider_server import answers
from plugins.provider_server.account import Account
from plugins.provider_server.http1 import Reply, Request
from plugins.provider_server.quota import MINUTE_S, Limit

MOST_INPUTS = 2_048
MOST_TOKENS = 300_000
# Faults of which the client gets its vectors all the same.
HARMLESS = ("", "floats", "drip")
# How often the other program asks, in seconds.
FOREIGN_EVERY_S = 0.25


@dataclass(frozen=True)
class Options:
    """Everything that can be set, at the start and in mid-run."""

    quota: str = "bucket:60"
    limits: dict[str, float] = field(default_factory=dict)
    """Per minute: `requests`, `tokens`. A dimension that is not named has no limit."""
    filled: float = 1.0
    """Share of the quota that is free at the beginning."""
    charge: str = "words"
    """What a text costs: `words`, or `bytes` (a token for every four)."""
    dimensions: int = 64
    """Width where a request does not ask for one."""
    latency_s: float = 0.0
    jitter_s: float = 0.0
    tell_limits: bool = True
    """Whether answers carry x-ratelimit-* headers."""
    refusals: str = "whole"
    """What a 429 says: `whole`, the `retry-after` alone, the `body` alone, or `nothing`."""
    least_retry_s: float = 0.0
    """A `Retry-After` is not shorter: some servers name the time until the quota is full."""
    failed_count: bool = True
    """Whether a request that the quota refuses counts as a request, as OpenAI says it does."""
    foreign: float = 0.0
    """Share of the quota that another program takes."""
    stopped: str = ""
    """A code such as `insufficient_quota` that every request is refused with."""
    refused_keys: Sequence[str] = ()
    unknown_models: Sequence[str] = ()
    faults: dict[str, float] = field(default_factory=dict)
    """Shares of the requests that meet a fault: limited, error, stall, reset, drip, truncated,
    html, floats, quarter.
    """
    script: Sequence[str] = ()
    """Faults of the next requests, one each; an empty string is none."""
    stall_s: float = 30.0
    drip_s: float = 30.0
    seed: int = 0


class Provider:
    """Answers requests. Used from one event loop; a limit belongs to one model."""

    def __init__(self, options: Options) -> None:
        self.account = Account()
        self._limits: dict[str, dict[str, Limit]] = {}
        self._random = random.Random(options.seed)
        self.options = options
        self._script = list(options.script)
        self._control: dict[str, Callable[[Any], object]] = {
            "/account": lambda _: self.account.shown(self.now()),
            "/account/reset": lambda _: self.account.reset(self.now()),
            "/set": lambda given: self._set(**given),
            "/paid": lambda given: self.account.paid_of(map(bytes.fromhex, given)),
        }

    def now(self) -> float:
        return time.monotonic()

    def answer(self, request: Request) -> Reply:
        if request.path in self._control:
            found = self._control[request.path](json.loads(request.body or b"null"))
            return Reply(200, answers.JSON, json.dumps(found).encode())
        if request.path.endswith("/chat/completions"):
            return self._chat(request.key, json.loads(request.body))
        if not request.path.endswith("/embeddings"):
            return _error(404, "Invalid URL", "invalid_request_error", None)
        return self._embed(request.key, json.loads(request.body))

    def _chat(self, key: str, body: dict[str, Any]) -> Reply:
        """A sentence about the last message; every request is paid for."""
        model, now = str(body.get("model")), self.now()
        told = str(body["messages"][-1]["content"])
        self.account.received(model, now)
        if not key or key in self.options.refused_keys:
            return _error(401, "Incorrect API key", "invalid_request_error", "invalid_api_key")
        tokens = answers.tokens_of(told, self.options.charge)
        self.account.admitted(model, now, tokens)
        self.account.paid(model, [answers.digest_of(told)])
        return Reply(200, answers.JSON, answers.completion(model, told, tokens))

    def _embed(self, key: str, body: dict[str, Any]) -> Reply:
        model, given = str(body.get("model")), body["input"]
        texts = [given] if isinstance(given, str) else given
        now = self.now()
        self.account.received(model, now)
        tokens = sum(answers.tokens_of(text, self.options.charge) for text in texts)
        refused = self._refused(key, model, texts, tokens)
        if refused is not None:
            self.account.of(model).refused += 1
            return self._watched(model, refused, ())
        fault = self._fault()
        limited = _limited("requests", 0, 0, 1, 1.0, self.options) if fault == "limited" else None
        limited = limited or self._over_quota(model, now, tokens)
        if limited is not None:
            self.account.limited(model, now)
            return self._watched(model, limited, ())
        self.account.admitted(model, now, tokens)
        digests = [answers.digest_of(text) for text in texts]
        reply = self._vectors(digests, tokens, body, fault)
        reply.headers |= self._limit_headers(model, now)
        if fault not in HARMLESS:
            self.account.of(model).spoiled += 1
            return self._watched(model, self._spoiled(reply, fault), ())
        if fault == "drip":
            reply.manner, reply.drip_s = "drip", self.options.drip_s
        self.account.paid(model, digests)
        return self._watched(model, reply, digests)

    def _refused(self, key: str, model: str, texts: Sequence[str], tokens: int) -> Reply | None:
        """Why this request can never be answered, if so."""
        options = self.options
        if not key or key in options.refused_keys:
            return _error(401, "Incorrect API key", "invalid_request_error", "invalid_api_key")
        if model in options.unknown_models:
            return _error(404, "No such model", "invalid_request_error", "model_not_found")
        if options.stopped:
            told = "You exceeded your current quota, please check your plan and billing details."
            return _error(429, told, options.stopped, options.stopped)
        if not texts or len(texts) > MOST_INPUTS or not all(texts):
            return _error(400, "'$.input' is invalid", "invalid_request_error", None)
        if tokens > MOST_TOKENS:
            told = f"Requested {tokens} tokens, max {MOST_TOKENS} tokens per request"
            return _error(400, told, "max_tokens_per_request", "max_tokens_per_request")
        return None

    def _over_quota(self, model: str, now: float, tokens: int) -> Reply | None:
        """Take the request from the limits, or say how long it has to wait."""
        limits, costs = self._limits_of(model), {"requests": 1, "tokens": tokens}
        waits = {name: limit.quota.wait(now, costs[name]) for name, limit in limits.items()}
        short = next((name for name, wait in waits.items() if wait > 0), None)
        if short is None:
            for name, limit in limits.items():
                limit.take(now, costs[name])
            return None
        if self.options.failed_count and waits.get("requests", 1) == 0:
            limits["requests"].take(now, 1)
        shown = limits[short].shown
        used = shown.limit - max(0.0, shown.left(now))
        reply = _limited(short, shown.limit, used, costs[short], waits[short], self.options)
        reply.headers = {**reply.headers, **self._limit_headers(model, now)}
        return reply

    def _vectors(
        self, digests: Sequence[bytes], tokens: int, body: dict[str, Any], fault: str
    ) -> Reply:
        width = int(body.get("dimensions") or self.options.dimensions)
        vectors = answers.vectors_of(digests, width // 4 if fault == "quarter" else width)
        base64 = body.get("encoding_format") == "base64" and fault != "floats"
        found = answers.embeddings(str(body.get("model")), vectors, tokens, base64=base64)
        reply = Reply(200, dict(answers.JSON), found)
        reply.after_s = self.options.latency_s + self._random.uniform(0, self.options.jitter_s)
        return reply

    def _spoiled(self, reply: Reply, fault: str) -> Reply:
        match fault:
            case "error":
                return _error(self._random.choice((500, 502, 503)), "Oops", "server_error", None)
            case "stall":
                reply.manner, reply.after_s = "silence", self.options.stall_s
            case "reset":
                reply.manner = "reset"
            case "truncated":
                reply.body = reply.body[: len(reply.body) // 2]
            case "html":
                reply.headers = {"content-type": "text/html"}
                reply.body = b"<!doctype html><title>Please wait</title>"
        return reply

    def _watched(self, model: str, reply: Reply, digests: Sequence[bytes]) -> Reply:
        """The reply, with its end in the account."""
        account = self.account
        account.in_flight += 1
        account.most_in_flight = max(account.most_in_flight, account.in_flight)

        def ended(seconds: float, left: bool) -> None:
            account.in_flight -= 1
            account.longest_s = max(account.longest_s, seconds)
            if left:
                account.of(model).abandoned += 1
            elif digests:
                account.answered(model, digests)

        reply.ended = ended
        return reply

    def _fault(self) -> str:
        found = self._script.pop(0) if self._script else self._drawn()
        if found:
            self.account.faults[found] += 1
        return found

    def _drawn(self) -> str:
        drawn = self._random.random()
        for fault, share in self.options.faults.items():
            drawn -= share
            if drawn < 0:
                return fault
        return ""

    def _limits_of(self, model: str) -> dict[str, Limit]:
        if model not in self._limits:
            options, now = self.options, self.now()
            self._limits[model] = {
                name: Limit(options.quota, now, per_minute, filled=options.filled)
                for name, per_minute in options.limits.items()
            }
        return self._limits[model]

    def _limit_headers(self, model: str, now: float) -> dict[str, str]:
        if not self.options.tell_limits:
            return {}
        return answers.limit_headers(
            {
                name: (limit.shown.limit, limit.shown.left(now), limit.shown.full_in(now))
                for name, limit in self._limits_of(model).items()
            }
        )

    def _set(self, **given: Any) -> dict[str, Any]:
        """Change options in mid-run; another kind of quota starts anew, another limit does not.

        Returns the account as it is at this moment.
        """
        before, self.options = self.options, replace(self.options, **given)
        self._script += given.get("script", ())
        if before.quota != self.options.quota or before.limits.keys() != self.options.limits.keys():
            self._limits.clear()
        now = self.now()
        for limits in self._limits.values():
            for name, limit in limits.items():
                limit.change(now, self.options.limits[name])
        return self.account.shown(now)

    def take_foreign(self) -> None:
        """The other program's turn: it takes its share where there is room for it."""
        now = self.now()
        for model, limits in self._limits.items():
            costs = {
                name: limit.quota.limit / MINUTE_S * self.options.foreign * FOREIGN_EVERY_S
                for name, limit in limits.items()
            }
            if any(limits[name].quota.wait(now, cost) for name, cost in costs.items()):
                continue
            for name, cost in costs.items():
                limits[name].take(now, cost)
            totals = self.account.of(model)
            totals.foreign_tokens += costs.get("tokens", 0)
            totals.foreign_requests += costs.get("requests", 0)


def _error(status: int, message: str, kind: str, code: str | None) -> Reply:
    return Reply(status, answers.JSON, answers.error(message, kind, code))


def _limited(
    name: str, limit: float, used: float, cost: float, wait_s: float, options: Options
) -> Reply:
    """The 429 of a rate limit; one that no wait helps says so."""
    told = f"Rate limit reached on {name} per min: Limit {limit:.0f}, Used {used:.0f}, "
    told += f"Requested {cost:.0f}."
    if math.isinf(wait_s):
        headers = {"x-should-retry": "false"}
    else:
        wait_s = max(wait_s, options.least_retry_s)
        told += f" Please try again in {answers.duration(wait_s)}."
        headers = {
            "retry-after": str(math.ceil(wait_s)),
            "retry-after-ms": str(math.ceil(wait_s * 1e3)),
        }
    if options.refusals in ("retry-after", "nothing"):
        told = "Too many requests"
    if options.refusals in ("body", "nothing"):
        headers = {}
    reply = _error(429, told, name, "rate_limit_exceeded")
    reply.headers = {**answers.JSON, **headers}
    return reply
