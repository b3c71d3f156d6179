"""From the name of a model to its embedding space, without loading the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from embedfleet_schema.catalogue.api_models import API_PROVIDERS, PROVIDERS
from embedfleet_schema.catalogue.api_spaces import api_space
from embedfleet_schema.catalogue.hub import is_hub_name
from embedfleet_schema.catalogue.model_files import (
    Module,
    find_model,
    is_path,
    read_config,
    read_modules,
    weight_files,
)
from embedfleet_schema.catalogue.model_revision import model_revision
from embedfleet_schema.catalogue.plugins import is_plugin, plugin_space
from embedfleet_schema.errors import BadModelName, ModelNotFound, ModelRefused
from embedfleet_schema.types import Metric, Space, Storage

SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
# What pgvector takes: https://github.com/pgvector/pgvector#reference. Wider vectors are stored as
# float16 unless somebody says otherwise, and none may be wider than that.
FLOAT32_DIMENSIONS, STORED_DIMENSIONS = 2_000, 16_000
FAKE_DIMENSIONS = 384
FAKE_MAX_TOKENS = 512
# A static model has no limit of its own; past this a mean of token vectors says little.
STATIC_MAX_TOKENS = 512
# Tokenizers without a limit declare one of 10**30.
_ABSURD_TOKENS = 10_000_000
_WITHOUT_POOLING_FILE = (Module("Transformer", ""), Module("Pooling", ""))
_SENTENCE_CONFIGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Their position table starts behind the padding token, so it holds fewer tokens than rows.
_OFFSET_POSITIONS = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})


class _Output(NamedTuple):
    """What comes out behind a module."""

    dimensions: int = 0
    pooling: str = ""
    normalized: bool = False


def parse_model(name: str) -> tuple[str, str]:
    """Split a model's name into provider and model; a name without a provider is local. Installed
    packages may bring more providers.

    `all-MiniLM-L6-v2`, `BAAI/bge-small-en-v1.5`, `./my-model`, `local//data/my-model`,
    `fake/384` and `openai/text-embedding-3-small` are names.

    Raises:
        BadModelName: nothing can be called that.
    """
    provider, slash, model = name.partition("/")
    if name == "fake":
        return "fake", str(FAKE_DIMENSIONS)
    if provider not in PROVIDERS and not (model and is_plugin(provider)):
        provider, model = "local", name
    elif not slash or not model:
        raise BadModelName(name=name, reason=f"it names the provider {provider}, but no model")
    if provider == "local":
        # The hub's short names are sentence-transformers' own: one model, one space.
        model = model.removeprefix("sentence-transformers/")
        if not is_path(model) and not is_hub_name(model):
            raise BadModelName(name=name, reason="it is neither a hub name nor a directory")
    return provider, model


def resolve_space(
    model: str,
    *,
    dimensions: int | None = None,
    max_tokens: int | None = None,
    storage: Storage | None = None,
    metric: Metric = "cosine",
    document_prompt: str | None = None,
    query_prompt: str | None = None,
) -> Space:
    """The space of a model's vectors; what is left out is the model's own.

    A directory is named by its absolute path, which every worker must see under that path; the
    same model under two paths makes two spaces. `dimensions` chooses among what a model behind an
    API offers, and is needed, as `max_tokens` may be, for one that is not in the catalogue. Vectors
    of a local model are cut to so many, and made of unit length again.

    Raises:
        BadModelName: the name, its provider or its dimensions cannot be used.
        ModelNotFound: a local model's files are out of reach, or do not say enough.
        ModelRefused: a local model would run code of its own, or has parts that are not supported.
        PluginBroken: the package that provides it cannot be used.
    """
    provider, rest = parse_model(model)
    if provider in API_PROVIDERS:
        space = api_space(provider, rest, dimensions, max_tokens)
    elif provider not in PROVIDERS:
        space = plugin_space(provider, rest, dimensions, max_tokens)
    else:
        space = _fake_space(rest) if provider == "fake" else _local_space(rest, dimensions)
        _check_own(model, space, dimensions, max_tokens)
    return replace(
        space,
        storage=_fitting_storage(model, space.dimensions, storage),
        metric=metric,
        document_prompt=space.document_prompt if document_prompt is None else document_prompt,
        query_prompt=space.query_prompt if query_prompt is None else query_prompt,
    )


def uncut(space: Space) -> Space:
    """The space of what a local model gives before its vectors are cut: `space` where they are not.

    Raises:
        ModelNotFound, ModelRefused: as `resolve_space`.
    """
    output = _output(space.model, find_model(space.model, weights=False))
    if output.dimensions <= space.dimensions:
        return space
    return replace(space, dimensions=output.dimensions, normalized=output.normalized)


def _cut_to(space: Space, dimensions: int) -> Space:
    """The space of the first so many dimensions of a local model's vectors, of unit length; what is
    no less than the model gives, stays.
    """
    if dimensions >= space.dimensions:
        return space
    return replace(space, dimensions=dimensions, normalized=True)


def _fitting_storage(name: str, dimensions: int, wanted: Storage | None) -> Storage:
    if dimensions > STORED_DIMENSIONS:
        reason = (
            f"it has {dimensions} dimensions, and PostgreSQL stores up to {STORED_DIMENSIONS:,}"
        )
        raise BadModelName(name=name, reason=reason)
    return wanted or ("vector" if dimensions <= FLOAT32_DIMENSIONS else "halfvec")


def _check_own(name: str, space: Space, dimensions: int | None, max_tokens: int | None) -> None:
    """What a model's files say cannot be said otherwise."""
    if dimensions not in (None, space.dimensions):
        reason = f"its vectors have {space.dimensions} dimensions, not {dimensions}"
        raise BadModelName(name=name, reason=reason)
    if max_tokens not in (None, space.max_tokens):
        reason = f"it takes {space.max_tokens} tokens, not {max_tokens}"
        raise BadModelName(name=name, reason=reason)


