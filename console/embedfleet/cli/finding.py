"""What a check of `doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Level = Literal["ok", "warning", "broken"]


class Fault(StrEnum):
    """What may be wrong, by the names that programs rely on; docs/doctor.md explains each."""

    CHECK_FAILED = "CHECK_FAILED"
    EXTRA_MISSING = "EXTRA_MISSING"
    ENGINE_MISSING = "ENGINE_MISSING"
    EMBEDDER_BROKEN = "EMBEDDER_BROKEN"
    STACK_STOPPED = "STACK_STOPPED"
    DISK_LOW = "DISK_LOW"
    SHARED_MEMORY_SMALL = "SHARED_MEMORY_SMALL"
    REDIS_UNREACHABLE = "REDIS_UNREACHABLE"
    REDIS_OLD = "REDIS_OLD"
    REDIS_EVICTS = "REDIS_EVICTS"
    DATABASE_UNREACHABLE = "DATABASE_UNREACHABLE"
    DATABASE_UNSUITABLE = "DATABASE_UNSUITABLE"
    COMMITS_LATE = "COMMITS_LATE"
    SCHEMA_OPEN = "SCHEMA_OPEN"
    LOCKS_SHORT = "LOCKS_SHORT"
    LOCK_HELD = "LOCK_HELD"
    PGVECTOR_MISSING = "PGVECTOR_MISSING"
    PGVECTOR_OLD = "PGVECTOR_OLD"
    TABLES_MISSING = "TABLES_MISSING"
    TABLES_OLD = "TABLES_OLD"
    PROGRAM_OLD = "PROGRAM_OLD"
    CODE_OF_OTHERS = "CODE_OF_OTHERS"
    CLOCK_SKEWED = "CLOCK_SKEWED"
    STATEMENT_TIMEOUT = "STATEMENT_TIMEOUT"
    CONNECTIONS_SHORT = "CONNECTIONS_SHORT"
    AUTOVACUUM_OFF = "AUTOVACUUM_OFF"
    TRANSACTION_OLD = "TRANSACTION_OLD"
    SLOT_UNUSED = "SLOT_UNUSED"
    POOLER_WITHOUT_DIRECT = "POOLER_WITHOUT_DIRECT"
    SCANS_CAPPED = "SCANS_CAPPED"
    INDEX_MISSING = "INDEX_MISSING"
    INDEX_IMPOSSIBLE = "INDEX_IMPOSSIBLE"
    INDEX_MEMORY = "INDEX_MEMORY"
    INDEX_INVALID = "INDEX_INVALID"
    INDEX_GROWN = "INDEX_GROWN"
    DEAD_ROWS = "DEAD_ROWS"
    FILTER_INDEX_MISSING = "FILTER_INDEX_MISSING"
    WORKERS_MISSING = "WORKERS_MISSING"
    WORKERS_DEAD = "WORKERS_DEAD"
    WORKER_WAITS = "WORKER_WAITS"
    QUEUE_WITHOUT_WORKER = "QUEUE_WITHOUT_WORKER"
    QUEUE_SILENT = "QUEUE_SILENT"
    SPACE_WITHOUT_WORKER = "SPACE_WITHOUT_WORKER"
    SPACE_PAUSED = "SPACE_PAUSED"
    LIMIT_LEARNT = "LIMIT_LEARNT"
    PRICE_MISSING = "PRICE_MISSING"
    CHUNKS_TOO_LONG = "CHUNKS_TOO_LONG"
    MODEL_ABSENT = "MODEL_ABSENT"
    MODEL_OFFLINE = "MODEL_OFFLINE"
    MODEL_ENDS = "MODEL_ENDS"
    MODEL_KEPT = "MODEL_KEPT"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `broken` means that the fleet cannot work.

    `code` is None where nothing is wrong. `collection` is the one that it is about, if it is about
    one.
    """

    level: Level
    subject: str
    found: str
    advice: str = ""
    code: Fault | None = None
    collection: str | None = None
