"""Erasure as people ask for it: in the database, at a provider, and what nobody can prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedfleet.connections import Connections
from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.store import erasure, syncs
from embedfleet_schema.store.erasure import FiledBatch, Place
from embedfleet_schema.types import CollectionInfo

if TYPE_CHECKING:
    from embedfleet_workers.provider_batches.batch_api import BatchApi

UNPROVEN = (
    "the write-ahead log, replicas and backups keep what was there: let them expire",
    "free space in the files of the tables is overwritten later: VACUUM FULL writes them anew",
    "a transaction that is older than the erasure can still see the rows until it ends",
    "PostgreSQL's own log, if it logs statements or the rows of errors",
    "exports, materialized views and tables of your own",
)
FOLLOWED = "it follows {table}: what is in a row there is stored again, so delete the row first"
AT_PROVIDER = "{provider} may keep what it was sent, by its own rules"


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased: the documents by key, and each place with what was found and what is left.

    `shared` texts stay because other documents have them. `elsewhere` are collections that hold
    one of the texts, too. `files` says what became of unfinished files at a provider.
    `not_vacuumed` are tables whose old rows stay until autovacuum comes. `unproven` is what
    embedfleet cannot look into.
    """

    keys: list[str]
    places: list[Place]
    shared: int
    elsewhere: list[str]
    files: list[str] = field(default_factory=list)
    not_vacuumed: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left in any place that can be looked into."""
        return all(place.is_clean for place in self.places)


def erase(connections: Connections, collection: CollectionInfo, keys: Sequence[str]) -> Erased:
    """Remove documents with each trace of their texts."""
    found = erasure.erase(connections.db, collection, keys)
    unproven = list(UNPROVEN)
    with connections.db.transaction() as conn:
        followed = syncs.listed(conn, collection_id=collection.id)
    unproven += [FOLLOWED.format(table=each.table) for each in followed]
    if collection.space.provider in API_PROVIDERS:
        unproven.append(AT_PROVIDER.format(provider=collection.space.provider))
    return Erased(
        keys=found.keys,
        places=found.places,
        shared=found.shared,
        elsewhere=found.elsewhere,
        files=_call_off(connections, found.filed),
        not_vacuumed=found.not_vacuumed,
        unproven=unproven,
    )


def _call_off(connections: Connections, filed: Sequence[FiledBatch]) -> list[str]:
    """Call provider batches off and delete their files. What they had of other texts is fetched as
    far as it came, and the rest goes back to the queue.
    """
    if not filed:
        return []
    from embedfleet_workers.provider_batches.batch_api import BatchApi

    try:
        api = BatchApi(connections.settings)
    except EmbedfleetError as error:
        return [f"provider batch {each.id} keeps its file: {error}" for each in filed]
    try:
        return [_called_off(api, each) for each in filed]
    finally:
        api.close()


def _called_off(api: BatchApi, filed: FiledBatch) -> str:
    name = f"provider batch {filed.id}"
    if not api.may_know(filed.account):
        return f"{name} keeps its file: it was filed with another key"
    try:
        if filed.remote_batch_id is not None:
            api.cancel(filed.remote_batch_id)
        if filed.input_file_id is None:
            return f"{name} is being filed: erase again in a minute"
        api.delete(filed.input_file_id)
    except EmbedfleetError as error:
        return f"{name} keeps its file: {error}"
    return f"{name} is called off, and its file is deleted"
