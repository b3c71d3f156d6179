"""Embedding models whose provider has announced an end: vectors of theirs can not be made any more
after that, and neither can those of queries.

Each row has the page that says so, and when it was read. A model that is not here may end all the
same: providers announce it on these pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

READ_ON = date(2026, 12, 1)
_GOOGLE = "https://ai.google.dev/gemini-api/docs/deprecations"
_COHERE = "https://docs.cohere.com/changelog/2026-04-04-embed-v2-aya-8b-retirement"


@dataclass(frozen=True, slots=True)
class Retirement:
    """From the day `on` the provider answers no more; Google calls its dates the earliest ones."""

    provider: str
    model: str
    on: date
    replacement: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


def _gemini(model: str, on: date) -> Retirement:
    return Retirement("gemini", model, on, "gemini/gemini-embedding-2", _GOOGLE)


def _cohere(model: str) -> Retirement:
    return Retirement("cohere", model, date(2026, 4, 4), "cohere/embed-v4.0", _COHERE)


_EXPERIMENTS_END = date(2025, 10, 30)

RETIREMENTS = (
    _gemini("gemini-embedding-001", date(2028, 5, 14)),
    _gemini("embedding-2-preview", date(2026, 8, 10)),
    _gemini("text-embedding-004", date(2026, 1, 14)),
    _gemini("embedding-001", _EXPERIMENTS_END),
    _gemini("embedding-gecko-001", _EXPERIMENTS_END),
    _gemini("gemini-embedding-exp", _EXPERIMENTS_END),
    _gemini("gemini-embedding-exp-03-07", _EXPERIMENTS_END),
    _cohere("embed-english-v2.0"),
    _cohere("embed-english-light-v2.0"),
    _cohere("embed-multilingual-v2.0"),
)
_BY_NAME: Mapping[str, Retirement] = {each.name: each for each in RETIREMENTS}


def retirement_of(provider: str, model: str) -> Retirement | None:
    """What a provider has announced about a model; None where that is not known here."""
    return _BY_NAME.get(f"{provider}/{model}")