def _fake_space(model: str) -> Space:
    if not re.fullmatch("[1-9][0-9]{0,5}", model):
        reason = "write a number of dimensions after fake/"
        raise BadModelName(name=f"fake/{model}", reason=reason)
    return Space("fake", model, int(model), FAKE_MAX_TOKENS)


def _local_space(model: str, dimensions: int | None) -> Space:
    if is_path(model):
        model = str(Path(model).expanduser().resolve())
    directory = find_model(model, weights=False)
    output = _output(model, directory)
    document_prompt, query_prompt = _prompts(model, directory)
    space = Space(
        "local",
        model,
        output.dimensions,
        _max_tokens(model, directory, _modules(model, directory)[0]),
        revision=model_revision(model),
        pooling=output.pooling,
        normalized=output.normalized,
        document_prompt=document_prompt,
        query_prompt=query_prompt,
    )
    # Its authors may have saved it so that sentence-transformers cuts its vectors.
    own = _first_int(read_config(model, directory / SENTENCE_TRANSFORMERS), "truncate_dim")
    return _cut_to(space, dimensions or own or space.dimensions)


def _modules(model: str, directory: Path) -> list[Module]:
    return read_modules(model, directory) or list(_WITHOUT_POOLING_FILE)


def _output(model: str, directory: Path) -> _Output:
    """What comes out behind the last module."""
    output = _Output()
    for module in _modules(model, directory):
        output = _behind(module, output, model, directory)
    if output.dimensions < 1:
        raise ModelNotFound(
            model=model, reason="its files do not say how many dimensions its vectors have"
        )
    return output


