"""Which column is the text, which the key: names that people use, and what is near a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from embedfleet_producer.readers.options import ReadOptions

# In the order of preference.
KEY_COLUMNS = (
    *("key", "id", "_id", "id_", "doc_id", "docid", "document_id"),
    *("uuid", "guid", "pk"),
)
TEXT_COLUMNS = ("text", "content", "body")
METADATA_COLUMN = "metadata"
# Names that stand for a text, though nobody may take them for one without being told.
_LIKELY_TEXTS = ("texts", "contents", "document", "passage", "description", "abstract", "message")
_NAMES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of rows with the same names, by what they can become, the best first."""

    texts: tuple[str, ...]
    keys: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str], options: ReadOptions) -> Layout:
        text, key, kept = options.text_column, options.key_column, options.metadata_columns
        texts = _matching(names, TEXT_COLUMNS) if text is None else _named(names, text)
        keys = _matching(names, KEY_COLUMNS) if key is None else _named(names, key)
        others = names if kept is None else [name for name in kept if name in names]
        return cls(tuple(texts), tuple(keys), tuple(others))


@dataclass(frozen=True, slots=True)
class Missing:
    """A column without which a row is no document."""

    code: str
    reason: str


def missing_column(
    layout: Layout, names: Collection[str], options: ReadOptions, *, who: str
) -> Missing | None:
    """What a row, or a header (`who`), lacks; with what may have been meant, and how to say it."""
    if not layout.texts:
        wanted = [options.text_column] if options.text_column else list(TEXT_COLUMNS)
        return Missing("MISSING_TEXT", _lacking(who, wanted, names, "--text-column"))
    if options.key_column is not None and not layout.keys:
        return Missing("MISSING_KEY", _lacking(who, [options.key_column], names, "--key-column"))
    return None


def near(wanted: Iterable[str], names: Collection[str]) -> list[str]:
    """Those of the names that look like a wanted one, the nearest first."""
    folded = {_folded(name): name for name in reversed(list(names))}
    found: dict[str, None] = {}
    for each in wanted:
        for match in difflib.get_close_matches(_folded(each), folded, n=2, cutoff=0.6):
            found[folded[match]] = None
    return list(found)


def unique_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names with each one once and none empty; and what was done to them, in words."""
    taken = set(names)
    unique: list[str] = []
    done: list[str] = []
    used: set[str] = set()
    for place, name in enumerate(names, 1):
        base = name if name.strip() else f"column_{place}"
        new, number = base, 1
        while new in used or (new != name and new in taken):
            number += 1
            new = f"{base}_{number}"
        if new != name:
            what = f"a second column {name!r}" if name.strip() else f"column {place} has no name"
            done.append(f"{what}: it is called {new}")
        used.add(new)
        unique.append(new)
    return unique, done


def _lacking(who: str, wanted: list[str], names: Collection[str], option: str) -> str:
    shown = ", ".join(list(names)[:_NAMES_SHOWN]) or "none"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    likely = near([*wanted, *_LIKELY_TEXTS] if option == "--text-column" else wanted, names)
    hint = f"Did you mean {' or '.join(likely)}? " if likely else ""
    example = likely[0] if likely else "<name>"
    return (
        f"{who} no column {' or '.join(wanted)}; there are: {shown}{more}. "
        f"{hint}Name the column: {option} {example}"
    )


def _named(names: Sequence[str], wanted: str) -> list[str]:
    return [name for name in names if name == wanted]


def _matching(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Names that mean one of `wanted`, in its order; exact ones come before `ID` and ` id `."""
    present = set(names)
    exact = [name for name in wanted if name in present]
    place = {name: index for index, name in enumerate(wanted)}
    alike = [name for name in names if name not in place and _folded(name) in place]
    return [*exact, *sorted(alike, key=lambda name: place[_folded(name)])]


def _folded(name: str) -> str:
    return name.strip().casefold()
