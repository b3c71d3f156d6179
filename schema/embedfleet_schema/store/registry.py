"""The registry of a collection: its distinct texts by number, each with the batch that it waits in.

A text that an open batch has, of whatever job, is not queued again: the job waits for that batch
(`store.awaiting`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg import Connection

from embedfleet_schema.errors import HashCollision
from embedfleet_schema.packing import Packed, pack
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import temp_tables, transitions
from embedfleet_schema.store.promotion import Awaited
from embedfleet_schema.store.transitions import NewBatch
from embedfleet_schema.types import CollectionInfo, Delivery, as_uuids

_SQL = load("registry")
_AWAITABLE = _SQL["awaitable"]
_OPEN_BATCH = _SQL["open_batch"].format(awaitable=_AWAITABLE)

# As `set_types` wants them, for the columns of a new text; a `uuid` is sent as its 16 bytes.
_TEXT_TYPES = ("bytea", "int4", "text", "text", "int8")


class Text(NamedTuple):
    """A distinct text of a window, and the first document that has it."""

    tokens: int
    content: str
    key: str
    context: str | None = None


class Known(NamedTuple):
    """A text that is registered; `batch_id` is the open batch that it waits in. Without `content`
    it need not be compared.
    """

    hash: bytes
    id: int
    tokens: int = 0
    content: str | None = None
    context: str | None = None
    stored: bool = False
    batch_id: int | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """The texts of a window, and those that its unchanged documents wait for.

    `ids` are the numbers of all. `missing` have no vector and are not set `apart`; of them,
    `batches` are to be made, and `awaited` wait in an open batch. Those that were set apart and
    have no vector are `apart`.
    """

    ids: Mapping[bytes, int]
    missing: Set[bytes]
    apart: Set[bytes]
    batches: Sequence[NewBatch]
    awaited: Sequence[Awaited]

    @property
    def wanted_tokens(self) -> int:
        """Those of texts that are queued for it, or that it waits for."""
        queued = sum(batch.tokens for batch in self.batches)
        return queued + sum(text.tokens for text in self.awaited)


class Registry:
    """The registry of one collection in the transaction of a producer, who shares it, and made the
    tables of its window where there are new texts.
    """

    def __init__(
        self, conn: Connection[Any], collection: CollectionInfo, delivery: Delivery
    ) -> None:
        self._conn = conn
        self._collection = collection
        self._delivery = delivery

    def register(
        self,
        texts: Mapping[bytes, Text],
        waiting: Sequence[str],
        apart: Collection[bytes],
        *,
        batch_tokens: int,
    ) -> Registered:
        """Number the texts of a window, and say which batches are to be made for what has no vector
        and is in no batch yet.

        Args:
            texts: the distinct texts of new documents, by hash.
            waiting: the keys of unchanged documents that readers do not see.
            apart: texts that no batch gets, by hash: they fail at once, or bring their vector.
            batch_tokens: the most that a batch may have.

        Raises:
            HashCollision: one of the texts has the hash of another text.
        """
        known = self._held(lambda: self._known(texts, waiting), apart)
        tokens = {hash_: text.tokens for hash_, text in texts.items()}
        tokens |= {each.hash: each.tokens for each in known.values()}
        wanted = [hash_ for hash_ in tokens if _is_wanted(known.get(hash_), hash_, apart)]
        packs = pack(((hash_, tokens[hash_]) for hash_ in wanted), batch_tokens)
        numbers = transitions.numbers(self._conn, len(packs))
        batch_of = {
            hash_: number
            for number, packed in zip(numbers, packs, strict=True)
            for hash_ in packed.texts
        }
        fresh = {hash_: text for hash_, text in texts.items() if hash_ not in known}
        inserted = self._insert(fresh, batch_of)
        late = {hash_: text for hash_, text in fresh.items() if hash_ not in inserted}
        known |= self._held(lambda: self._known(late, ()), apart)
        ids = {hash_: each.id for hash_, each in known.items()} | inserted
        left = {
            hash_: number
            for hash_, number in batch_of.items()
            if hash_ in inserted
            or (known[hash_].batch_id in (None, number) and not known[hash_].stored)
        }
        again = {
            ids[hash_]: number
            for hash_, number in left.items()
            if hash_ not in inserted and known[hash_].batch_id is None
        }
        transitions.point(self._conn, self._collection, again)
        lacking = {hash_: each for hash_, each in known.items() if not each.stored}
        missing = lacking.keys() | inserted.keys()
        return Registered(
            ids=ids,
            missing=missing.difference(apart),
            apart=missing.intersection(apart),
            batches=_batches(zip(numbers, packs, strict=True), ids, left, tokens),
            awaited=[
                Awaited(each.id, each.batch_id, tokens[hash_])
                for hash_, each in lacking.items()
                if each.batch_id is not None and hash_ not in apart and hash_ not in left
            ],
        )

    def waiting(self, keys: Sequence[str]) -> list[Known]:
        """The texts that unchanged documents of these keys still wait for."""
        values = {
            "collection_id": self._collection.id,
            "keys": list(keys),
            "delivery": self._delivery,
        }
        statement = composed(_SQL["waiting"], self._collection, open_batch=_OPEN_BATCH)
        return [Known(*row) for row in self._conn.execute(statement, values)]

    def _held(
        self, look_up: Callable[[], dict[bytes, Known]], apart: Collection[bytes]
    ) -> dict[bytes, Known]:
        """What is known of some texts; the batches that they wait in do not end meanwhile."""
        known = look_up()
        # Of what has its vector no batch is held up.
        batches = {
            each.batch_id
            for each in known.values()
            if each.batch_id is not None and not each.stored and each.hash not in apart
        }
        if not batches:
            return known
        held = self._hold(batches)
        # Until they were held, some got their vectors, or became a part of another batch.
        return {
            hash_: each if each.batch_id in held else each._replace(batch_id=None)
            for hash_, each in look_up().items()
        }

    def _known(self, texts: Mapping[bytes, Text], waiting: Sequence[str]) -> dict[bytes, Known]:
        known = {each.hash: each for each in self.waiting(waiting)} if waiting else {}
        return known | {each.hash: each for each in self._look_up(texts)}

    def _look_up(self, texts: Mapping[bytes, Text]) -> list[Known]:
        """Those of some texts that are registered."""
        if not texts:
            return []
        statement = composed(_SQL["known"], self._collection, open_batch=_OPEN_BATCH)
        values = {"hashes": as_uuids(texts), "delivery": self._delivery}
        found = [Known(*row) for row in self._conn.execute(statement, values)]
        others = [
            text.key
            for each in found
            if ((text := texts[each.hash]).content, text.context) != (each.content, each.context)
        ]
        if others:
            raise HashCollision(keys=", ".join(map(repr, others)))
        return found

    def _hold(self, batches: Collection[int]) -> set[int]:
        statement = _SQL["hold_batches"].format(awaitable=_AWAITABLE)
        values = {"batches": list(batches), "delivery": self._delivery}
        return {batch_id for (batch_id,) in self._conn.execute(statement, values)}

    def _insert(
        self, texts: Mapping[bytes, Text], batch_of: Mapping[bytes, int]
    ) -> dict[bytes, int]:
        """Register new texts, and number them; of what another producer registered meanwhile
        nothing comes back.
        """
        if not texts:
            return {}
        statement = _SQL["copy_texts"].format(**temp_tables.TABLES)
        with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(_TEXT_TYPES)
            for hash_, text in texts.items():
                row = (hash_, text.tokens, text.content, text.context, batch_of.get(hash_))
                copy.write_row(row)
        rows = self._conn.execute(
            composed(_SQL["register"], self._collection, **temp_tables.TABLES)
        )
        return dict(rows.fetchall())


def _is_wanted(known: Known | None, hash_: bytes, apart: Collection[bytes]) -> bool:
    """Whether a text is to be queued."""
    waits_or_is_stored = known is not None and (known.stored or known.batch_id is not None)
    return hash_ not in apart and not waits_or_is_stored


def _batches(
    packs: Iterable[tuple[int, Packed[bytes]]],
    ids: Mapping[bytes, int],
    left: Mapping[bytes, int],
    tokens: Mapping[bytes, int],
) -> list[NewBatch]:
    """The packs with what is left of each."""
    batches = []
    for number, packed in packs:
        texts = [hash_ for hash_ in packed.texts if hash_ in left]
        if texts:
            counted = sum(tokens[hash_] for hash_ in texts)
            batches.append(NewBatch(number, [ids[hash_] for hash_ in texts], counted))
    return batches
