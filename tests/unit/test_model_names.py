"""Models that a setting names: one that no model can have would be kept in silence for ever."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.catalogue.api_models import PROVIDERS
from embedfleet_schema.catalogue.model_names import check_pattern
from embedfleet_schema.errors import BadSettings
from embedfleet_schema.settings import load_settings


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("x", "write provider/model, as in openai/text-embedding-3-small"),
        ("", "write provider/model"),
        ("openai", "write provider/model"),
        ("openai/", "write provider/model"),
        ("openai/ m", "write provider/model"),
        ("openai/m ", "write provider/model"),
        ("text-embedding-3-small", "did you mean openai/text-embedding-3-small"),
        ("OpenAI/text-embedding-3-small", "did you mean openai/text-embedding-3-small"),
        ("opnai/mine", "the providers are local, fake, openai"),
        ("BAAI/bge-small-en-v1.5", "did you mean local/BAAI/bge-small-en-v1.5"),
        ("local/sentence-transformers/all-MiniLM-L6-v2", "write local/all-MiniLM-L6-v2"),
        ("local/./my-model", "absolute"),
        ("local/~/my-model", "absolute"),
    ],
)
def test_a_name_that_no_model_has_is_refused_with_the_right_form(name, hint, monkeypatch):
    for setting, value in (("prices", {name: 1}), ("allowed_models", [name])):
        with pytest.raises(BadSettings, match=hint) as raised:
            load_settings(**{setting: value})
        assert setting in str(raised.value)
        assert repr(name) in str(raised.value)


def test_the_environment_is_held_to_it_too(monkeypatch):
    monkeypatch.setenv("EMBEDFLEET_PRICES", '{"x": 1}')
    with pytest.raises(BadSettings, match="prices: 'x' names no model"):
        load_settings()


@pytest.mark.parametrize(
    "name",
    [
        "openai/text-embedding-3-small",
        "openai/a-model-of-next-year",
        "jina/mine",
        "fake/16",
        "local/all-MiniLM-L6-v2",
        "local/BAAI/bge-small-en-v1.5",
        "local//data/my model",
    ],
)
def test_a_name_that_a_model_may_have_is_taken(name):
    settings = load_settings(prices={name: 1}, allowed_models=[name])
    assert ({name: 1.0}, [name]) == (settings.prices, settings.allowed_models)


@pytest.mark.parametrize("pattern", ["*", "local/*", "*MiniLM*", "[lf]*", "open*", "local*", "?*"])
def test_a_pattern_that_some_model_matches_is_taken(pattern):
    assert [pattern] == load_settings(allowed_models=[pattern]).allowed_models


@pytest.mark.parametrize("pattern", ["Local/*", "BAAI/*", "opnai/*", "all-MiniLM-*", " local/*"])
def test_a_pattern_that_no_model_can_match_is_refused(pattern):
    with pytest.raises(BadSettings, match=r"allowed_models.*provider/model"):
        load_settings(allowed_models=[pattern])


WORDS = st.text(st.sampled_from("ab/*?[]!-") | st.sampled_from("localfake"), max_size=8)


@given(pattern=WORDS, provider=st.sampled_from(PROVIDERS), model=st.text("ab-", min_size=1))
def test_a_pattern_that_matches_a_model_is_never_refused(pattern, provider, model):
    for each in (pattern, f"{provider}/{pattern}", f"{provider}{pattern}"):
        if fnmatchcase(f"{provider}/{model}", each):
            assert each == check_pattern(each)
