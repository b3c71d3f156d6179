"""What is known of the embedding models that are reached through an API: sizes, limits, prices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches

# A model that is not here costs what EMBEDFLEET_PRICES says, or an unknown amount. Taken from the
# providers' pages, and from dated third-party tables where those could not be read.
PRICES_AS_OF = date(2026, 5, 31)
# OpenAI's tokenizer of all its embedding models, and our estimate for models that keep theirs to
# themselves.
CL100K = "cl100k_base"

Widths = tuple[int, ...] | range


@dataclass(frozen=True, slots=True)
class ApiModel:
    """A model behind an API.

    `widths` are the dimensions that it can be asked for. `tokenizer` is CL100K, the name of a
    public tokenizer on the Hugging Face hub, or None where none is public: then counts are
    estimates. `usd` is the price of a million tokens, None where it is not known. The prompts are
    what the provider's guide says to put before texts of a model that takes no such parameter.
    """

    provider: str
    model: str
    dimensions: int
    widths: Widths
    max_tokens: int
    tokenizer: str | None
    usd: float | None
    document_prompt: str = ""
    query_prompt: str = ""

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"

    def offered(self) -> str:
        """The dimensions that the model offers, for people."""
        if isinstance(self.widths, range):
            return f"{self.widths[0]} to {self.widths[-1]}"
        return ", ".join(map(str, self.widths))


# The API reference says 8,192 and the models' pages 8,191: the smaller one is always taken.
_OPENAI_TOKENS = 8_191
_VOYAGE = (256, 512, 1024, 2048)
_JINA_V3 = (32, 64, 128, 256, 512, 768, 1024)
_JINA_V4 = (128, 256, 512, 1024, 2048)
_GEMINI = range(128, 3_073)
# A model of Bedrock in another region's or in every region's capacity: us.cohere.embed-v4:0.
_ACROSS_REGIONS = re.compile(r"(?:us|us-gov|eu|apac|jp|au|global)\.")


_COHERE_V3 = "Cohere/Cohere-embed-english-v3.0"
_COHERE_V3M = "Cohere/Cohere-embed-multilingual-v3.0"


def _openai(model: str, dimensions: int, widths: Widths, usd: float) -> ApiModel:
    return ApiModel("openai", model, dimensions, widths, _OPENAI_TOKENS, CL100K, usd)


def _cohere_v3(model: str, dimensions: int) -> ApiModel:
    # The price is that of third-party tables: Cohere's own page no longer lists the v3 family.
    tokenizer = f"Cohere/Cohere-{model}"
    return ApiModel("cohere", model, dimensions, (dimensions,), 512, tokenizer, 0.10)


def _voyage(model: str, usd: float, widths: Widths = _VOYAGE, max_tokens: int = 32_000) -> ApiModel:
    # Voyage publishes each model's tokenizer under the model's name.
    return ApiModel("voyage", model, 1024, widths, max_tokens, f"voyageai/{model}", usd)


_MODELS = (
    _openai("text-embedding-3-small", 1536, range(1, 1_537), 0.02),
    _openai("text-embedding-3-large", 3072, range(1, 3_073), 0.13),
    _openai("text-embedding-ada-002", 1536, (1536,), 0.10),
    ApiModel("cohere", "embed-v4.0", 1536, (256, 512, 1024, 1536), 128_000, None, 0.12),
    _cohere_v3("embed-english-v3.0", 1024),
    _cohere_v3("embed-english-light-v3.0", 384),
    _cohere_v3("embed-multilingual-v3.0", 1024),
    _cohere_v3("embed-multilingual-light-v3.0", 384),
    _voyage("voyage-4-large", 0.12),
    _voyage("voyage-4", 0.06),
    _voyage("voyage-4-lite", 0.02),
    _voyage("voyage-3.5", 0.06),
    _voyage("voyage-3.5-lite", 0.02),
    _voyage("voyage-3-large", 0.18),
    _voyage("voyage-code-3", 0.18),
    _voyage("voyage-finance-2", 0.12, (1024,)),
    _voyage("voyage-law-2", 0.12, (1024,), 16_000),
    ApiModel("gemini", "gemini-embedding-001", 3072, _GEMINI, 2_048, None, 0.15),
    # It takes no task type: the guide of the Gemini API has these prefixes instead.
    ApiModel(
        "gemini",
        "gemini-embedding-2",
        3072,
        _GEMINI,
        8_192,
        None,
        0.20,
        document_prompt="title: none | text: ",
        query_prompt="task: search result | query: ",
    ),
    # Jina sells packages of tokens, and sources disagree about their price (0.02 to 0.05).
    ApiModel(
        "jina", "jina-embeddings-v3", 1024, _JINA_V3, 8_192, "jinaai/jina-embeddings-v3", None
    ),
    ApiModel(
        "jina", "jina-embeddings-v4", 2048, _JINA_V4, 32_768, "jinaai/jina-embeddings-v4", None
    ),
    ApiModel("mistral", "mistral-embed", 1024, (1024,), 8_192, None, 0.10),
    ApiModel("mistral", "codestral-embed", 1536, range(1, 3_073), 8_192, None, 0.15),
    ApiModel("bedrock", "amazon.titan-embed-text-v2:0", 1024, (256, 512, 1024), 8_192, None, 0.02),
    ApiModel("bedrock", "amazon.titan-embed-text-v1", 1536, (1536,), 8_192, None, 0.10),
    ApiModel("bedrock", "cohere.embed-english-v3", 1024, (1024,), 512, _COHERE_V3, 0.10),
    ApiModel("bedrock", "cohere.embed-multilingual-v3", 1024, (1024,), 512, _COHERE_V3M, 0.10),
    ApiModel("bedrock", "cohere.embed-v4:0", 1536, (256, 512, 1024, 1536), 128_000, None, 0.12),
    # Google bills these two by characters, so a price for tokens is not known.
    ApiModel("vertex", "text-embedding-005", 768, range(1, 769), 2_048, None, None),
    ApiModel("vertex", "text-multilingual-embedding-002", 768, range(1, 769), 2_048, None, None),
    ApiModel("vertex", "gemini-embedding-001", 3072, _GEMINI, 2_048, None, 0.15),
)
_BY_NAME: Mapping[str, ApiModel] = {each.name: each for each in _MODELS}
API_MODELS = tuple(_BY_NAME)
API_PROVIDERS = tuple(dict.fromkeys(each.provider for each in _MODELS))
PROVIDERS = ("local", "fake", *API_PROVIDERS)
# Those that know their callers by the credentials of a cloud, which their own clients find.
WITHOUT_KEY = ("bedrock", "vertex")


def find(provider: str, model: str) -> ApiModel | None:
    """The entry of a model; None where nothing is known of it."""
    return _BY_NAME.get(f"{provider}/{bedrock_model(model) if provider == 'bedrock' else model}")


def bedrock_model(model: str) -> str:
    """A model of Bedrock without the regions that a profile of it spans."""
    return _ACROSS_REGIONS.sub("", model, count=1)


def known(provider: str) -> list[str]:
    """The names of a provider's models, without the provider."""
    return [each.model for each in _MODELS if each.provider == provider]


def resembling(provider: str, model: str) -> list[str]:
    """Known names of the provider that a slip of the finger may have meant, the nearest first."""
    return get_close_matches(model, known(provider), n=3, cutoff=0.8)


def price_of(name: str, overrides: Mapping[str, float]) -> float | None:
    """USD per million tokens of `provider/model`; None where nobody says.

    What runs on machines of one's own costs nothing here, unless `overrides` says otherwise.
    """
    if name in overrides:
        return overrides[name]
    provider = name.partition("/")[0]
    if provider in ("local", "fake"):
        return 0.0
    entry = find(provider, name.partition("/")[2])
    return entry.usd if entry is not None else None
