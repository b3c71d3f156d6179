"""A folder that is mirrored after any operations on its files holds what the files say."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embedfleet as ef
from embedfleet_schema.errors import InputMissing
from plugins.privileges import without_privileges

NAMES = ["a.txt", "b.txt", "one/c.txt", "one/d.txt", "two/e.txt", "rows.jsonl"]
FOLDERS = ["one", "two"]
GOOD, BAD = "good", "bad"
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.integers(0, 3)),
    st.tuples(st.just("spoil"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("delete"), st.sampled_from([*NAMES, *FOLDERS]), st.just(0)),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.integers(0, len(NAMES) - 1)),
    st.tuples(st.just("lock"), st.sampled_from(FOLDERS), st.just(0)),
)


class Model:
    """The files as they are, and the documents that a mirror of them must have left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stored: dict[str, set[str]] = {}

    def apply(self, kind: str, name: str, number: int) -> None:
        path = self.root / name
        if kind == "delete":
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
        elif kind == "lock" and path.is_dir():
            path.chmod(0)
        elif kind == "rename" and path.is_file() and NAMES[number] != name:
            self.folder_of(NAMES[number])
            if path.suffix == Path(NAMES[number]).suffix:
                path.rename(self.root / NAMES[number])
        elif kind in {"write", "spoil"}:
            self.folder_of(name)
            path.write_bytes(b"\xff\x00" if kind == "spoil" else content(name, number).encode())

    def folder_of(self, name: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)

    def unlock(self) -> None:
        for folder in FOLDERS:
            if (self.root / folder).is_dir():
                (self.root / folder).chmod(0o755)

    def expect(self) -> None:
        """What the documents of each file are after a mirror."""
        files = {n: self.root / n for n in NAMES if (self.root / n).exists()}
        locked = {
            n
            for n in FOLDERS
            if (self.root / n).is_dir() and not (self.root / n).stat().st_mode & 0o777
        }
        seen = {n: path for n, path in files.items() if n.partition("/")[0] not in locked}
        if not seen and not locked:
            return
        after: dict[str, set[str]] = {}
        for name, path in seen.items():
            former = self.stored.get(name, set())
            found = documents_in(name, path)
            after[name] = former if found is None else found
            if locked and found is not None:
                after[name] = found | former
        if locked:
            after = self.stored | after
        self.stored = after

    @property
    def keys(self) -> set[str]:
        return set().union(*self.stored.values())


def content(name: str, number: int) -> str:
    if name.endswith(".jsonl"):
        return "".join(f'{{"id": "r{n}", "text": "row {n}"}}\n' for n in range(number + 1))
    return f"text {number}"


def documents_in(name: str, path: Path) -> set[str] | None:
    data = path.read_bytes()
    if data == b"\xff\x00":
        return None
    if name.endswith(".jsonl"):
        return {f"r{n}" for n in range(data.count(b"\n"))}
    return {name}


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=st.lists(st.lists(OPERATIONS, min_size=1, max_size=6), min_size=1, max_size=5))
def test_only_what_is_truly_gone_is_deleted(docs: ef.Collection, steps):
    with TemporaryDirectory() as name:
        root = Path(name) / "docs"
        root.mkdir()
        Path(name).chmod(0o755)
        model = Model(root)
        (root / "b.txt").write_text("the first")
        # Nobody may not import what is loaded on first use.
        docs.enqueue(ef.read_paths([root]), mirror=True)
        for operations in [[], *steps]:
            for operation in operations:
                model.apply(*operation)
            model.expect()
            with without_privileges():
                try:
                    docs.enqueue(ef.read_paths([root]), mirror=True, confirm_deletions=True)
                except InputMissing:
                    assert not any(path.is_file() for path in root.rglob("*"))
            model.unlock()
            assert model.keys == {each.key for each in docs.documents()}
        if keys := sorted(model.keys):
            docs.delete(keys)


FILES = 500


@pytest.fixture
def library(open_folder: Path) -> Path:
    for number in range(FILES):
        path = open_folder / f"{number % 10}" / f"{number:03}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"The text number {number}.")
    return open_folder


def mirrored(docs: ef.Collection, root: Path):
    return docs.enqueue(ef.read_paths([root]), mirror=True).enqueued


def test_a_folder_of_five_hundred_files_is_kept_in_step(docs: ef.Collection, library: Path):
    assert FILES == mirrored(docs, library).documents
    (library / "0/000.txt").unlink()
    (library / "1/001.txt").rename(library / "1/renamed.txt")
    (library / "2/002.txt").write_text("changed")
    done = mirrored(docs, library)
    assert (2, 497, 2, None) == (done.documents, done.unchanged, done.deleted, done.undeleted)

    (library / "3/003.txt").unlink()
    (library / "4").chmod(0)
    with without_privileges():
        done = mirrored(docs, library)
    assert (449 - 1, 0) == (done.unchanged, done.deleted)
    assert f"{library / '4'}: permission denied" in done.undeleted
    (library / "4").chmod(0o755)
    assert 1 == mirrored(docs, library).deleted

    moved = library.with_name(f"{library.name}-moved")
    library.rename(moved)
    library.mkdir()
    try:
        with pytest.raises(InputMissing, match="the folder is empty"):
            mirrored(docs, library)
    finally:
        library.rmdir()
        moved.rename(library)
    done = mirrored(docs, library)
    assert (498, 0) == (done.unchanged, done.deleted)
    keys = {each.key for each in docs.documents()}
    on_disk = {str(path.relative_to(library)) for path in library.rglob("*.txt")}
    assert on_disk == keys
