"""The vocabulary that producer, workers and console share: values, and no servers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal

# The largest numbers of PostgreSQL's integer types.
LARGEST_INT, LARGEST_ID = 2**31 - 1, 2**63 - 1
# Longer texts are rejected: they would not fit into memory several times over.
MAX_DOCUMENT_BYTES = 64_000_000
# What reading one file may take; settings of the same names say more.
MAX_ROWS = 10_000_000
MAX_EXPANSION = 100
READER_MEMORY_BYTES = 512_000_000
READER_SECONDS = 20.0
# Processes that may cut for one call.
MOST_PROCESSES = 64

Metadata = Mapping[str, Any]
Storage = Literal["vector", "halfvec"]
Metric = Literal["cosine", "l2", "inner_product"]
Kind = Literal["document", "query"]
ChunkMode = Literal["text", "markdown"]
# What becomes of a ready-made chunk that is longer than the model takes.
TooLong = Literal["reject", "truncate", "split"]
# Whose vectors of the same texts a collection takes over, and lets others take over.
Reuse = Literal["space", "none"]
# How vectors are indexed: by what method of pgvector, and as what.
IndexMethod = Literal["hnsw", "ivfflat"]
IndexType = Literal["vector", "halfvec", "bit"]
# Whether `embedfleet index NAME --auto` and a load that is waited for drop and build the index.
IndexPolicy = Literal["manual", "auto"]
# The size of chunks that nobody chose, in tokens.
DEFAULT_SIZE = 400
# What runs a local model, and what may be asked for.
EngineName = Literal["torch", "openvino"]
WantedEngine = Literal["auto", EngineName]
# A log: an object of JSON a line, or text for people; auto is text on a terminal.
LogFormat = Literal["auto", "json", "text"]
# What it calculates in: `half` is float16 or bfloat16, whichever the device and the model have.
Precision = Literal["float32", "half"]
WantedPrecision = Literal["auto", Precision]
# What a collection may demand of all workers.
DemandedPrecision = Literal["float32"]
Queue = Literal["cpu", "cuda", "api"]
QUEUES: tuple[Queue, ...] = ("cpu", "cuda", "api")
# How a job is embedded: now, or within a day by a provider's batch API at half the price.
# How texts reach the model: through workers at once, or filed with a provider's batch API.
Delivery = Literal["direct", "provider_batch"]


def serving(queue: Queue, delivery: Delivery) -> Queue:
    """The queue whose workers see to batches: the runner of provider batches lives with `api`."""
    return queue if delivery == "direct" else "api"


def as_uuids(hashes: Iterable[bytes]) -> str:
    """Hashes as an array of PostgreSQL's type for 16 bytes, in its own words."""
    return f"{{{','.join(each.hex() for each in hashes)}}}"


def as_bigints(numbers: Iterable[int]) -> str:
    """Numbers as an array in PostgreSQL's own words; a driver takes long over each of a list."""
    return f"{{{','.join(map(str, numbers))}}}"


def as_texts(texts: Iterable[str | None]) -> str:
    """Texts as an array in PostgreSQL's own words; a driver asks of each whether it is a list."""
    quoted = (
        "NULL" if text is None else '"{}"'.format(text.replace("\\", r"\\").replace('"', r"\""))
        for text in texts
    )
    return f"{{{','.join(quoted)}}}"


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space: everything that decides what a vector of a text looks like.

    Vectors of two spaces are never compared. `max_tokens` counts the special tokens that the
    model adds; `pooling` and `revision` are empty where the provider does not say. A revision
    tells of the weights, and behind a `+` of the other files; in spaces of before, of the weights.
    """

    provider: str
    model: str
    dimensions: int
    max_tokens: int
    revision: str = ""
    pooling: str = ""
    normalized: bool = True
    document_prompt: str = ""
    query_prompt: str = ""
    storage: Storage = "vector"
    metric: Metric = "cosine"

    @property
    def name(self) -> str:
        """The model as a person writes it: `local/all-MiniLM-L6-v2`."""
        return f"{self.provider}/{self.model}"

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 over every field: equal fingerprints, comparable vectors."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).digest()

    @property
    def float_bytes(self) -> int:
        """What each dimension takes."""
        return 4 if self.storage == "vector" else 2

    def takes(self, other: Space) -> bool:
        """Whether vectors of `other` belong here: it is the same, as far as this one says."""
        if "+" not in self.revision:
            other = replace(other, revision=other.revision.partition("+")[0])
        return self == other


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a collection cuts its documents.

    `size` and `overlap` count tokens of the model's own tokenizer, special tokens not included.
    Size 0 means as many as the model takes; None, 400 or what the model takes if that is less: a
    number is stored with the collection as it is made. `tokenizer` names another tokenizer (a model
    name, or a directory or file that holds tokenizer.json), for servers whose model name does not
    tell. `too_long` says what becomes of a ready-made chunk that is longer than the model takes: a
    failure of its own, its beginning, or pieces that fit.

    `template` says what is embedded before each chunk, from metadata: "{title}: {content}". The
    size counts all of it. None asks for no template: a collection that is there may have one.
    """

    size: int | None = None
    overlap: int = 0
    mode: ChunkMode = "text"
    tokenizer: str = ""
    too_long: TooLong = "reject"
    template: str | None = None

    def differences(self, wanted: Chunking) -> str:
        """In words, what is asked for and not so here; a size that was not named is any size."""
        names = [each.name for each in fields(self)]
        pairs = ((name, getattr(self, name), getattr(wanted, name)) for name in names)
        return "; ".join(
            f"{name} {_said(name, own)}, not {_said(name, asked)}"
            for name, own, asked in pairs
            if own != asked and asked is not None
        )


