"""Parquet files: one document per row, a batch of rows in memory at a time."""

from __future__ import annotations

import decimal
import math
import uuid
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from embedfleet_producer.readers.refusals import Refused, Verdict, short_reason
from embedfleet_producer.readers.rows import METADATA_FIELD, TEXT_FIELDS, row_document
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.types import Rejection

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_BYTES = 8_000_000
BATCH_ROWS = 1_024
# Strings that are not UTF-8, dates beyond the year 9999, time zones without data.
_UNREPRESENTABLE = (ValueError, OverflowError, LookupError)


def read_parquet(key: str, stream: BufferedReader, _max_bytes: int) -> Iterator[Verdict]:
    """One verdict per row, numbered from 1."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ExtraMissing(feature="Reading .parquet files", extra="readers") from error
    if not stream.peek(1):
        raise Refused("EMPTY", "there is nothing in it")
    try:
        file = pq.ParquetFile(stream, buffer_size=1 << 20)
        names = _useful_columns(file.schema_arrow)
        if file.metadata.num_rows == 0:
            raise Refused("EMPTY", "there are no rows in it")
        yield from _verdicts(file, names, key)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Refused(
            "UNREADABLE", f"not a readable Parquet file: {short_reason(error)}"
        ) from error


def _verdicts(file: pq.ParquetFile, names: list[str], key: str) -> Iterator[Verdict]:
    number = 0
    for batch in file.iter_batches(batch_size=_rows_per_batch(file), columns=names):
        for row in _rows(batch):
            number += 1
            place = f"{key}#{number}"
            if isinstance(row, Exception):
                yield Rejection(place, "BAD_VALUE", f"a value cannot be read: {short_reason(row)}")
            else:
                yield row_document({name: _plain(value) for name, value in row.items()}, place)
    if number != file.metadata.num_rows:
        # Damage that Arrow does not notice: whole row groups can be missing.
        raise Refused("UNREADABLE", f"it promises {file.metadata.num_rows} rows and has {number}")


def _useful_columns(schema: pa.Schema) -> list[str]:
    """Columns of single values, and the metadata; vectors and blobs are not worth their memory.

    Raises:
        Refused: MISSING_TEXT.
    """
    import pyarrow.types as kinds

    names = [
        column.name
        for column in schema
        if column.name == METADATA_FIELD
        or not any(
            is_bulky(column.type)
            for is_bulky in (
                kinds.is_nested,
                kinds.is_binary,
                kinds.is_large_binary,
                kinds.is_fixed_size_binary,
            )
        )
    ]
    if not set(TEXT_FIELDS) & set(names):
        raise Refused("MISSING_TEXT", f"no column {' or '.join(TEXT_FIELDS)} holds strings")
    return names


def _rows_per_batch(file: pq.ParquetFile) -> int:
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    row_bytes: int = sum(group.total_byte_size for group in groups) // file.metadata.num_rows
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | Exception]:
    """The rows of a batch; a row with a value that Python cannot hold comes as what was raised."""
    try:
        rows = batch.to_pylist()
    except _UNREPRESENTABLE:
        rows = (_single_row(batch.slice(index, 1)) for index in range(batch.num_rows))
    yield from rows


def _single_row(batch: pa.RecordBatch) -> dict[str, Any] | Exception:
    try:
        row: dict[str, Any] = batch.to_pylist()[0]
    except _UNREPRESENTABLE as error:
        return error
    return row


def _plain(value: object) -> object:
    """The value as JSON knows it; None for what has no such form."""
    match value:
        case Mapping():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list():
            is_map = bool(value) and isinstance(value[0], tuple)
            return _plain(dict(value)) if is_map else [_plain(inner) for inner in value]
        case date() | time():
            return value.isoformat()
        case decimal.Decimal() | uuid.UUID() | timedelta():
            return str(value)
    is_json = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_json else None
