"""What a model's files come to: whether two machines hold the same model, down to its tokenizer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from embedfleet_schema.catalogue.hub import listing
from embedfleet_schema.catalogue.model_code import refuse_pickles
from embedfleet_schema.catalogue.model_files import (
    find_model,
    module_folders,
    shown,
    weight_files,
    weight_paths,
)

# Beside the weights, what decides a vector: how a text is cut into tokens, and what is done with
# what comes out. Not data_config.json and the like, which one copy of a model has and another not.
_DECIDING = (
    *("config.json", "modules.json", "sentence_*_config.json", "config_sentence_transformers.json"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("*.model", "*processor_config.json", "chat_template*", "*.jinja"),
)
# Who saved the model, from where and with what: other words, the same vectors.
_SILENT = frozenset(
    {
        *("_name_or_path", "name_or_path", "transformers_version", "__version__"),
        *("special_tokens_map_file", "tokenizer_file"),
    }
)
_TABLES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})
_DIGITS = 16
_SHA256 = re.compile(r"[0-9a-f]{64}")


def model_revision(name: str) -> str:
    """`sha256:`, 16 hex digits of the weights, `+`, 16 of all other files that decide a vector.

    The same files give the same, wherever they were found. Content, because a hub commit says
    nothing of a directory; and all of it, because fine-tuned siblings share the safetensors header
    and the size. The hub publishes the hash of each file of weights, so a machine without them
    knows it too; a local file costs about 0.7 s per GB, once.

    Raises:
        ModelNotFound: neither the files nor the hub's hashes are within reach.
        ModelRefused: it would run code of its own.
    """
    return f"sha256:{_listed(_weights(name))}+{_listed(_others(name))}"


def weights_part(revision: str) -> str:
    """The part of a revision that tells of the weights: all there is in the spaces of before."""
    return revision.partition("+")[0]


def file_digests(name: str) -> dict[str, str]:
    """16 hex digits for each file that decides a vector, weights included, by its path.

    Raises: as `model_revision` does.
    """
    files = _weights(name) | _others(name)
    return {path: digest[:_DIGITS] for path, digest in sorted(files.items())}


def _weights(name: str) -> dict[str, str]:
    return _published_hashes(name) or _computed_hashes(name)


def _others(name: str) -> dict[str, str]:
    directory = find_model(name, weights=False)
    return {
        path: _configuration_sha256(directory / path)
        for path in shown(name, directory)
        if any(fnmatch(PurePosixPath(path).name, pattern) for pattern in _DECIDING)
    }


def _listed(hashes: Mapping[str, str]) -> str:
    if len(hashes) == 1:
        return next(iter(hashes.values()))[:_DIGITS]
    listing = "\n".join(f"{path} {digest}" for path, digest in sorted(hashes.items()))
    return hashlib.sha256(listing.encode()).hexdigest()[:_DIGITS]


def _published_hashes(name: str) -> dict[str, str]:
    """The hub's own hashes of the weights; empty where it gives none."""
    directory = find_model(name, weights=False)
    listed = listing(directory) or {}
    # What a worker would refuse, nobody should begin with.
    refuse_pickles(name, listed, module_folders(name, directory))
    hashes = {path: listed[path] for path in weight_paths(name, directory, listed)}
    return hashes if all(hashes.values()) else {}


def _computed_hashes(name: str) -> dict[str, str]:
    directory = find_model(name)
    return {path: file_sha256(directory / path) for path in weight_files(name, directory)}


def _configuration_sha256(path: Path) -> str:
    """Of what a configuration says, in whatever order and by whomever it was saved; of anything
    else the bytes.
    """
    if path.name in _TABLES or path.suffix != ".json":
        return file_sha256(path)
    try:
        said = json.loads(path.read_bytes(), object_hook=_spoken)
    except (ValueError, RecursionError):
        return file_sha256(path)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _spoken(entries: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key not in _SILENT}


def file_sha256(path: Path) -> str:
    """Of its bytes, computed once as long as it stays the same."""
    target = path.resolve()
    if target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
        return target.name  # the hub's cache names a large file by its hash
    status = target.stat()
    return _content_sha256(target, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _content_sha256(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
