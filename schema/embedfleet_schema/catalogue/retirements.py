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
# Read in OpenAI's own copy of the page, at commit d2bb606 of openai/openai-cookbook.
_OPENAI = "https://platform.openai.com/docs/deprecations"
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


def _openai(model: str) -> Retirement:
    """Of the first generation."""
    on = date(2024, 1, 4)
    return Retirement("openai", f"{model}-001", on, "openai/text-embedding-3-small", _OPENAI)


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
    _openai("text-similarity-ada"),
    _openai("text-similarity-babbage"),
    _openai("text-similarity-curie"),
    _openai("text-similarity-davinci"),
    _openai("text-search-ada-doc"),
    _openai("text-search-ada-query"),
    _openai("text-search-babbage-doc"),
    _openai("text-search-babbage-query"),
    _openai("text-search-curie-doc"),
    _openai("text-search-curie-query"),
    _openai("text-search-davinci-doc"),
    _openai("text-search-davinci-query"),
    _openai("code-search-ada-code"),
    _openai("code-search-ada-text"),
    _openai("code-search-babbage-code"),
    _openai("code-search-babbage-text"),
)
_BY_NAME: Mapping[str, Retirement] = {each.name: each for each in RETIREMENTS}


def retirement_of(provider: str, model: str) -> Retirement | None:
    """What a provider has announced about a model; None where that is not known here."""
    return _BY_NAME.get(f"{provider}/{model}")
