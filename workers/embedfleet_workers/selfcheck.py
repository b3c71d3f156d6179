"""Whether a model that was loaded here is the one that the vectors of its space come from.

The first worker of a space records the files that decide a vector, and the vectors of some fixed
texts; every other one is held against it, and so is a model that embeds queries. Where vectors
were stored before there was a record, the first worker has to find the same ones for some of them.

Models behind an API are not checked: each start of a process would be paid for, and a provider's
vectors are its own word. A fake model is a formula.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.catalogue.model_revision import file_digests
from embedfleet_schema.database import Database
from embedfleet_schema.errors import ModelRefused
from embedfleet_schema.store import space_checks
from embedfleet_schema.store.space_checks import SpaceRecord
from embedfleet_schema.types import Space
from embedfleet_workers.embedders import check_allowed
from embedfleet_workers.embedders.probes import agreement, probe_texts
from embedfleet_workers.embedders.protocol import Embedder, Rows

log = logging.getLogger(__name__)

# Measured with all-MiniLM-L6-v2 on the texts below, against float32, the worst of them: float16
# 0.999999, bfloat16 0.99994. Cut six tokens early 0.9975, with a prompt that is not the space's
# 0.93, 8-bit weights 0.90, cut at half of the tokens 0.90, pooled by the first token 0.44.
AGREEMENT = 0.999
STORED_TRIED = 8
_NAMED = 3


def checked_embedder(
    db: Database,
    space: Space,
    load: Callable[[], Embedder],
    *,
    allowed_models: Sequence[str] = (),
    records: bool,
) -> Embedder:
    """What `load` gives, once it is known to make the vectors of its space.

    Args:
        allowed_models: as for `load_embedder`; of others not even the files are looked for.
        records: whether what is found is recorded, where nothing is; else it is taken unchecked.

    Raises:
        ModelRefused: it is not allowed, or another model: with the files or the texts that tell.
        ModelNotFound: its files are out of reach.
    """
    check_allowed(space, allowed_models)
    if space.provider != "local":
        return load()
    files = file_digests(space.model)
    known = space_checks.find(db, space)
    if known is not None:
        _refuse_other_files(space, known.files, files)
    embedder = load()
    try:
        if known is None and records:
            known = _recorded(db, embedder, files)
        if known is not None:
            _refuse_other_vectors(embedder, known)
    except BaseException:
        embedder.close()
        raise
    return embedder


def _recorded(db: Database, embedder: Embedder, files: Mapping[str, str]) -> SpaceRecord | None:
    """What is recorded now, by us or by a worker that was quicker."""
    space = embedder.space
    texts, vectors = space_checks.stored(db, space, STORED_TRIED)
    if texts:
        found = agreement(vectors, embedder.embed(texts, "document"))
        if (wrong := int((found < AGREEMENT).sum())) > 0:
            reason = (
                f"{wrong} of {len(texts)} stored texts get another vector here "
                f"({_measured(found)}): it is not the model that they were embedded with"
            )
            raise ModelRefused(model=space.name, reason=reason)
    probes = probe_texts(space.max_tokens)
    space_checks.record(db, space, SpaceRecord(files, probes, _probed(embedder, probes)))
    log.info("%s: its files and vectors are recorded for others", space.name)
    known = space_checks.find(db, space)
    if known is not None:
        _refuse_other_files(space, known.files, files)
    return known


def _probed(embedder: Embedder, texts: list[str]) -> Rows:
    documents = embedder.embed(texts, "document")
    return np.concatenate([documents, embedder.embed(texts[:1], "query")])


def _refuse_other_files(
    space: Space, recorded: Mapping[str, str], found: Mapping[str, str]
) -> None:
    paths = sorted({*recorded, *found})
    others = [path for path in paths if recorded.get(path) != found.get(path)]
    if not others:
        return
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    reason = (
        f"{', '.join(map(_told(recorded, found), others[:_NAMED]))}{more} on this machine, unlike "
        "the model that its collections are embedded with"
    )
    raise ModelRefused(model=space.name, reason=reason)


def _told(recorded: Mapping[str, str], found: Mapping[str, str]) -> Callable[[str], str]:
    def told(path: str) -> str:
        if path not in found:
            return f"{path} is missing"
        return f"{path} {'differs' if path in recorded else 'is there'}"

    return told


def _refuse_other_vectors(embedder: Embedder, known: SpaceRecord) -> None:
    found = agreement(known.vectors, _probed(embedder, list(known.texts)))
    wrong = found < AGREEMENT
    if not wrong.any():
        return
    documents, query = wrong[:-1], wrong[-1]
    if not documents.any():
        why = "queries get another prompt"
    elif not documents[:-1].any() and not query:
        longest = embedder.space.max_tokens
        why = f"a text longer than {longest} tokens is truncated elsewhere, or not at all"
    else:
        why = "its weights, its tokenizer, its pooling or its prompt differ"
    reason = (
        f"its vectors are not those that its collections are embedded with "
        f"({_measured(found)}): {why}"
    )
    raise ModelRefused(model=embedder.space.name, reason=reason)


def _measured(found: NDArray[np.float64]) -> str:
    return f"cosine {found.min():.4f}, needed {AGREEMENT}"