def _behind(module: Module, before: _Output, model: str, directory: Path) -> _Output:
    config = read_config(model, directory / module.folder / "config.json")
    match module.kind:
        case "Transformer":
            return _Output(_hidden_size(config))
        case "StaticEmbedding":
            return _Output(_static_dimensions(model, module), "mean")
        case "Pooling" if config:
            modes = list(_pooling_modes(config))
            width = _first_int(config, "embedding_dimension", "word_embedding_dimension")
            pooling = "+".join(modes) + ("" if config.get("include_prompt", True) else "-no-prompt")
            return _Output((width or before.dimensions) * len(modes), pooling)
        case "Dense":
            return before._replace(dimensions=_first_int(config, "out_features"), normalized=False)
        case "Normalize":
            return before._replace(normalized=True)
        case "Dropout" | "LayerNorm":
            return before
        case "Pooling":
            raise ModelNotFound(model=model, reason=f"{module.folder}/config.json is missing")
    raise ModelRefused(model=model, reason=f"its module {module.kind} is not supported yet")


def _pooling_modes(config: dict[str, Any]) -> Iterator[str]:
    modes = config.get("pooling_mode") or [
        mode for key, mode in _LEGACY_POOLING.items() if config.get(key)
    ]
    if not modes:
        # sentence-transformers takes the last token for a model that was made to continue text.
        made_for = str((config.get("architectures") or [""])[0])
        causal = made_for.endswith("ForCausalLM") and config.get("is_causal", True)
        modes = "lasttoken" if causal else "mean"
    yield from [modes] if isinstance(modes, str) else modes


def _first_int(config: dict[str, Any], *keys: str) -> int:
    return next((config[key] for key in keys if isinstance(config.get(key), int)), 0)


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.json that describes the text model: its own in multimodal models."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def _hidden_size(config: dict[str, Any]) -> int:
    return _first_int(_text_config(config), "hidden_size", "d_model", "dim", "n_embd")


def _static_dimensions(model: str, module: Module) -> int:
    """Read from the weights' header: a static model states its width nowhere else."""
    directory = find_model(model)
    weights = Path(module.folder, "model.safetensors").as_posix()
    if weights not in weight_files(model, directory):
        return 0
    with (directory / weights).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for tensor in ("embedding.weight", "embeddings"):
        if tensor in header:
            return int(header[tensor]["shape"][1])
    return 0


def _max_tokens(model: str, directory: Path, first: Module) -> int:
    """How many tokens the model takes, special tokens included, as sentence-transformers cuts."""
    if first.kind == "StaticEmbedding":
        return STATIC_MAX_TOKENS
    folder = directory / first.folder
    found = (read_config(model, folder / name) for name in _SENTENCE_CONFIGS)
    sentence = next((config for config in found if config), {})
    processor = sentence.get("processor_kwargs") or sentence.get("tokenizer_args") or {}
    stated = _first_int(sentence, "max_seq_length") or _first_int(processor, "model_max_length")
    if stated:
        return stated
    tokenizer = read_config(model, folder / "tokenizer_config.json")
    limits = [
        _first_int(tokenizer, "model_max_length"),
        _positions(_text_config(read_config(model, folder / "config.json"))),
    ]
    sane = [limit for limit in limits if 0 < limit < _ABSURD_TOKENS]
    if not sane:
        raise ModelNotFound(model=model, reason="its files do not say how many tokens it takes")
    return min(sane)


def _positions(config: dict[str, Any]) -> int:
    rows = _first_int(config, "max_position_embeddings", "n_positions")
    if config.get("model_type") in _OFFSET_POSITIONS:
        return rows - _first_int(config, "pad_token_id") - 1
    return rows


def _prompts(model: str, directory: Path) -> tuple[str, str]:
    """The prompts that the model's authors saved, for documents and for queries."""
    config = read_config(model, directory / SENTENCE_TRANSFORMERS)
    saved = config.get("prompts") or {}
    # The first that is not empty: saving adds an empty "document" beside an author's "passage".
    document = next((saved[key] for key in ("document", "passage", "corpus") if saved.get(key)), "")
    return document, saved.get("query") or ""
