"""What every embedder promises, asked of each of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from embedfleet.testing import EmbedderSuite
from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.types import Space
from embedfleet_workers.embedders import choice, load_embedder
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.openvino_engine import is_installed
from embedfleet_workers.embedders.probes import SAME
from embedfleet_workers.testing.embedder_promises import (
    FLOAT32,
    HALF,
    TEXTS,
    Asked,
    a_closed_embedder_closes_again_and_embeds_no_more,
    smallest_cosine,
)
from plugins.provider_dialects import DialectServer, factory_to, set_cloud_credentials

FAKE = resolve_space("fake/384")
# A prompt for queries, which the model itself does not have, so that the kinds can be told apart.
LOCAL = resolve_space("all-MiniLM-L6-v2", query_prompt="query: ")
CUT = resolve_space("all-MiniLM-L6-v2", dimensions=64, query_prompt="query: ")
# Each with a provider's server of its own; OpenAI and Mistral have no kinds but for the prompt.
APIS = [
    Space("openai", "text-embedding-3-small", 1536, 8_192, query_prompt="query: "),
    Space("openai", "text-embedding-3-large", 256, 8_192, query_prompt="query: "),
    Space("openai", "bge-m3", 1024, 8_192, query_prompt="query: "),
    Space("cohere", "embed-v4.0", 1024, 8_192),
    Space("voyage", "voyage-4", 1024, 8_192),
    Space("gemini", "gemini-embedding-001", 768, 2_048),
    Space("jina", "jina-embeddings-v3", 512, 8_192),
    Space("mistral", "codestral-embed", 256, 8_192, query_prompt="query: "),
    Space("bedrock", "amazon.titan-embed-text-v2:0", 256, 8_192, query_prompt="query: "),
    Space("bedrock", "us.cohere.embed-v4:0", 1536, 128_000),
    Space("vertex", "text-embedding-005", 768, 2_048),
    Space("vertex", "gemini-embedding-001", 256, 2_048),
]
# What may run a local model; half precision is bfloat16, which OpenVINO calculates on any CPU.
ENGINES = [Wanted("torch"), Wanted("openvino", "float32"), Wanted("openvino", "half")]


@contextmanager
def loaded(space, wanted=ENGINES[0]):
    """The embedder of a space, and the provider that it needs."""
    if space not in APIS:
        yield load_embedder(space, device="cpu", threads=2, wanted=wanted)
        return
    server = DialectServer(space.provider, space.dimensions)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        set_cloud_credentials(patch, Path(folder), server)
        api = factory_to(server)
        yield load_embedder(space, device="cpu", api=api)
        api.close()
    server.close()


def ways():
    """Each embedder, and the local one with each engine."""
    for space in (FAKE, *APIS):
        yield pytest.param((space, ENGINES[0]), id=space.name)
    for wanted in ENGINES:
        name = f"{LOCAL.name}-{wanted.engine}-{wanted.precision}"
        marks = [pytest.mark.torch, getattr(pytest.mark, wanted.engine)]
        yield pytest.param((LOCAL, wanted), id=name, marks=marks)


@pytest.fixture(scope="module", params=ways())
def asked(request, converted_models):
    space, wanted = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "cpu_flags", lambda: {"avx512_bf16"})
        with loaded(space, replace(wanted, converted=converted_models)) as embedder:
            vectors = embedder.embed(TEXTS, "document")
            yield Asked(embedder, vectors, HALF if wanted.precision == "half" else FLOAT32)
            embedder.close()


class TestEachEmbedder(EmbedderSuite):
    """The suite that other packages use, over all of ours."""


@pytest.mark.torch
def test_a_model_whose_vectors_are_cut_closes_too():
    with loaded(CUT) as embedder:
        a_closed_embedder_closes_again_and_embeds_no_more(Asked(embedder, None))


@pytest.mark.torch
def test_the_local_vectors_are_those_of_plain_sentence_transformers(converted_models, monkeypatch):
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr(choice, "cpu_flags", lambda: {"avx512_bf16"})
    directory = str(find_model(LOCAL.model))
    plain = SentenceTransformer(directory, device="cpu", local_files_only=True)
    prompts = {"document": "", "query": LOCAL.query_prompt}
    expected = {
        kind: plain.encode(TEXTS, prompt=prompt, batch_size=1, show_progress_bar=False)
        for kind, prompt in prompts.items()
    }
    for wanted in ENGINES if is_installed() else ENGINES[:1]:
        with loaded(LOCAL, replace(wanted, converted=converted_models)) as embedder:
            assert wanted.engine == embedder.engine
            for kind in prompts:
                found = smallest_cosine(expected[kind], embedder.embed(TEXTS, kind))
                assert found >= SAME[embedder.precision], (wanted, kind)
            embedder.close()
