"""Limits of a minute in the words of a refusal, for providers whose headers state none."""

from __future__ import annotations

import re
from collections.abc import Mapping

from embedfleet_workers.rate_limits.quota import Reading

# OpenAI: "on tokens per min (TPM): Limit 30000, Used 28000, Requested 4000"; Voyage: "reduced rate
# limits of 3 RPM and 10K TPM"; Cohere: "limited to 40 API calls / minute"; others: "10 requests per
# minute". Sources: https://platform.openai.com/docs/guides/rate-limits,
# https://docs.voyageai.com/docs/rate-limits, https://docs.cohere.com/docs/rate-limits
_NUMBER = r"(?P<number>\d[\d,]*(?:\.\d+)?) ?(?P<times>[km])?"
_WHAT = r"(?P<what>requests?|tokens?|inputs?|api calls|rpm|tpm)"
_MINUTE = r"(?:per|/|a|every) ?(?:1 )?min(?:ute)?\b"
_PATTERNS = (
    re.compile(
        rf"(?P<what>requests|tokens|inputs) {_MINUTE}(?: \([rt]pm\))?[:.]? limit:? {_NUMBER}\b"
    ),
    re.compile(rf"\b{_NUMBER} ?(?P<what>rpm|tpm)\b"),
    re.compile(rf"\b{_NUMBER} ?{_WHAT} ?{_MINUTE}"),
)
_DIMENSIONS = {"rpm": "requests", "tpm": "tokens", "api calls": "requests"}
_TIMES = {None: 1.0, "k": 1e3, "m": 1e6}
# Longer texts are no complaints about a limit, or quote what they were sent.
_LONGEST = 2_000


def stated_limits(message: str) -> dict[str, float]:
    """What a message says that a minute has; of several for one dimension the smallest."""
    found: dict[str, float] = {}
    for pattern in _PATTERNS:
        for match in pattern.finditer(message[:_LONGEST].lower()):
            what = match["what"]
            name = _DIMENSIONS.get(what, what.removesuffix("s") + "s")
            amount = float(match["number"].replace(",", "")) * _TIMES[match["times"]]
            if amount > 0:
                found[name] = min(amount, found.get(name, amount))
    return found


def with_stated(reading: Reading, limits: Mapping[str, float]) -> Reading:
    """What headers say, and of what they leave out what the body says: that is what it is about."""
    return Reading({**limits, **reading.limits}, reading.remaining, tuple(limits))
