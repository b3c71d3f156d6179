"""The indexes of a collection: of vectors, of metadata, of words."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import get_args

from embedfleet import arguments
from embedfleet.connections import Connections
from embedfleet.error_translation import translate_errors
from embedfleet.recall import DEFAULT_QUERIES, DEFAULT_TARGET, Recall, measure
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.store import (
    collection_counts,
    collections,
    field_index,
    filter_index,
    index_memory,
    index_policy,
    vector_index,
    word_index,
)
from embedfleet_schema.store.field_index import FieldKind
from embedfleet_schema.store.index_memory import BuildMemory
from embedfleet_schema.store.index_policy import Decision
from embedfleet_schema.store.vector_index import IndexKind, SearchSettings, VectorIndex
from embedfleet_schema.types import CollectionInfo, IndexMethod, IndexPolicy, IndexType

# What PostgreSQL takes for `maintenance_work_mem` and for parallel maintenance workers.
MOST_MEMORY_MB, MOST_INDEX_WORKERS = 2_097_151, 1_024
MOST_EF_SEARCH, MOST_PROBES = 1_000, 32_768
MOST_K = 1_000
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The index on vectors that searches use, None without one, and what was set for them."""

    index: VectorIndex | None
    settings: SearchSettings


@translate_errors
class Indexing:
    """The part of `Collection` about its indexes."""

    def __init__(self, connections: Connections, info: CollectionInfo) -> None:
        self._connections = connections
        self.info = info

    def index(
        self,
        *,
        method: IndexMethod | None = None,
        type: IndexType | None = None,  # noqa: A002 - the type of the index, by pgvector's name
        memory_mb: int | None = None,
        workers: int | None = None,
        filters: bool = True,
    ) -> str | None:
        """Build the index on vectors without blocking writers; None if there is one already.

        With a `method` or a `type`, an index of another kind is replaced: searches use it until the
        new one is there. Without them, any index will do. The build ends when this process ends.

        Args:
            method: `hnsw` (default), or `ivfflat`: built faster and smaller, and finds less.
            type: as what vectors are indexed: `vector` (float32), `halfvec` (float16, half the
                size), or `bit` (their signs, a tenth or less; candidates are compared by their
                vectors). Default: as they are stored; above 2,000 dimensions halfvec, above
                4,000 bit.
            memory_mb: of the server, for the build. Default: what it needs (`index_memory`), at
                most 2,048 or what the server is set to.
            workers: parallel workers of the build. Default: the server's own setting.
            filters: also build the index on metadata: `index_filters`.

        Raises:
            UsageError: vectors of this model cannot be indexed so.
            Blocked: another process builds or drops an index of this collection.
        """
        kind = self._kind("index", method, type)
        _check_workers(workers)
        built = vector_index.build(
            self._connections.db,
            self.info,
            kind if method or type else None,
            vectors=self._vectors(),
            memory_mb=self._build_memory("index", kind, memory_mb).taken_mb,
            workers=workers,
        )
        if filters:
            filter_index.build(self._connections.db, self.info)
        return built

    def rebuild_index(
        self, *, memory_mb: int | None = None, workers: int | None = None
    ) -> str | None:
        """Build the index on vectors anew (REINDEX CONCURRENTLY); None if there is none.

        After many updates and deletes, it is smaller and faster then. Nobody waits, and searches
        use the former one meanwhile.
        """
        _check_workers(workers)
        self._check_there()
        there = vector_index.in_use(self._connections.db, self.info)
        if there is None:
            return None
        kind = IndexKind(there.method, there.type)
        memory = self._build_memory("rebuild_index", kind, memory_mb)
        return vector_index.rebuild(
            self._connections.db, self.info, memory_mb=memory.taken_mb, workers=workers
        )

    def drop_index(self) -> list[str]:
        """Drop the index on vectors, before a large load; returns its name.

        Searches compare all vectors then.
        """
        self._check_there()
        return vector_index.drop(self._connections.db, self.info)

    def follow_load(self) -> Decision:
        """Decide by what is stored and what waits for workers, and act: `dropped` the index before
        a load as large as what is there; `built` it when such a load is over; `kept` all as it is;
        `busy`, because another process is at it.

        This is what a command that waits does for a collection with the policy `auto`.
        """
        self._check_there()
        kind = vector_index.chosen(self.info.space)
        memory = self._build_memory("follow_load", kind, None)
        return index_policy.follow(self._connections.db, self.info, memory_mb=memory.taken_mb)

    def set_index(
        self,
        *,
        policy: IndexPolicy | None = None,
        ef_search: int | None = None,
        probes: int | None = None,
    ) -> None:
        """Set how the index is used; what is not named stays.

        Args:
            policy: `auto`: commands that wait for a load drop and build the index (`follow_load`).
                `manual`: you do.
            ef_search: candidates that a search of an HNSW index keeps.
            probes: lists that a search of an IVFFlat index reads.
        """
        call = "set_index"
        if policy is not None:
            arguments.choice(call, "policy", policy, get_args(IndexPolicy))
        if ef_search is not None:
            ef_search = arguments.whole(call, "ef_search", ef_search, most=MOST_EF_SEARCH)
        if probes is not None:
            probes = arguments.whole(call, "probes", probes, most=MOST_PROBES)
        self._check_there()
        db = self._connections.db
        if policy is not None:
            vector_index.set_policy(db, self.info, policy)
        if ef_search is not None or probes is not None:
            vector_index.set_search(db, self.info, ef_search=ef_search, probes=probes)

    def index_info(self) -> IndexInfo:
        """Which index on vectors there is, and what was set for searches."""
        self._check_there()
        db = self._connections.db
        return IndexInfo(vector_index.in_use(db, self.info), vector_index.settings(db, self.info))

    def recall(
        self,
        *,
        k: int = 10,
        queries: int = DEFAULT_QUERIES,
        target: float = DEFAULT_TARGET,
        apply: bool = False,
    ) -> Recall:
        """Compare searches by the index with exact ones: how many of the `k` nearest they find, how
        long both take, and which setting reaches the `target`.

        The questions are those of the cache, where a provider's model embedded enough of them, and
        else chunks of the collection, each left out of its own hits.

        Args:
            apply: store the setting that reaches the target, for every search.

        Raises:
            UsageError: there is no index, or nothing to ask.
        """
        arguments.whole("recall", "k", k, most=MOST_K)
        arguments.whole("recall", "queries", queries)
        arguments.share("recall", "target", target)
        arguments.flag("recall", "apply", apply)
        self._check_there()
        found = measure(self._connections.db, self.info, k=k, queries=queries, target=target)
        if apply and found.advised is not None:
            self.set_index(
                ef_search=found.advised if found.setting == "ef_search" else None,
                probes=found.advised if found.setting == "probes" else None,
            )
        return found

    def index_filters(self, *, wanted: bool = True) -> str | None:
        """Build the index on metadata, for fast searches with `where`; None if there is one.

        If it is not `wanted`, it is dropped: then it costs less to enqueue a document.
        """
        self._check_there()
        if wanted:
            return filter_index.build(self._connections.db, self.info)
        filter_index.drop(self._connections.db, self.info)
        return None

    def index_field(
        self, field: str, kind: FieldKind = "number", *, wanted: bool = True
    ) -> str | None:
        """Build an index on one field of the metadata, for fast ranges in `where`; None if there is
        one.

        Values of another kind are not in it: no filter that compares would find them, either.

        Args:
            field: a name in the metadata, or a path such as $.author.year.
            kind: `number`, or `date` for texts that are dates or times.
            wanted: if not, it is dropped.

        Raises:
            BadFilter: it is no name, and no path.
        """
        arguments.text("index_field", "field", field)
        arguments.choice("index_field", "kind", kind, get_args(FieldKind))
        arguments.flag("index_field", "wanted", wanted)
        self._check_there()
        if wanted:
            return field_index.build(self._connections.db, self.info, field, kind)
        field_index.drop(self._connections.db, self.info, field, kind)
        return None

    def index_words(self, language: str = "simple") -> str | None:
        """Build the index on words, for fast `hybrid_search`; None if there is one already.

        Args:
            language: a text search configuration of PostgreSQL, such as english: it removes endings
                and words such as "the". `simple` does neither.

        Raises:
            UsageError: PostgreSQL does not know the language.
        """
        arguments.text("index_words", "language", language)
        self._check_there()
        return word_index.build(self._connections.db, self.info, language)

    def index_memory(
        self,
        *,
        method: IndexMethod | None = None,
        type: IndexType | None = None,  # noqa: A002 - as in `index`
        memory_mb: int | None = None,
    ) -> BuildMemory:
        """The memory that an index build needs now, and what it would use. If it does not fit, the
        build takes many times as long.
        """
        kind = self._kind("index_memory", method, type)
        return self._build_memory("index_memory", kind, memory_mb)

    def _kind(self, call: str, method: IndexMethod | None, type_: IndexType | None) -> IndexKind:
        if method is not None:
            arguments.choice(call, "method", method, get_args(IndexMethod))
        if type_ is not None:
            arguments.choice(call, "type", type_, get_args(IndexType))
        return vector_index.chosen(self.info.space, method, type_)

    def _vectors(self) -> int:
        return collection_counts.counts(self._connections.db, self.info).vectors

    def _build_memory(self, call: str, kind: IndexKind, memory_mb: int | None) -> BuildMemory:
        if memory_mb is not None:
            arguments.whole(call, "memory_mb", memory_mb, most=MOST_MEMORY_MB)
        most = index_memory.most_mb(self._connections.db)
        if self._connections.settings.uses_embedded_stack:
            import psutil

            # Its server is on this machine, with all else.
            machine = psutil.virtual_memory().total // _MIB
            most = max(index_memory.LEAST_MB, min(most, machine // 2))
        return index_memory.build_memory(
            self.info.space, self._vectors(), kind, memory_mb=memory_mb, most_mb=most
        )

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._connections.db, self.info.name)

    def _check_there(self) -> None:
        """Go on with what has the name now, where that was given to another collection.

        Raises:
            CollectionGone: it was dropped.
        """
        self.info = collections.followed(self._connections.db, self.info)


def _check_workers(workers: int | None) -> None:
    if workers is not None:
        arguments.whole("index", "workers", workers, least=0, most=MOST_INDEX_WORKERS)
