"""Documents in, pgvector rows out: the one door to embedfleet.

    import embedfleet as ef

    fleet = ef.connect()
    docs = fleet.collection("handbook", model="all-MiniLM-L6-v2")
    docs.enqueue([ef.Document(key="a.md", text="...")]).wait()
    hits = docs.search("how do I reset my password?", k=5)

Everything loads on first use, so importing this costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedfleet import errors

    __version__: str

    from embedfleet.collection import Collection
    from embedfleet.connecting import connect
    from embedfleet.evaluation.comparison import Compared
    from embedfleet.evaluation.evaluate import Evaluation
    from embedfleet.fleet import Fleet
    from embedfleet.job import Job
    from embedfleet.planning import Plan
    from embedfleet.sync import Sync
    from embedfleet_producer.readers import ReaderLimits, ReadOptions, ReadReport, read_paths
    from embedfleet_schema.errors import EmbedfleetError
    from embedfleet_schema.hits import Hit, RerankedHit
    from embedfleet_schema.store.audit import Audit
    from embedfleet_schema.store.document_status import Explanation
    from embedfleet_schema.store.documents import DocumentInfo
    from embedfleet_schema.store.failures import FailureInfo
    from embedfleet_schema.store.jobs import JobStatus
    from embedfleet_schema.types import Chunk, Chunking, Document, Mark, Rejection, Space
    from embedfleet_workers.embedders.fake import FakeEmbedder

__all__ = [
    "Audit",
    "Chunk",
    "Chunking",
    "Collection",
    "Compared",
    "Document",
    "DocumentInfo",
    "EmbedfleetError",
    "Evaluation",
    "Explanation",
    "FailureInfo",
    "FakeEmbedder",
    "Fleet",
    "Hit",
    "Job",
    "JobStatus",
    "Mark",
    "Plan",
    "ReadOptions",
    "ReadReport",
    "ReaderLimits",
    "Rejection",
    "RerankedHit",
    "Space",
    "Sync",
    "__version__",
    "connect",
    "errors",
    "read_paths",
]

_HOMES = {
    "Audit": "embedfleet_schema.store.audit",
    "Chunk": "embedfleet_schema.types",
    "Chunking": "embedfleet_schema.types",
    "Collection": "embedfleet.collection",
    "Compared": "embedfleet.evaluation.comparison",
    "Document": "embedfleet_schema.types",
    "DocumentInfo": "embedfleet_schema.store.documents",
    "EmbedfleetError": "embedfleet_schema.errors",
    "Evaluation": "embedfleet.evaluation.evaluate",
    "Explanation": "embedfleet_schema.store.document_status",
    "FailureInfo": "embedfleet_schema.store.failures",
    "FakeEmbedder": "embedfleet_workers.embedders.fake",
    "Fleet": "embedfleet.fleet",
    "Hit": "embedfleet_schema.hits",
    "Job": "embedfleet.job",
    "JobStatus": "embedfleet_schema.store.jobs",
    "Mark": "embedfleet_schema.types",
    "Plan": "embedfleet.planning",
    "ReadOptions": "embedfleet_producer.readers",
    "ReadReport": "embedfleet_producer.readers",
    "ReaderLimits": "embedfleet_producer.readers",
    "Rejection": "embedfleet_schema.types",
    "RerankedHit": "embedfleet_schema.hits",
    "Space": "embedfleet_schema.types",
    "Sync": "embedfleet.sync",
    "connect": "embedfleet.connecting",
    "read_paths": "embedfleet_producer.readers",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return version("embedfleet")
    if name == "errors":
        return import_module("embedfleet.errors")
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
