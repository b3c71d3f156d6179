"""An export: one consistent snapshot of a collection, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedfleet.export_formats import FORMATS, Matrix
from embedfleet_schema.database import Database
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.exchange_errors import ExportFailed, ExportRefused
from embedfleet_schema.private_files import replacing
from embedfleet_schema.store import export
from embedfleet_schema.types import CollectionInfo

# Told how many chunks are written.
OnChunks = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: its files, and how much is in them."""

    files: list[Path]
    documents: int
    chunks: int


def rows_beside(path: Path) -> Path:
    """Where the rows lie whose vectors are in a `.npy` file."""
    return path.with_suffix(".jsonl")


def write_export(
    db: Database,
    collection: CollectionInfo,
    path: Path,
    *,
    form: str | None = None,
    on_chunks: OnChunks | None = None,
) -> Exported:
    """Write what readers see of a collection to `path`.

    Args:
        form: parquet, npy, csv or jsonl; by default the suffix of `path`.

    Raises:
        ExportRefused: there is no such format, or no such folder.
        ExportFailed: the disk is full, or not to be written. A file of before is still there.
        ExtraMissing: Parquet needs pyarrow.
    """
    suffix = _format(path, form)
    files = [path, rows_beside(path)] if suffix == ".npy" else [path]
    documents = chunks = 0
    last: str | None = None
    with _failures(path), ExitStack() as opened:
        streams = [opened.enter_context(replacing(each)) for each in files]
        writer = FORMATS[suffix](collection, *streams)
        opened.push(writer.abandon)
        with closing(export.chunks(db, collection)) as pages:
            for page in pages:
                writer.write(page)
                chunks += len(page)
                documents += len({each.document for each in page} - {last})
                last = page[-1].document
                if on_chunks is not None:
                    on_chunks(chunks)
        writer.end()
        if isinstance(writer, Matrix):
            # The files are renamed one after the other, this one last: whoever stops in between
            # leaves no vectors beside the rows of another export.
            path.unlink(missing_ok=True)
    return Exported(files, documents, chunks)


def _format(path: Path, form: str | None) -> str:
    suffix = path.suffix.lower() if form is None else f".{form.lower()}"
    known = ", ".join(each.removeprefix(".") for each in FORMATS)
    if suffix not in FORMATS:
        reason = f"the format is one of {known}, by the end of the name or named"
        raise ExportRefused(path=path, reason=reason)
    if suffix == ".npy" and path.suffix.lower() != ".npy":
        reason = "its name must end in .npy, because the rows go into .jsonl beside it"
        raise ExportRefused(path=path, reason=reason)
    if path.is_dir():
        raise ExportRefused(path=path, reason="it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ExportRefused(path=path, reason=f"there is no folder {path.parent}")
    return suffix


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except EmbedfleetError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ExportFailed(path=path, reason=reason) from error
