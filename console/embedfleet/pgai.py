"""Move in from pgai: its vectorizers become collections, with the vectors that they have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from embedfleet import arguments
from embedfleet.exchange import of_database, store_rows
from embedfleet.fleet import Fleet
from embedfleet.pgai_config import (
    check_texts,
    chunking_of,
    dimensions_of,
    metric_of,
    model_of,
    not_taken,
    sync_command,
)
from embedfleet.planning import existing
from embedfleet_producer.enqueue import Enqueued
from embedfleet_producer.readers import ReadOptions
from embedfleet_producer.readers.embedded_row import EmbeddedRow, packed
from embedfleet_schema.addresses import redacted
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import EmbedfleetError, UnknownCollection, UsageError
from embedfleet_schema.exchange_errors import VectorizerRefused
from embedfleet_schema.store import collections, pgai
from embedfleet_schema.store.pgai import Vectorizer
from embedfleet_schema.types import Document, Rejection, Space
from embedfleet_schema.vector_checks import UNIT_TOLERANCE


@dataclass(slots=True)
class TakenOver:
    """What became of a vectorizer; `refused` says why nothing of it was taken.

    `documents` and `chunks` are what pgai has embedded, `waiting` the rows that it has not embedded
    as they are now. `not_taken` is what has no counterpart. `enqueued` counts what was stored: None
    in a dry run. `sync` is the command that keeps the collection as the source is, and `to_embed`
    how many texts it would embed that have no vector.
    """

    vectorizer: str
    source: str
    collection: str
    model: str = ""
    documents: int = 0
    chunks: int = 0
    waiting: int = 0
    not_taken: list[str] = field(default_factory=list)
    enqueued: Enqueued | None = None
    sync: str | None = None
    to_embed: int | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """How one vectorizer is taken over, where not as pgai says."""

    collection: str | None = None
    model: str | None = None
    metadata: tuple[str, ...] | None = None


def take_over(
    fleet: Fleet,
    url: str | None = None,
    *,
    names: Sequence[str] = (),
    wanted: Wanted | None = None,
    dry_run: bool = False,
    on_window: Callable[[Enqueued], None] | None = None,
) -> list[TakenOver]:
    """Make a collection of each vectorizer, with the vectors that pgai has. Nothing is embedded,
    and nothing is written to pgai's tables. A second run stores what is new.

    One that cannot be taken over says so in `refused`, and the others go on.

    Args:
        url: the database with pgai. Default: the fleet's own.
        names: which vectorizers. Default: all.
        wanted: the name of the collection, the model, and the columns that become metadata; of one
            vectorizer.
        dry_run: look, and write nothing.
        on_window: called after each committed window with the counts so far.

    Raises:
        ImportRefused: pgai is not installed there, or may not be read.
        UsageError: there is no such vectorizer, or several for one name.
    """
    arguments.function("take_over", "on_window", on_window)
    url = fleet.settings.database if url is None else arguments.text("take_over", "url", url)
    chosen = _chosen(pgai.vectorizers(url), names, redacted(url))
    wanted = wanted or Wanted()
    if len(chosen) != 1 and wanted != Wanted():
        reason = f"name one vectorizer for that; there are {_listed(chosen)}"
        raise UsageError(reason=reason)
    return [_Move(fleet, url, each, wanted).made(dry_run, on_window) for each in chosen]


class _Move:
    """One vectorizer on its way."""

    def __init__(self, fleet: Fleet, url: str, vectorizer: Vectorizer, wanted: Wanted) -> None:
        self._fleet = fleet
        self._url = url
        self._vectorizer = vectorizer
        self._wanted = wanted
        self._is_there = False
        self._made = TakenOver(
            vectorizer.name, ".".join(vectorizer.source), wanted.collection or vectorizer.name
        )

    def made(self, dry_run: bool, on_window: Callable[[Enqueued], None] | None) -> TakenOver:
        try:
            self._look()
            if not dry_run:
                self._take(on_window)
        except EmbedfleetError as error:
            self._made.refused = str(error)
        return self._made

    def _look(self) -> None:
        """What there is, and whether it fits; nothing is written."""
        made, vectorizer = self._made, self._vectorizer
        check_texts(vectorizer)
        absent = [name for name in self._metadata() if name not in vectorizer.columns]
        if absent:
            reason = f"{made.source} has no column {', '.join(absent)}"
            raise VectorizerRefused(name=vectorizer.name, reason=reason)
        made.model = self._wanted.model or model_of(vectorizer)
        collections.check_name(made.collection)
        dimensions = dimensions_of(vectorizer)
        made.model = resolve_space(made.model, dimensions=dimensions).name
        try:
            known = collections.find(self._fleet.db, made.collection)
        except UnknownCollection:
            pass
        else:
            existing(known, made.model, None, dimensions)
            self._is_there = True
        found = pgai.count(self._url, vectorizer)
        made.documents, made.chunks = found.documents, found.chunks
        made.waiting = found.waiting
        made.not_taken = list(not_taken(vectorizer, found, made.collection))
        made.sync = sync_command(vectorizer, made.collection, self._metadata())

    def _take(self, on_window: Callable[[Enqueued], None] | None) -> None:
        made, vectorizer = self._made, self._vectorizer
        if self._is_there:
            collection = self._fleet.collection(made.collection)
        else:
            collection = self._fleet.collection(
                made.collection,
                made.model,
                chunking=chunking_of(vectorizer),
                dimensions=dimensions_of(vectorizer),
                metric=metric_of(vectorizer),
            )
        job = store_rows(
            self._fleet,
            collection.info,
            self._rows(collection.info.space),
            vouched=True,
            on_window=on_window,
        )
        made.enqueued = job.enqueued
        if made.sync is not None:
            made.to_embed = collection.plan(self._texts()).to_embed

    def _rows(self, space: Space) -> Iterator[Document | Rejection]:
        vectorizer = self._vectorizer
        place = f"{redacted(self._url)}, vectorizer {vectorizer.name}"
        stored = pgai.rows(self._url, vectorizer, self._metadata())
        for row in of_database(stored, place, ReadOptions()):
            if isinstance(row, EmbeddedRow) and space.normalized:
                yield _of_unit_length(row)
            else:
                yield row

    def _texts(self) -> Iterator[Document]:
        """The documents of a sync, to see which texts of them have their vector."""
        for row in pgai.texts(self._url, self._vectorizer, self._metadata()):
            yield Document(row["key"], row["text"], json.loads(row["metadata"]))

    def _metadata(self) -> Sequence[str]:
        chosen = self._wanted.metadata
        return self._vectorizer.plain_columns if chosen is None else chosen


def _of_unit_length(row: EmbeddedRow) -> EmbeddedRow:
    """What a provider gave in another length is stored as our workers store it."""
    vector = row.numbers
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length == 0 or abs(length - 1) <= UNIT_TOLERANCE:
        return row
    return replace(row, vector=packed((vector / length).astype("<f4").tobytes()))


def _chosen(found: Sequence[Vectorizer], names: Sequence[str], place: str) -> list[Vectorizer]:
    known = {each.name: each for each in found}
    absent = [name for name in names if name not in known]
    if absent or not known:
        missing = f" {', '.join(absent)}" if absent else ""
        reason = f"{place} has no vectorizer{missing}; there are {_listed(found)}"
        raise UsageError(reason=reason)
    return [known[name] for name in dict.fromkeys(names)] if names else list(found)


def _listed(found: Sequence[Vectorizer]) -> str:
    return ", ".join(each.name for each in found) or "none"
