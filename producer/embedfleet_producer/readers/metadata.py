"""The metadata of a row: all that is neither its text nor its key, as far as it can be kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from embedfleet_producer.readers.cells import Unreadable, is_vector, metadata_object
from embedfleet_producer.readers.columns import METADATA_COLUMN, Layout
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.report import Tally
from embedfleet_producer.validation import MAX_METADATA_BYTES
from embedfleet_schema.json_values import json_value

# A character takes at most six bytes in JSON; a number that is not long, and what is between
# values, this many characters.
_SURELY_FITS = MAX_METADATA_BYTES // 6
_NUMBER = 24
_LONG = 10**18
_LAYOUTS_KEPT = 256


class RowMetadata:
    """Makes the metadata of one file's rows; what it leaves out is counted in the tally."""

    def __init__(self, options: ReadOptions, tally: Tally) -> None:
        self._chosen = options.metadata_columns is not None
        self._tally = tally
        self._left: dict[tuple[tuple[str, ...], str, str | None], tuple[list[str], int]] = {}

    def of(
        self, row: Mapping[str, Any], layout: Layout, text_name: str, key_name: str | None
    ) -> dict[str, Any]:
        """The metadata of a row whose text and key are in these columns. Runs for every row."""
        given = metadata_object(row[METADATA_COLUMN]) if METADATA_COLUMN in layout.others else None
        kept: dict[str, Any] = {}
        columns, size = self._columns(layout, text_name, key_name)
        for name in columns:
            value = row[name]
            kind = type(value)
            if value is None or (given is not None and name == METADATA_COLUMN):
                continue
            if kind is str and "\0" not in value:
                if value != "":
                    kept[name] = value
                    size += len(value)
            elif (kind is int or kind is float) and -_LONG < value < _LONG:
                kept[name] = value
            elif (value := self._kept(name, value)) is not None:
                kept[name] = value
                size += _size(value)
        if given:
            self._merge(kept, given)
            size += _size({name: kept[name] for name in given})
        return kept if size < _SURELY_FITS else self._within_limit(kept)

    def _columns(
        self, layout: Layout, text_name: str, key_name: str | None
    ) -> tuple[list[str], int]:
        """The columns that become metadata: those that were asked for, or all that are left; and
        the room for their names and for numbers.
        """
        found = self._left.get((layout.others, text_name, key_name))
        if found is None:
            if len(self._left) >= _LAYOUTS_KEPT:
                self._left.clear()
            used = {text_name, key_name} if not self._chosen else set()
            names = [name for name in layout.others if name not in used]
            found = names, sum(len(name) + _NUMBER for name in names)
            self._left[layout.others, text_name, key_name] = found
        return found

    def _kept(self, name: str, value: object) -> Any:  # noqa: ANN401 - what JSON can say
        """The value as metadata has it; None where it is left out, which is counted."""
        if isinstance(value, Unreadable):
            self._tally.count(f"{name} is left out: a value that cannot be read")
            return None
        if not self._chosen and is_vector(value):
            self._tally.count_vectors(name)
            return None
        return json_value(value, partial(self._lost, name))

    def _lost(self, name: str, reason: str) -> None:
        self._tally.count(f"{name} is left out, or a part of it: {reason}")

    def _merge(self, kept: dict[str, Any], given: Mapping[str, Any]) -> None:
        """Put the metadata object over the columns, and tell of columns that it hides."""
        for name, value in given.items():
            new = json_value(value, partial(self._lost, f"{METADATA_COLUMN}.{name}"))
            if name in kept and kept[name] != new:
                self._tally.count(f"{name} is left out: the metadata object has another {name}")
            kept[name] = new

    def _within_limit(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """The metadata without the largest values, where all together are more than is stored."""
        sizes = {name: _size({name: value}) for name, value in metadata.items()}
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            if sum(sizes.values()) <= MAX_METADATA_BYTES:
                break
            del sizes[name]
            self._tally.count(
                f"{name} is left out: metadata has at most {MAX_METADATA_BYTES:,} bytes"
            )
        return {name: value for name, value in metadata.items() if name in sizes}


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
