"""The formats of an export: each writes chunks to open files as they come."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from embedfleet_producer.readers.embedded_rows import (
    CONTEXT,
    FILE_METADATA,
    OWN_CHECKS,
    OWN_COLUMNS,
)
from embedfleet_schema.embedded_text import text_digest
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.store.export import ExportedChunk
from embedfleet_schema.types import CollectionInfo

VECTOR = "vector"
# Of a Parquet file's row group, which is in memory at once.
GROUP_ROWS, GROUP_BYTES = 16_384, 8_000_000


class Writer(ABC):
    """One format, for the files of one export."""

    @abstractmethod
    def write(self, chunks: Sequence[ExportedChunk]) -> None: ...

    def end(self) -> None:  # noqa: B027 - most formats are complete without
        """Write what is only known now; the files stay open."""

    def abandon(self, *_: object) -> None:  # noqa: B027
        """Write nothing more, whatever was going on."""


def described(collection: CollectionInfo) -> dict[str, str]:
    """What made the vectors, as each file says it."""
    return {"model": collection.space.name, "space": collection.space.fingerprint.hex()}


class CsvFile(Writer):
    """A row per chunk; the vector as pgvector writes it, the metadata as JSON."""

    def __init__(self, collection: CollectionInfo, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._csv = csv.writer(self._text)
        self._made_by = tuple(described(collection).values())
        self._csv.writerow((*OWN_COLUMNS, *OWN_CHECKS, CONTEXT, VECTOR))

    def write(self, chunks: Sequence[ExportedChunk]) -> None:
        for each in chunks:
            row = (*_values(each), each.metadata, each.chunks, _sha256(each), *self._made_by)
            self._csv.writerow((*row, each.context, _written(each.vector)))

    def abandon(self, *_: object) -> None:
        with suppress(OSError, ValueError):
            self._text.detach()


class JsonLines(Writer):
    """A line per chunk; the vector is in it, unless it lies in a file of its own."""

    def __init__(
        self, collection: CollectionInfo, file: BinaryIO, *, with_vectors: bool = True
    ) -> None:
        self._file = file
        self._with_vectors = with_vectors
        self._made_by = described(collection)

    def write(self, chunks: Sequence[ExportedChunk]) -> None:
        self._file.write(b"".join(map(self._line, chunks)))

    def _line(self, chunk: ExportedChunk) -> bytes:
        names = dict(zip(OWN_COLUMNS, _values(chunk), strict=False))
        checks = {"chunks": chunk.chunks, "sha256": _sha256(chunk)} | self._made_by
        if chunk.context is not None:
            checks[CONTEXT] = chunk.context
        head = json.dumps(names, ensure_ascii=False)[:-1]
        tail = json.dumps(checks, ensure_ascii=False)[1:-1]
        vector = f', "{VECTOR}": {_written(chunk.vector)}' if self._with_vectors else ""
        # PostgreSQL's own words for the metadata: numbers of any size stay what they are.
        return f'{head}, "metadata": {chunk.metadata}, {tail}{vector}}}\n'.encode()


class Matrix(Writer):
    """NumPy's own file of the vectors, row by row, and the rest as JSON Lines beside it."""

    def __init__(self, collection: CollectionInfo, file: BinaryIO, rows: BinaryIO) -> None:
        space = collection.space
        self._dtype = np.dtype("<f4" if space.storage == "vector" else "<f2")
        self._dimensions = space.dimensions
        self._file = file
        self._rows = JsonLines(collection, rows, with_vectors=False)
        self._count = 0
        self._header()

    def write(self, chunks: Sequence[ExportedChunk]) -> None:
        matrix = np.stack([each.vector for each in chunks]).astype(self._dtype)
        self._file.write(matrix.tobytes())
        self._rows.write(chunks)
        self._count += len(chunks)

    def end(self) -> None:
        # NumPy leaves room in the header for any number of rows.
        length = self._file.seek(0, io.SEEK_END) - self._count * self._row_bytes
        self._file.seek(0)
        self._header()
        assert self._file.tell() == length  # noqa: S101 - or the vectors would be shifted
        self._file.seek(0, io.SEEK_END)

    @property
    def _row_bytes(self) -> int:
        return self._dimensions * self._dtype.itemsize

    def _header(self) -> None:
        shape = (self._count, self._dimensions)
        said = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, said)


class ParquetFile(Writer):
    """Columns, compressed; the file says what made the vectors."""

    def __init__(self, collection: CollectionInfo, file: BinaryIO) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ExtraMissing(feature="Exporting to .parquet", extra="readers") from error
        space = collection.space
        real = pa.float32() if space.storage == "vector" else pa.float16()
        text, whole = pa.string(), pa.int32()
        names: list[tuple[str, Any]] = [
            *zip(OWN_COLUMNS, (text, whole, whole, whole, text, text), strict=True),
            *zip(OWN_CHECKS[:2], (whole, text), strict=True),
            (CONTEXT, text),
            (VECTOR, pa.list_(real, space.dimensions)),
        ]
        said = json.dumps({"collection": collection.name, **described(collection)})
        self._schema = pa.schema(names, metadata={FILE_METADATA: said})
        # Vectors are as good as random: a dictionary of them would only take memory.
        self._writer = pq.ParquetWriter(file, self._schema, use_dictionary=["document"])
        self._room = max(1, min(GROUP_ROWS, GROUP_BYTES // (space.dimensions * space.float_bytes)))
        self._waiting: list[ExportedChunk] = []

    def write(self, chunks: Sequence[ExportedChunk]) -> None:
        self._waiting += chunks
        if len(self._waiting) >= self._room:
            self._flush()

    def end(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()

    def abandon(self, *_: object) -> None:
        # Or it would write the end of the file when it is collected, into a file that is closed.
        self._writer.is_open = False

    def _flush(self) -> None:
        """A row group of the file."""
        import pyarrow as pa

        chunks, self._waiting = self._waiting, []
        columns = [
            *zip(*map(_values, chunks), strict=True),
            [each.metadata for each in chunks],
            [each.chunks for each in chunks],
            list(map(_sha256, chunks)),
            [each.context for each in chunks],
        ]
        fields = list(self._schema)
        arrays = [pa.array(each, field.type) for each, field in zip(columns, fields, strict=False)]
        flat = pa.array(np.concatenate([each.vector for each in chunks]))
        vectors = pa.FixedSizeListArray.from_arrays(flat, len(chunks[0].vector))
        table = pa.Table.from_arrays([*arrays, vectors.cast(fields[-1].type)], schema=self._schema)
        self._writer.write_table(table)


# By the suffix of the export. `Matrix` writes a second file, of the rows.
FORMATS: Mapping[str, Callable[..., Writer]] = {
    ".parquet": ParquetFile,
    ".npy": Matrix,
    ".csv": CsvFile,
    ".jsonl": JsonLines,
}


def _values(chunk: ExportedChunk) -> tuple[str, int, int | None, int | None, str]:
    """Those of `OWN_COLUMNS` before the metadata."""
    return chunk.document, chunk.position, chunk.start, chunk.end, chunk.text


def _written(vector: NDArray[np.floating[Any]]) -> str:
    """As JSON and pgvector write it, with as many digits as it takes to get the same numbers back;
    `json` would write those of float64.
    """
    return f"[{','.join(map(str, vector))}]"


def _sha256(chunk: ExportedChunk) -> str:
    return text_digest(chunk.text, chunk.context).hex()
