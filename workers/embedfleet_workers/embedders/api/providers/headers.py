"""What the headers of an answer say about rate limits. Whatever they hold, nothing is raised.

OpenAI's: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from embedfleet_workers.rate_limits.quota import Reading

LONGEST_WAIT_S = 86_400.0
# A limit whose bucket takes longer than this to fill is one of a day: not to be spread by minute.
LONGEST_PERIOD_S = 1_800.0
# Shorter times until a bucket is full are too coarse to be told from rounding.
SHORTEST_RESET_S = 1.0

_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|d|h|m|s)", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
# x-ratelimit-limit-tokens, x-ratelimit-remaining-project-tokens, and Mistral's
# x-ratelimit-limit-tokens-minute and x-ratelimit-limit-req-10-second.
_RATE = re.compile(
    r"x-ratelimit-(limit|remaining)-(?:project-)?(requests|req|tokens|inputs)"
    r"(?:-(minute|(\d*)-?second))?",
    re.ASCII,
)
_TRIAL = {"x-trial-endpoint-call-limit": "limit", "x-trial-endpoint-call-remaining": "remaining"}
_DIMENSIONS = {"req": "requests"}
_HINT = re.compile(
    r"(?:try again in|retry (?:after|in)) ([\dhmsu.]+)(?: (milli|micro)?(second|minute|hour)s?)?",
    re.ASCII,
)
_WORDS_S = {"second": 1.0, "minute": 60.0, "hour": 3_600.0}
_SMALL = {None: 1.0, "milli": 1e-3, "micro": 1e-6}


def reading_of(headers: Mapping[str, str]) -> Reading:
    """Limits per minute and what is left of them; of several for one dimension, the smallest limit
    with what is left of just that one.

    Cohere states the calls that a trial key has per minute; Voyage states nothing.
    """
    limits: defaultdict[str, dict[str, float]] = defaultdict(dict)
    left: defaultdict[str, dict[str, float]] = defaultdict(dict)
    daily: set[str] = set()
    for name, value in headers.items():
        lowered = name.lower()
        match = _RATE.fullmatch(lowered)
        amount = _amount(value)
        if amount is None or (match is None and lowered not in _TRIAL):
            continue
        what, dimension, factor = _meaning(match, lowered)
        # A project's limit and its organization's are told apart by the rest of the name.
        window = lowered.replace(f"-{what}", "", 1)
        if what == "limit" and _is_daily(lowered, amount, headers):
            daily.add(window)
        elif what == "limit" and amount > 0:
            limits[dimension][window] = amount * factor
        # What is left of ten seconds says nothing of the minute.
        elif what == "remaining" and factor == 1:
            left[dimension][window] = amount
    smallest = {dimension: min(windows.values()) for dimension, windows in limits.items()}

    def counts(dimension: str, window: str) -> bool:
        """Whether it is the limit that holds; what is left of a day says nothing of a minute."""
        return window not in daily and limits[dimension].get(window) == smallest.get(dimension)

    remaining = {
        dimension: min(amounts)
        for dimension, windows in left.items()
        if (amounts := [windows[each] for each in windows if counts(dimension, each)])
    }
    return Reading(smallest, remaining)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait: `retry-after-ms`, or `Retry-After` in either form.

    A date counts from the answer's own `Date`, because this machine's clock may be wrong; without
    one it says nothing.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    milliseconds = _amount(lowered.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1e3, LONGEST_WAIT_S)
    text = lowered.get("retry-after", "").strip()
    wait_s = duration(text)
    until, since = _date(text), _date(lowered.get("date", ""))
    if wait_s is None and until is not None and since is not None:
        wait_s = max(0.0, (until - since).total_seconds())
    return None if wait_s is None else min(wait_s, LONGEST_WAIT_S)


def hinted_wait(message: str) -> float | None:
    """The wait that a message asks for: "Please try again in 2.812s", "in 2 minutes"."""
    found = _HINT.search(message.lower())
    wait_s = duration(found[1].rstrip(".")) if found else None
    if found is None or wait_s is None:
        return None
    if found[3]:
        wait_s *= _SMALL[found[2]] * _WORDS_S[found[3]]
    return min(wait_s, LONGEST_WAIT_S)


def duration(text: str) -> float | None:
    """Seconds of `20ms`, `1s`, `4.253s`, `1m60s`, `6m0s`, `23h18m29.144s` or a bare number."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _amount(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return seconds if math.isfinite(seconds) else None


def _meaning(match: re.Match[str] | None, name: str) -> tuple[str, str, float]:
    """Limit or remaining, of which dimension, and how many of its periods make a minute."""
    if match is None:
        return _TRIAL[name], "requests", 1.0
    what, dimension, period, seconds = match.groups()
    in_seconds = 60.0 if period in (None, "minute") else float(seconds or 1)
    factor = 60.0 / in_seconds if in_seconds > 0 else 1.0
    return what, _DIMENSIONS.get(dimension, dimension), factor


def _is_daily(name: str, limit: float, headers: Mapping[str, str]) -> bool:
    """Whether the time until the bucket is full says that it is one of a day.

    full_in = used / limit * period.
    """
    lowered = {key.lower(): value for key, value in headers.items()}
    full_in_s = duration(lowered.get(name.replace("-limit-", "-reset-"), ""))
    left = _amount(lowered.get(name.replace("-limit-", "-remaining-"), ""))
    if full_in_s is None or left is None or left >= limit:
        return False
    return full_in_s > SHORTEST_RESET_S and full_in_s * limit / (limit - left) > LONGEST_PERIOD_S


def _amount(text: str) -> float | None:
    """A number that is not negative: -1 stands for "no limit" in some servers."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
