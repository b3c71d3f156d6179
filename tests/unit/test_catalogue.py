from datetime import date

import pytest

from embedfleet_schema.catalogue import api_models
from embedfleet_schema.catalogue.api_models import (
    API_PROVIDERS,
    CL100K,
    PRICES_AS_OF,
    find,
    price_of,
)
from embedfleet_schema.catalogue.hub import is_hub_name
from embedfleet_schema.catalogue.retirements import retirement_of
from embedfleet_schema.catalogue.space_lookup import parse_model, resolve_space
from embedfleet_schema.errors import BadModelName
from embedfleet_schema.types import Space
from plugins.documents import ROOT

ENTRIES = [
    entry
    for provider in API_PROVIDERS
    for model in api_models.known(provider)
    if (entry := find(provider, model)) is not None
]
COSTS = (ROOT / "docs/costs.md").read_text()
SMALL = "openai/text-embedding-3-small"
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


@each_entry
def test_an_entry_holds_together(entry):
    assert entry.dimensions in entry.widths
    assert entry.max_tokens > 0
    assert entry.usd is None or 0 < entry.usd < 10
    assert entry.tokenizer in (CL100K, None) or is_hub_name(entry.tokenizer)


@each_entry
def test_each_entry_makes_a_space_that_names_it_again(entry):
    space = resolve_space(entry.name)
    assert (entry.provider, entry.model) == parse_model(space.name)
    assert (entry.dimensions, entry.max_tokens) == (space.dimensions, space.max_tokens)
    assert space.normalized
    assert ("", "") == (space.revision, space.pooling)


@each_entry
def test_each_offered_dimension_can_be_had_and_no_other(entry):
    for width in (min(entry.widths), max(entry.widths)):
        assert width == resolve_space(entry.name, dimensions=width).dimensions
    with pytest.raises(BadModelName, match="it offers"):
        resolve_space(entry.name, dimensions=max(entry.widths) + 1)


@each_entry
def test_the_page_about_costs_says_what_is_known(entry):
    counted = {CL100K: "exactly, offline", None: "estimated"}
    widths = f"{entry.dimensions} ({entry.offered()})" if len(entry.widths) > 1 else entry.offered()
    cells = (
        f"`{entry.name}`",
        widths,
        f"{entry.max_tokens:,}",
        counted.get(entry.tokenizer, "with the published tokenizer"),
        "unknown" if entry.usd is None else f"{entry.usd:g}",
    )
    assert f"| {' | '.join(cells)} |" in COSTS.splitlines()


def test_the_page_about_costs_gives_the_date_of_the_prices():
    assert f"prices are of {PRICES_AS_OF.day} {PRICES_AS_OF:%B %Y}" in COSTS


def test_every_provider_of_an_api_has_a_model_here():
    expected = ("openai", "cohere", "voyage", "gemini", "jina", "mistral", "bedrock", "vertex")
    assert expected == API_PROVIDERS


def test_the_prices_have_a_date():
    assert date(2026, 1, 1) < PRICES_AS_OF < date(2030, 1, 1)


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        (SMALL, {}, 0.02),
        (SMALL, {SMALL: 0.01}, 0.01),
        (SMALL, {SMALL: 0.0}, 0.0),
        ("openai/mine", {}, None),
        ("openai/mine", {"openai/mine": 3.0}, 3.0),
        ("jina/jina-embeddings-v3", {}, None),
        ("local/all-MiniLM-L6-v2", {}, 0.0),
        ("local/all-MiniLM-L6-v2", {"local/all-MiniLM-L6-v2": 0.001}, 0.001),
        ("fake/384", {}, 0.0),
    ],
)
def test_a_price_is_what_a_person_says_else_the_tables_else_unknown(name, overrides, expected):
    assert expected == price_of(name, overrides)


def test_fewer_dimensions_are_another_space():
    whole, short = resolve_space(SMALL), resolve_space(SMALL, dimensions=512)
    assert (1536, 512) == (whole.dimensions, short.dimensions)
    assert whole.fingerprint != short.fingerprint


def test_wide_vectors_are_stored_as_halfvec():
    assert "halfvec" == resolve_space("openai/text-embedding-3-large").storage
    assert "vector" == resolve_space("openai/text-embedding-3-large", dimensions=1024).storage


def test_texts_may_be_cut_shorter_than_the_model_takes_and_not_longer():
    assert 512 == resolve_space(SMALL, max_tokens=512).max_tokens
    with pytest.raises(BadModelName, match="it takes 8191 tokens, not 9000"):
        resolve_space(SMALL, max_tokens=9_000)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("openai/text-embeding-3-smal", "did you mean text-embedding-3-small"),
        ("cohere/embed-v4", "did you mean embed-v4.0"),
        ("voyage/voyage3.5", "did you mean voyage-3.5"),
        ("mistral/embed", "known are mistral-embed, codestral-embed"),
        ("openai/qwen3", "For a new model, give dimensions"),
        ("gemini/embedding-9", "For a new model, give dimensions and max_tokens"),
    ],
)
def test_an_unknown_model_is_met_with_the_names_it_may_be(name, reason):
    with pytest.raises(BadModelName, match=reason):
        resolve_space(name)


def test_an_unknown_model_is_what_its_caller_says():
    assert Space("openai", "BAAI/bge-m3", 1024, 8_192) == resolve_space(
        "openai/BAAI/bge-m3", dimensions=1024
    )
    assert Space("openai", "small", 8, 512) == resolve_space(
        "openai/small", dimensions=8, max_tokens=512
    )
    assert Space("jina", "v9", 16, 99) == resolve_space("jina/v9", dimensions=16, max_tokens=99)
    with pytest.raises(BadModelName, match="give dimensions and max_tokens"):
        resolve_space("jina/v9", dimensions=16)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("openai/a b", {"dimensions": 8}, "cannot have spaces"),
        ("openai/a\nb", {"dimensions": 8}, "cannot have spaces"),
        ("openai/mine", {"dimensions": 0}, "dimensions is a number from 1 on, not 0"),
        ("openai/mine", {"dimensions": 8, "max_tokens": -1}, "max_tokens is a number from 1 on"),
        ("openai/mine", {"dimensions": 16_001}, "PostgreSQL stores up to 16,000"),
    ],
)
def test_what_cannot_be_a_model_is_refused(name, options, reason):
    with pytest.raises(BadModelName, match=reason):
        resolve_space(name, **options)


def test_openai_ended_the_models_of_its_first_generation():
    ended = retirement_of("openai", "text-search-davinci-query-001")
    assert ended is not None
    assert (date(2024, 1, 4), SMALL) == (ended.on, ended.replacement)
    assert retirement_of("openai", "text-embedding-ada-002") is None
