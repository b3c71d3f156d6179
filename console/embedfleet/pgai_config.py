"""What a vectorizer of pgai was told, in our terms, and what of it has no counterpart here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from string import Template
from typing import Any

from embedfleet_schema.amounts import quantity
from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.exchange_errors import VectorizerRefused
from embedfleet_schema.store.pgai import CHUNK_ALONE, Found, Vectorizer
from embedfleet_schema.types import Chunking, Metric

# How pgai and LiteLLM call providers that have another name here.
PROVIDERS = {"voyageai": "voyage", "jina_ai": "jina", "ollama": "openai", "vertex_ai": "vertex"}
OPCLASSES: Mapping[str, Metric] = {
    "vector_cosine_ops": "cosine",
    "vector_l2_ops": "l2",
    "vector_ip_ops": "inner_product",
}
OLLAMA = "http://localhost:11434"
KEYS = {"openai": "OPENAI_API_KEY", "voyageai": "VOYAGE_API_KEY"}
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


def model_of(vectorizer: Vectorizer) -> str:
    """The model's name here.

    Raises:
        VectorizerRefused: its provider is none of ours.
    """
    embedding = vectorizer.part("embedding")
    model = str(embedding.get("model", ""))
    provider = str(embedding.get("implementation", ""))
    if provider == "litellm":
        first, slash, rest = model.partition("/")
        provider, model = (first, rest) if slash else ("openai", model)
    provider = PROVIDERS.get(provider, provider)
    if provider not in API_PROVIDERS or not model:
        said = embedding.get("model", "no model")
        reason = f"its model {said} has no name here. Name the same model with --model"
        raise VectorizerRefused(name=vectorizer.name, reason=reason)
    return f"{provider}/{model}"


def dimensions_of(vectorizer: Vectorizer) -> int | None:
    """How wide its vectors are, as it says."""
    dimensions = vectorizer.part("embedding").get("dimensions")
    return dimensions if isinstance(dimensions, int) else None


def chunking_of(vectorizer: Vectorizer) -> Chunking | None:
    """How a collection cuts as it does: whole texts. Its other ways have no counterpart."""
    return Chunking(size=0) if _is(vectorizer, "chunking", "none") else None


def metric_of(vectorizer: Vectorizer) -> Metric | None:
    """The metric of its index; None where it has none."""
    return OPCLASSES.get(vectorizer.part("indexing").get("opclass", ""))


def check_texts(vectorizer: Vectorizer) -> None:
    """Raise VectorizerRefused where the texts of its vectors are not in the database."""
    reason = None
    if not vectorizer.columns:
        reason = f"its table {'.'.join(vectorizer.source)} is gone"
    elif vectorizer.store is None and vectorizer.text_column is None:
        reason = "the texts of its vectors are in files, or parsed from them"
    elif vectorizer.store is None and not Template(vectorizer.template).is_valid():
        reason = f"its template cannot be read: {vectorizer.template}"
    if reason is not None:
        raise VectorizerRefused(name=vectorizer.name, reason=reason)


def sync_command(vectorizer: Vectorizer, collection: str, metadata: Sequence[str]) -> str | None:
    """What keeps the collection as the source is; None where the text is in no column of it."""
    if vectorizer.text_column is None:
        return None
    words = ["embedfleet", "sync", "create", collection]
    words += ["--table", ".".join(map(_quoted, vectorizer.source))]
    words += ["--key", ",".join(vectorizer.keys), "--text", vectorizer.text_column]
    if metadata:
        words += ["--metadata", ",".join(metadata)]
    return shlex.join(words)


def not_taken(vectorizer: Vectorizer, found: Found, collection: str) -> Iterator[str]:
    """What of a vectorizer does not come along, each with what to do about it."""
    yield from _of_texts(vectorizer)
    yield from _of_model(vectorizer)
    indexing = vectorizer.part("indexing")
    if indexing.get("implementation", "none") != "none":
        yield f"index {indexing['implementation']}: build one with embedfleet index {collection}"
    scheduling = vectorizer.part("scheduling").get("implementation", "none")
    if scheduling != "none":
        yield f"schedule {scheduling}: workers embed as soon as there is work"
    if found.waiting:
        what = "the texts of before are taken" if vectorizer.store else "these are not taken"
        yield f"{quantity(found.waiting, 'row')} that pgai has not embedded as they are now: {what}"
    if vectorizer.disabled:
        yield "it is disabled in pgai: what changed since then is not known"


def _of_texts(vectorizer: Vectorizer) -> Iterator[str]:
    chunking = vectorizer.part("chunking")
    if not _is(vectorizer, "chunking", "none"):
        size, overlap = chunking.get("chunk_size"), chunking.get("chunk_overlap")
        how = f"{chunking.get('implementation')} ({size} characters, overlap {overlap})"
        yield f"chunker {how}: texts that change are cut by tokens"
    if vectorizer.template != CHUNK_ALONE:
        yield (
            f"template {vectorizer.template!a}: chunks hold the text that was embedded with it, "
            "new texts are embedded without it"
        )
    loading = vectorizer.part("loading").get("implementation", "column")
    if loading != "column":
        column = vectorizer.loading
        yield f"loading from {loading} in {column}: enqueue those files yourself, by their paths"
    elif vectorizer.text_column is None:
        yield f"parsing of {vectorizer.loading}: enqueue those files yourself"


def _of_model(vectorizer: Vectorizer) -> Iterator[str]:
    embedding = vectorizer.part("embedding")
    kind = str(embedding.get("implementation"))
    if kind == "ollama":
        address = str(embedding.get("base_url") or OLLAMA).rstrip("/")
        yield f"Ollama at {address}: set OPENAI_BASE_URL={address}/v1 for workers"
    elif embedding.get("base_url"):
        yield f"address: set OPENAI_BASE_URL={embedding['base_url']} for workers"
    key = embedding.get("api_key_name")
    if key and key != KEYS.get(kind, key):
        yield f"key in {key}: set {KEYS[kind]} for workers"
    if embedding.get("input_type", "document") != "document":
        yield f"input type {embedding['input_type']}: new texts are embedded as documents"
    for name in ("options", "extra_options", "user"):
        if embedding.get(name):
            yield f"{name} of its embedding: new texts are embedded without them"


def _is(vectorizer: Vectorizer, part: str, implementation: str) -> bool:
    found: Any = vectorizer.part(part).get("implementation")
    return bool(found == implementation)


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"{}"'.format(name.replace('"', '""'))
