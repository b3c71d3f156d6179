"""Parquet files: one document per row, a batch of rows in memory at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from embedfleet_producer.readers.cells import LONGEST_NUMBERS, Unreadable
from embedfleet_producer.readers.columns import Layout
from embedfleet_producer.readers.embedded_row import MAX_DIMENSIONS
from embedfleet_producer.readers.rejections import FileRejected, Verdict, short_reason
from embedfleet_producer.readers.rows import Row, Rows
from embedfleet_schema.errors import ExtraMissing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_BYTES = 8_000_000
BATCH_ROWS = 1_024
_NO_FRACTION = re.compile(r"\.0+(?=Z|$)")
# Strings that are not UTF-8, dates beyond the year 9999, time zones without data.
_UNREPRESENTABLE = (ValueError, OverflowError, LookupError)


def read_parquet(stream: BufferedReader, _max_bytes: int, rows: Rows) -> Iterator[Verdict]:
    """One verdict per row, numbered from 1."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ExtraMissing(feature="Reading .parquet files", extra="readers") from error
    if not stream.peek(1):
        raise FileRejected("EMPTY", "it is empty")
    try:
        file = pq.ParquetFile(stream, buffer_size=1 << 20)
        rows.hear_file(file.schema_arrow.metadata or {})
        names = rows.header(file.schema_arrow.names)
        if file.metadata.num_rows == 0:
            raise FileRejected("EMPTY", "it has no rows")
        yield from rows.verdicts(enumerate(_rows(file, names, rows), 1))
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise FileRejected(
            "UNREADABLE", f"not a readable Parquet file: {short_reason(error)}"
        ) from error


def _rows(file: pq.ParquetFile, names: list[str], rows: Rows) -> Iterator[Row]:
    import pyarrow as pa

    total, number = file.metadata.num_rows, 0
    useful = _useful_columns(file.schema_arrow, names, rows)
    wanted = list(dict.fromkeys(file.schema_arrow.names[place] for place in useful))
    for batch in file.iter_batches(batch_size=_rows_per_batch(file), columns=wanted):
        columns = {
            names[place]: _without_vectors(column, names[place], rows)
            for place, column in _places(file.schema_arrow.names, batch)
            if place in useful
        }
        slim = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        for row in _values(slim):
            number += 1
            yield row
    if number != total:
        # Damage that Arrow does not notice: whole row groups can be missing.
        raise FileRejected("UNREADABLE", f"it should have {total} rows but has {number}")


def _places(names: list[str], batch: pa.RecordBatch) -> Iterator[tuple[int, pa.Array]]:
    """The columns of a batch with their places in the file; of equal names, both were read."""
    left = {name: [place for place, each in enumerate(names) if each == name] for name in names}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if left.get(name):
            yield left[name].pop(0), column


def _useful_columns(schema: pa.Schema, names: list[str], rows: Rows) -> set[int]:
    """The places of the columns to be read; bytes are read only as a key, or where they are asked
    for.

    Raises:
        FileRejected: MISSING_TEXT.
    """
    options = rows.options
    of_bytes = {name for name, column in zip(names, schema, strict=True) if _is_bytes(column.type)}
    if rows.has_vectors:
        return {place for place, name in enumerate(names) if name not in of_bytes}
    layout = Layout.of(names, options)
    texts = layout.texts if options.text_column else set(layout.texts) - of_bytes
    if not texts:
        bad = layout.texts[0]
        reason = f"the column {bad} holds bytes; to read them as UTF-8: --text-column {bad}"
        raise FileRejected("MISSING_TEXT", reason)
    wanted = {*texts, *layout.keys, *(options.metadata_columns or ())}
    unread = of_bytes - wanted
    if options.metadata_columns is not None:
        unread = {*names} - wanted
    for name in sorted(unread & of_bytes):
        rows.say(f"{name} is left out, it holds bytes; --metadata-columns keeps them as text")
    return {place for place, name in enumerate(names) if name not in unread}


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    return bool(
        kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind)
    )


def _without_vectors(column: pa.Array, name: str, rows: Rows) -> pa.Array:
    """The column with null for long lists of numbers: as Python objects they are tens of times
    as large, only to be left out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if name == rows.vector_column:
        return _packed(column)
    kind = column.type
    is_list = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    if rows.options.metadata_columns is not None or not is_list:
        return column
    if not (kinds.is_floating(kind.value_type) or kinds.is_integer(kind.value_type)):
        return column
    long = pc.fill_null(pc.greater(pc.list_value_length(column), LONGEST_NUMBERS), False)  # noqa: FBT003
    found = pc.sum(long).as_py() or 0
    if not found:
        return column
    rows.count_vectors(name, found)
    if found == len(column):
        return pa.nulls(len(column))
    return pc.if_else(long, pa.scalar(None, kind), column)


def _packed(column: pa.Array) -> pa.Array:
    """Vectors as the bytes of their numbers, float32 with the least byte first; what is no list of
    numbers stays as it is.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    kind = column.type
    is_list = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    if not is_list or not (kinds.is_floating(kind.value_type) or kinds.is_integer(kind.value_type)):
        return column
    with np.errstate(over="ignore"):
        numbers = column.flatten().to_numpy(zero_copy_only=False).astype("<f4").tobytes()
    lengths = pc.list_value_length(column).to_pylist()
    cells: list[bytes | None] = []
    begin = 0
    for length in lengths:
        end = begin + 4 * (length or 0)
        # Enough of a vector that is too long to see that it is.
        kept = min(end, begin + 4 * (MAX_DIMENSIONS + 1))
        cells.append(None if length is None else numbers[begin:kept])
        begin = end
    return pa.array(cells, pa.large_binary())


def _rows_per_batch(file: pq.ParquetFile) -> int:
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    row_bytes: int = sum(group.total_byte_size for group in groups) // file.metadata.num_rows
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a batch; a value that Python cannot hold is `Unreadable`."""
    maps = [column.name for column in batch.schema if "map<" in str(column.type)]
    for row in _listed(batch):
        for name in maps:
            row[name] = _objects(row[name])
        yield row


def _listed(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    try:
        yield from batch.to_pylist()
    except _UNREPRESENTABLE:
        columns = {name: _each(batch.column(name)) for name in batch.schema.names}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


def _objects(value: object) -> object:
    """The value with its maps, which come as lists of pairs, as objects where no key is twice."""
    if isinstance(value, dict):
        return {name: _objects(inner) for name, inner in value.items()}
    if not isinstance(value, list):
        return value
    if not value or not isinstance(value[0], tuple):
        return [_objects(inner) for inner in value]
    pairs = [(str(name), _objects(inner)) for name, inner in value]
    found = dict(pairs)
    return found if len(found) == len(pairs) else [list(pair) for pair in pairs]


def _each(column: pa.Array) -> Iterator[Any]:
    for place in range(len(column)):
        try:
            yield column[place].as_py()
        except _UNREPRESENTABLE as error:
            yield _as_text(column, place) or Unreadable(short_reason(error))


def _as_text(column: pa.Array, place: int) -> str | None:
    """A moment that Python is too coarse for, or a year that it does not have, as ISO text."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if not kinds.is_temporal(column.type):
        return None
    try:
        text: str = column.slice(place, 1).cast(pa.string())[0].as_py()
    except pa.ArrowException:
        return None
    return _NO_FRACTION.sub("", text.replace(" ", "T", 1))