def _said(name: str, value: object) -> str:
    match name, value:
        case "size", 0:
            return "0 (as many tokens as the model takes)"
        case "tokenizer", "":
            return "the model's own"
        case "template", "":
            return "none"
        case "template", _:
            return repr(value)
    return str(value)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document. Where `end` is set, `document.text[start:end] == content`.

    `context` is embedded before the content, and is no part of what people read. It takes the place
    of the collection's template; "" is no context at all.
    """

    content: str
    start: int | None = None
    end: int | None = None
    metadata: Metadata = field(default_factory=dict)
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Metadata of a part of a text: a page, a section.

    Chunks that begin at the character `start` of `Document.text`, or after it, carry it, until a
    later mark sets the same name.
    """

    start: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Document:
    """What a caller enqueues: a `text` to be cut, or ready-made `chunks` (strings or `Chunk`).

    `key` is the caller's own id, unique in the collection: enqueueing it again replaces it.
    `mode` overrides the collection's chunk mode for this document (Markdown files do). `marks`
    give metadata to parts of the text; they go over the document's own metadata, and a chunk's
    metadata goes over both. `former_key` is the key in another spelling: where the collection
    holds a document of that key and none of `key`, that one is meant. `source` is where it comes
    from: a changed document of another source does not replace it unless told to. `file` is where
    it lies, if its source is another name, and `row` its place there: both are for reports and are
    not stored. None of the three makes it another document.
    """

    key: str
    text: str | None = None
    metadata: Metadata = field(default_factory=dict)
    chunks: Sequence[str | Chunk] | None = None
    mode: ChunkMode | None = None
    marks: Sequence[Mark] = ()
    former_key: str | None = None
    source: str | None = field(default=None, compare=False)
    row: int | None = field(default=None, compare=False)
    file: str | None = field(default=None, compare=False)

    @property
    def place(self) -> str | None:
        """Where a verdict on it says that it lies."""
        return self.file or self.source


@dataclass(frozen=True, slots=True)
class Rejection:
    """The verdict on an input that was not accepted; `code` is stable, `reason` is for people.

    `source` is where the input lies: the file, or what a document says of itself.
    """

    key: str
    code: str
    reason: str
    source: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class VectorOptions:
    """Which vectors a collection takes: whose, and calculated in what. None is what is usual."""

    reuse: Reuse | None = None
    precision: DemandedPrecision | None = None


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A row of `embedfleet.collection` with its space."""

    id: int
    name: str
    space_id: int
    space: Space
    chunking: Chunking
    queue: Queue
    reuse: Reuse
    created_at: datetime
    former_template: str | None = None
    precision: DemandedPrecision | None = None

    @property
    def template(self) -> str:
        """What is embedded with its chunks; empty where nothing is. While the template changes,
        `former_template` is what documents may still have.
        """
        return self.chunking.template or ""

    @property
    def documents(self) -> str:
        """The name of its table of documents. No collection's name begins with an underscore."""
        return f"_documents_{self.id}"

    @property
    def chunks(self) -> str:
        """The name of its table of chunks."""
        return f"_chunks_{self.id}"

    @property
    def texts(self) -> str:
        """The name of its table of distinct texts."""
        return text_table(self.id)

    @property
    def vectors(self) -> str:
        """The name of its vector table."""
        return vector_table(self.id, self.space_id)

    @property
    def tables(self) -> tuple[str, str, str, str]:
        """The names of all four."""
        return self.documents, self.chunks, self.texts, self.vectors


def text_table(collection_id: int) -> str:
    """The name of the table with the distinct texts of a collection."""
    return f"_texts_{collection_id}"


def vector_table(collection_id: int, space_id: int) -> str:
    """The name of the table with the vectors of a collection."""
    return f"_vectors_{collection_id}_{space_id}"
