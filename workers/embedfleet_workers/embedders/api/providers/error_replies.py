"""From an answer that is no success to a reply: one table, with what differs by provider."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from embedfleet_workers.embedders.api.providers.adapter import (
    Faulty,
    RateLimited,
    Rejected,
    Reply,
    TooLarge,
)
from embedfleet_workers.embedders.api.providers.headers import (
    duration,
    hinted_wait,
    reading_of,
    retry_after,
)
from embedfleet_workers.embedders.api.providers.stated_limits import stated_limits, with_stated
from embedfleet_workers.stop import Stop

# A quota of a day is not back within a minute, whatever the provider advises.
DAILY_WAIT_S = 600.0
_LONGEST_REASON = 300

# Codes that no waiting cures. OpenAI: https://platform.openai.com/docs/guides/error-codes
_STOPS = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "payment_required",
        "api_key_invalid",
        "api_key_service_blocked",
        "consumer_suspended",
        "authz_insufficient_balance",
    }
)
# 498 is Cohere's for a token that it does not take.
_STOPPING = (401, 402, 403, 498)
_REFUSING = (400, 413, 422)
# Texts and keys go to the address that a person named, and to no other.
_REDIRECTING = (301, 302, 303, 307, 308)
_REDIRECTED = (
    "which points elsewhere, and is not followed: set the provider's base URL "
    "(EMBEDFLEET_..._BASE_URL) to the address that answers itself"
)
_STOP_ENDINGS = ("_spend_limit_exceeded", "_usage_limit_exceeded")
_NO_SUCH_MODEL = frozenset(
    {"model_not_found", "deploymentnotfound", "input_model_not_found", "invalid_model"}
)
_TOO_LARGE_CODES = frozenset(
    {"max_tokens_per_request", "array_above_max_length", "too_many_tokens_in_batch", "3210"}
)
_TOO_LARGE = re.compile(
    r"max(?:imum)? (?:request size|\d+ tokens per request)"
    r"|array too long"
    r"|too many (?:inputs|tokens) (?:in|overall)|split into more batches"
    r"|(?:allowed )?tokens per submitted batch"
    r"|batch size"
    r"|requests can be in one batch"
    r"|number of texts must be at most"
    # Vertex: its limits differ by model and region.
    r"|instance\(s\) is allowed per prediction|too many instances"
    r"|input token count .*but the model supports",
    re.IGNORECASE,
)
# Cohere's trial keys, a 429 without a code: https://docs.cohere.com/docs/rate-limits
_SPENT_MONTH = re.compile(r"limited to [\d,]+ API calls / month", re.IGNORECASE)
_ABOVE_THE_LIMIT = re.compile(r"request too large", re.IGNORECASE)
# A code is a word of the provider's; anything longer may be a sentence that quotes its input.
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the body of a refusal says, in lower case where it is compared."""

    codes: frozenset[str]
    message: str
    retry_delay_s: float | None = None
    daily: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def code(self) -> str:
        return min(self.codes, default="")


def error_reply(status: int, headers: Mapping[str, str], body: bytes, *, key: str = "") -> Reply:
    """The reply that an HTTP status other than 2xx stands for.

    `key` is removed from whatever is quoted. Messages of a provider may quote texts: they reach a
    person through `Rejected` and `TooLarge` alone, whose readers leave out what quotes their input.
    """
    if status in _REDIRECTING:
        return Stop("redirected", f"it answered {status}, {_REDIRECTED}")
    found = complaint(body)
    stop = next((code for code in sorted(found.codes) if _is_stop(code)), "")
    unknown = status == HTTPStatus.NOT_FOUND or bool(found.codes & _NO_SUCH_MODEL)
    if stop or unknown or status in _STOPPING:
        return _stopped(status, stop or found.code, whole_account=not unknown)
    if status == HTTPStatus.TOO_MANY_REQUESTS or "slow_down" in found.codes:
        return _rate_limited(headers, found)
    if status in _REFUSING:
        return _rejected(status, found, key)
    return Faulty(_said(status, found.code), retry_after(headers))


def complaint(body: bytes) -> Complaint:
    """Read the error bodies of OpenAI and its likes, Cohere, Voyage, Gemini, Jina and Mistral."""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return Complaint(frozenset(), "")
    outer = read if isinstance(read, dict) else {}
    inner = outer.get("error")
    error: dict[str, Any] = inner if isinstance(inner, dict) else outer
    message = error.get("message") or error.get("detail") or inner
    details = [each for each in _listed(error.get("details")) if isinstance(each, dict)]
    named = [error.get("code"), error.get("type"), error.get("status")]
    named += [each.get("reason") for each in details]
    delays = (duration(str(each["retryDelay"])) for each in details if "retryDelay" in each)
    violations = [
        violation
        for each in details
        for violation in _listed(each.get("violations"))
        if isinstance(violation, dict)
    ]
    quotas = {str(each.get("quotaId")): str(each.get("quotaValue")) for each in violations}
    said = message if isinstance(message, str) else ""
    return Complaint(
        frozenset(str(name).lower() for name in named if _is_code(name)),
        said,
        next((delay for delay in delays if delay is not None), None),
        any("PerDay" in quota for quota in quotas),
        {**stated_limits(said), **_gemini_limits(quotas)},
    )


def _rate_limited(headers: Mapping[str, str], found: Complaint) -> Reply:
    if _SPENT_MONTH.search(found.message):
        return _stopped(HTTPStatus.TOO_MANY_REQUESTS, "monthly_quota_spent")
    if _ABOVE_THE_LIMIT.search(found.message) or headers.get("x-should-retry") == "false":
        return TooLarge("429: one request is larger than the rate limit", by_limit=True)
    wait_s = retry_after(headers)
    for other in (found.retry_delay_s, hinted_wait(found.message)):
        wait_s = other if wait_s is None else wait_s
    if found.daily:
        wait_s = max(wait_s or 0.0, DAILY_WAIT_S)
    return RateLimited(wait_s, with_stated(reading_of(headers), found.limits))


def _gemini_limits(quotas: Mapping[str, str]) -> dict[str, float]:
    """`EmbedContentRequestsPerMinutePerProjectPerModel-FreeTier`, and how much it has."""
    return {
        name.lower(): float(value)
        for quota, value in quotas.items()
        for name in ("Requests", "Tokens")
        if f"{name}PerMinute" in quota and re.fullmatch(r"[1-9]\d{0,11}", value, re.ASCII)
    }


def _rejected(status: int, found: Complaint, key: str) -> Reply:
    reason = _shortened(found.message.replace(key, "...") if key else found.message)
    large = status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or found.codes & _TOO_LARGE_CODES
    if large or _TOO_LARGE.search(reason):
        return TooLarge(f"it answered {status}: {reason}")
    return Rejected(f"it answered {status}: {reason}")


def _stopped(status: int, code: str, *, whole_account: bool = True) -> Stop:
    return Stop(code or f"http_{status}", _said(status, code), whole_account)


def _said(status: int, code: str) -> str:
    return f"it answered {status} ({code})" if code else f"it answered {status}"


def _is_stop(code: str) -> bool:
    return code in _STOPS or code.endswith(_STOP_ENDINGS)


def _is_code(name: object) -> bool:
    """A word, and not the status that some repeat as a number in the body."""
    if isinstance(name, int):
        return False
    return isinstance(name, str) and _CODE.fullmatch(name) is not None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_REASON else f"{message[:_LONGEST_REASON]}..."
