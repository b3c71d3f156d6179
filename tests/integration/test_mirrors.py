"""A mirror deletes what its source no longer has, and nothing else."""

from __future__ import annotations

import itertools
import shutil
from typing import TYPE_CHECKING

import pytest

import embedfleet as ef
from embedfleet_schema.errors import InputMissing, UsageError
from plugins.fleets import ask, drain
from plugins.privileges import without_privileges

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.collection import Collection
    from embedfleet.fleet import Fleet


def keys(docs: Collection) -> list[str]:
    return [each.key for each in docs.documents()]


@pytest.fixture
def tree(open_folder: Path) -> Path:
    """Six files in two folders."""
    root = open_folder / "docs"
    for name in ("a.txt", "b.txt", "c.txt", "sub/d.txt", "sub/e.txt", "sub/f.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"The text of {name}.")
    return root


def mirror(docs: Collection, *paths: Path, confirm: bool = False, **options: object):
    stream = ef.read_paths(list(paths), **options)
    return docs.enqueue(stream, mirror=True, confirm_deletions=confirm).enqueued


def test_what_is_gone_is_deleted_and_all_else_stays(docs: Collection, tree: Path):
    docs.enqueue([ef.Document("other", "from elsewhere"), ef.Document("x", "y", source="/z/docs2")])
    docs.enqueue([ef.Document("near", "beside it", source=f"{tree}2/a.txt")])
    assert (6, 0, None) == (
        (done := mirror(docs, tree)).documents,
        done.deleted,
        done.undeleted,
    )
    (tree / "a.txt").unlink()
    (tree / "b.txt").write_text("changed")
    done = mirror(docs, tree)
    assert (1, 4, 1, None) == (done.documents, done.unchanged, done.deleted, done.undeleted)
    rest = ["b.txt", "c.txt", "near", "other", "sub/d.txt", "sub/e.txt", "sub/f.txt", "x"]
    assert rest == keys(docs)
    assert docs.audit().clean


def test_without_mirror_everything_stays(docs: Collection, tree: Path):
    docs.enqueue(ef.read_paths([tree]))
    (tree / "a.txt").unlink()
    docs.enqueue(ef.read_paths([tree]))
    assert 6 == len(keys(docs))


def test_a_renamed_file_keeps_its_vectors(docs: Collection, tree: Path, worker):
    mirror(docs, tree)
    drain(worker())
    (tree / "a.txt").rename(tree / "z.txt")
    done = mirror(docs, tree)
    assert (1, 1, 0, 1) == (done.documents, done.reused, done.batches, done.deleted)
    assert (6, 6) == (docs.counts().vectors, docs.counts().live_documents)
    assert "live" == docs.explain("z.txt").state
    assert docs.audit().clean


def test_the_job_says_what_was_deleted(docs: Collection, tree: Path):
    mirror(docs, tree)
    (tree / "a.txt").unlink()
    job = docs.enqueue(ef.read_paths([tree]), mirror=True)
    assert (1, None) == (job.status.deleted, job.status.undeleted)


def test_more_than_half_is_deleted_only_when_confirmed(docs: Collection, tree: Path):
    mirror(docs, tree)
    shutil.rmtree(tree / "sub")
    (tree / "a.txt").unlink()
    (tree / "new.txt").write_text("new")
    job = docs.enqueue(ef.read_paths([tree]), mirror=True)
    done = job.enqueued
    assert (1, 0) == (done.documents, done.deleted)
    for words in ("4 of 7 documents", str(tree), "--yes", "confirm_deletions=True"):
        assert words in done.undeleted
    assert done.undeleted == job.status.undeleted
    assert 7 == len(keys(docs))
    assert 4 == mirror(docs, tree, confirm=True).deleted
    assert ["b.txt", "c.txt", "new.txt"] == keys(docs)


def test_exactly_half_may_go(docs: Collection, tree: Path):
    mirror(docs, tree)
    shutil.rmtree(tree / "sub")
    assert 3 == mirror(docs, tree).deleted


def test_an_empty_folder_deletes_nothing(docs: Collection, tree: Path):
    mirror(docs, tree)
    shutil.rmtree(tree)
    tree.mkdir()
    with pytest.raises(InputMissing):
        mirror(docs, tree, confirm=True)
    assert 6 == len(keys(docs))


def test_a_folder_that_is_emptied_before_it_is_read_deletes_nothing(docs: Collection, tree: Path):
    """A mount that goes between the look at it and the reading."""
    mirror(docs, tree)
    stream = ef.read_paths([tree])
    shutil.rmtree(tree)
    tree.mkdir()
    done = docs.enqueue(stream, mirror=True, confirm_deletions=True).enqueued
    assert 0 == done.deleted
    assert "the folder is empty" in done.undeleted
    assert 6 == len(keys(docs))


def test_one_empty_folder_of_two_deletes_nothing(docs: Collection, tree: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "o.txt").write_text("the other")
    mirror(docs, tree, other)
    stream = ef.read_paths([tree, other])
    (other / "o.txt").unlink()
    (tree / "a.txt").unlink()
    done = docs.enqueue(stream, mirror=True, confirm_deletions=True).enqueued
    assert (0, True) == (done.deleted, str(other) in done.undeleted)


@pytest.mark.parametrize("unreadable", ["sub", "b.txt"])
def test_what_cannot_be_read_lets_nothing_be_deleted(docs: Collection, tree: Path, unreadable: str):
    mirror(docs, tree)
    (tree / "a.txt").unlink()
    (tree / unreadable).chmod(0)
    with without_privileges():
        done = mirror(docs, tree, confirm=True)
    (tree / unreadable).chmod(0o755)
    assert 0 == done.deleted
    assert f"{tree / unreadable}: permission denied" in done.undeleted
    assert 6 == len(keys(docs))
    assert 1 == mirror(docs, tree).deleted


def test_a_rejected_file_keeps_its_documents(docs: Collection, tree: Path):
    table = tree / "t.csv"
    table.write_text("id,text\n1,one\n2,two\n")
    mirror(docs, tree)
    table.write_text("id,text\n2,\n")
    (tree / "a.txt").write_bytes(b"\xff\xfe\x00")
    (tree / "b.txt").unlink()
    done = mirror(docs, tree)
    assert (1, None) == (done.deleted, done.undeleted)
    assert ["1", "2", "a.txt"] == [key for key in keys(docs) if key in {"1", "2", "a.txt"}]


@pytest.mark.parametrize("name", ["report.pdf", "table.parquet", "notes.ipynb"])
def test_a_damaged_file_is_as_any_that_is_rejected(docs: Collection, tree: Path, name: str):
    mirror(docs, tree)
    (tree / name).write_bytes(b"%PDF-1.4 and nothing more")
    (tree / "a.txt").unlink()
    done = mirror(docs, tree)
    assert (1, 1, None) == (done.deleted, done.rejected, done.undeleted)


def test_rows_that_are_gone_are_deleted(docs: Collection, tree: Path):
    table = tree / "t.csv"
    table.write_text("id,text\n1,one\n2,two\n")
    mirror(docs, tree)
    table.write_text("id,text\n2,two\n")
    assert 1 == mirror(docs, tree).deleted
    assert "1" not in keys(docs)


def test_a_row_that_is_rejected_with_its_key_keeps_its_document_alone(docs: Collection, tree: Path):
    table = tree / "t.jsonl"
    table.write_text("".join(f'{{"id": "{n}", "text": "text {n}"}}\n' for n in range(3)))
    mirror(docs, tree)
    table.write_text('{"id": "0", "text": "a\\u0000b"}\n{"id": "1", "text": "text 1"}\n')
    assert 1 == mirror(docs, tree).deleted
    assert ["0", "1"] == keys(docs)[:2]


def test_what_is_left_out_by_a_pattern_is_not_gone(docs: Collection, tree: Path):
    mirror(docs, tree)
    (tree / "a.txt").unlink()
    done = mirror(docs, tree, exclude=["sub/", "b.*"])
    assert (1, None) == (done.deleted, done.undeleted)
    assert ["b.txt", "c.txt", "sub/d.txt", "sub/e.txt", "sub/f.txt"] == keys(docs)


def test_what_became_a_link_is_not_gone(docs: Collection, tree: Path, tmp_path: Path):
    mirror(docs, tree)
    shutil.move(tree / "sub", tmp_path / "moved")
    (tree / "sub").symlink_to(tmp_path / "moved")
    (tree / "a.txt").unlink()
    assert 1 == mirror(docs, tree).deleted
    assert 5 == len(keys(docs))


# What a program gives, under a name.

WIKI = [ef.Document(f"w{n}", f"page {n}") for n in range(6)]


def named(docs: Collection, documents, **options: object):
    return docs.enqueue(documents, source="wiki", mirror=True, **options).enqueued


def test_a_name_tells_what_a_program_mirrors(docs: Collection):
    docs.enqueue([ef.Document("x", "y", source="other"), ef.Document("z", "w")])
    assert 0 == named(docs, WIKI).deleted
    assert {"wiki"} == {each.source for each in docs.documents() if each.key.startswith("w")}
    assert 2 == named(docs, WIKI[2:]).deleted
    assert ["w2", "w3", "w4", "w5", "x", "z"] == keys(docs)


def test_a_mirror_without_a_name_is_refused_before_anything_is_stored(docs: Collection):
    with pytest.raises(UsageError, match="source="):
        docs.enqueue(WIKI, mirror=True)
    assert [] == keys(docs)


def test_a_stream_without_documents_deletes_nothing(docs: Collection):
    named(docs, WIKI)
    done = named(docs, [], confirm_deletions=True)
    assert (0, 6) == (done.deleted, len(keys(docs)))
    assert "no document was read" in done.undeleted


def test_a_stream_that_raises_deletes_nothing(docs: Collection):
    named(docs, WIKI)

    def failing():
        yield from WIKI[:4]
        raise OSError

    with pytest.raises(OSError):
        named(docs, failing())
    assert 6 == len(keys(docs))


def test_a_call_that_is_interrupted_deletes_nothing(docs: Collection):
    named(docs, WIKI)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        named(docs, WIKI[:5], on_window=interrupt)
    assert 6 == len(keys(docs))
    assert 1 == named(docs, WIKI[:5]).deleted


def test_a_rejected_document_stays_as_it_was(docs: Collection):
    named(docs, WIKI)
    changed = [ef.Document("w0", ""), ef.Rejection("w1", "MINE", "not today"), *WIKI[3:]]
    done = named(docs, changed)
    assert (1, 2) == (done.deleted, done.rejected)
    assert ["w0", "w1", "w3", "w4", "w5"] == keys(docs)


@pytest.mark.parametrize(
    "meanwhile",
    [
        ef.Document("w5", "page 5", source="wiki"),
        ef.Document("w5", "changed", source="wiki"),
        ef.Document("new", "page 5", source="wiki"),
    ],
    ids=["unchanged", "changed", "new"],
)
def test_what_others_store_meanwhile_stays(docs: Collection, meanwhile: ef.Document):
    named(docs, WIKI)

    def stream():
        yield WIKI[0]
        docs.enqueue([meanwhile])
        yield from WIKI[1:5]

    named(docs, stream())
    assert meanwhile.key in keys(docs)


def test_two_mirrors_of_one_source_keep_what_either_has_stored(docs: Collection):
    """What one has read and not stored yet, the other may delete: then it is stored anew."""
    named(docs, WIKI)
    inner = []

    def outer():
        yield from WIKI[:3]
        inner.append(named(docs, WIKI[3:], confirm_deletions=True))

    assert 0 == named(docs, outer(), confirm_deletions=True).deleted
    assert {f"w{n}" for n in range(6)} == set(keys(docs))
    assert 3 == named(docs, WIKI[:3]).deleted


def test_two_mirrors_keep_what_either_has_seen(migrated_url, redis_url):
    with ef.connect(migrated_url, redis_url, window_documents=1) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        named(docs, WIKI)
        inner = []

        def outer():
            yield from WIKI[:5]
            inner.append(named(docs, WIKI[5:], confirm_deletions=True))

        assert 0 == named(docs, outer(), confirm_deletions=True).deleted
        # The last of the five is read, but perhaps not stored when the other mirror ends.
        assert inner[0].deleted <= 1
        assert 6 == len(keys(docs))


def test_nothing_is_left_of_what_was_seen(fleet: Fleet, docs: Collection):
    named(docs, WIKI)
    named(docs, WIKI)
    assert [(0,)] == ask(fleet, "SELECT count(*) FROM embedfleet.sighting")


def test_what_the_database_lost_deletes_nothing(fleet: Fleet, docs: Collection):
    """A crash of PostgreSQL empties a table that is not logged."""
    named(docs, WIKI)

    def stream():
        yield from WIKI[:3]
        ask(fleet, "TRUNCATE embedfleet.sighting")
        yield from WIKI[3:5]

    done = named(docs, stream(), confirm_deletions=True)
    assert (0, 6) == (done.deleted, len(keys(docs)))
    assert "enqueue again" in done.undeleted


def test_a_cancelled_mirror_deletes_nothing(fleet: Fleet, docs: Collection):
    named(docs, WIKI)

    def stream():
        yield from WIKI[:5]
        fleet.jobs()[0].cancel()

    assert 0 == named(docs, stream()).deleted
    assert 6 == len(keys(docs))


@pytest.mark.parametrize("window_documents", [1, 2, 1_000])
def test_windows_of_any_size_see_all(migrated_url, redis_url, tree: Path, window_documents: int):
    settings = {"window_documents": window_documents}
    with ef.connect(migrated_url, redis_url, **settings) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        mirror(docs, tree)
        (tree / "sub/e.txt").unlink()
        assert 1 == mirror(docs, tree).deleted


def test_a_plan_says_what_would_be_deleted_and_deletes_nothing(docs: Collection, tree: Path):
    mirror(docs, tree)
    (tree / "a.txt").unlink()
    (tree / "b.txt").write_bytes(b"\xff\xfe\x00")
    planned = docs.plan(ef.read_paths([tree]), mirror=True)
    assert (1, ["a.txt"], None) == (planned.to_delete, planned.deletions, planned.undeleted)
    shutil.rmtree(tree / "sub")
    planned = docs.plan(ef.read_paths([tree]), mirror=True)
    assert 4 == planned.to_delete
    assert "4 of 6 documents" in planned.undeleted
    assert 6 == len(keys(docs))


def test_a_named_folder_whose_rows_are_rejected_deletes_nothing(docs: Collection, tree: Path):
    """The documents do not say which file they came of."""
    (tree / "t.csv").write_text("id,text\n1,one\n2,two\n")
    options = ef.ReadOptions(source="wiki")
    mirror(docs, tree, options=options)
    (tree / "t.csv").write_text("id,text\n2,\n")
    (tree / "a.txt").unlink()
    done = mirror(docs, tree, options=options)
    assert 0 == done.deleted
    assert "t.csv" in done.undeleted
    (tree / "t.csv").write_text("id,text\n2,two\n")
    assert 2 == mirror(docs, tree, options=options).deleted


def test_a_document_too_large_for_one_page_goes_too(docs: Collection, monkeypatch):
    monkeypatch.setattr("embedfleet_schema.store.documents.CHUNKS_AT_ONCE", 3)
    large = ef.Document("large", chunks=[f"part {n}" for n in range(10)])
    named(docs, [*WIKI, large])
    assert 1 == named(docs, WIKI).deleted
    assert docs.audit().clean


def test_pages_of_any_size_find_what_is_gone(docs: Collection, monkeypatch):
    named(docs, WIKI)
    for size, wanted in itertools.product((1, 4), (WIKI[1:], WIKI)):
        monkeypatch.setattr("embedfleet_schema.store.mirrors.PAGE", size)
        assert len(WIKI) - len(wanted) == named(docs, wanted).deleted
