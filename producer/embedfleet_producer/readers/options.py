"""How files are to be read, as far as the caller says."""

from __future__ import annotations

import io
from dataclasses import dataclass

from embedfleet_schema.errors import BadReadOption

_TABS = {"\\t": "\t", "tab": "\t"}
_NO_DELIMITERS = '"\r\n\0'


@dataclass(frozen=True, slots=True)
class ReadOptions:
    r"""What `read_paths` is told about files and their rows. Each may be left out.

    Args:
        text_column: the column that is embedded; by default the first of text, content, body.
        key_column: the column that identifies a row; by default the first of `KEY_COLUMNS`.
        metadata_columns: the only columns that are kept as metadata; by default all others.
        delimiter: between the cells of CSV, one character ("tab" and "\t" are the tabulator).
        encoding: of texts, JSON Lines, CSV and standard input, by Python's name; by default UTF-8,
            or UTF-16 that says so.
        key: the key of what comes from standard input as one text; "stdin" by default.
        key_prefix: put before every key.
        source: what is stored as the documents' source; by default the file of each.

    Raises:
        BadReadOption: a value cannot be used.
    """

    text_column: str | None = None
    key_column: str | None = None
    metadata_columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    key: str | None = None
    key_prefix: str = ""
    source: str | None = None

    def __post_init__(self) -> None:
        delimiter = self.delimiter
        if delimiter is not None:
            found = _TABS.get(delimiter.lower(), delimiter)
            if len(found) != 1 or found in _NO_DELIMITERS:
                reason = "write one character that is not a quote or a line end"
                raise BadReadOption(option="delimiter", value=delimiter, reason=reason)
            object.__setattr__(self, "delimiter", found)
        for name in ("text_column", "key_column", "encoding", "key", "source"):
            if getattr(self, name) == "":
                raise BadReadOption(option=name, value="", reason="it is empty")
        if self.encoding is not None:
            _check_encoding(self.encoding)

    @property
    def names_columns(self) -> bool:
        """Whether what is read is said to have columns."""
        return self.text_column is not None or self.key_column is not None


def _check_encoding(name: str) -> None:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError) as error:
        reason = "Python knows no such encoding of text; examples: utf-8, cp1252, utf-16-le"
        raise BadReadOption(option="encoding", value=name, reason=reason) from error
