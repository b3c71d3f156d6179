"""Objects of a store: read as files, told apart by their versions, and mirrored."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest

import embedfleet as ef
from embedfleet_producer.readers.object_store import ObjectUrl
from embedfleet_schema.errors import ExtraMissing, StoreRefused, UsageError

if TYPE_CHECKING:
    from embedfleet.collection import Collection
    from plugins.command_line import Command
    from plugins.object_stores import Bucket


def rows(count: int) -> str:
    return "".join(json.dumps({"id": f"r{n}", "text": f"row {n}"}) + "\n" for n in range(count))


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    for key, content in {
        "docs/a.txt": "one",
        "docs/b.md": "# Two\n\ntwo",
        "docs/sub/c.txt": "three",
        "docs/sub/rows.jsonl": rows(3),
        "docs/.hidden": "hidden",
        "other/d.txt": "elsewhere",
    }.items():
        bucket.write(key, content)
    bucket.requests.clear()
    return bucket


def mirror(docs: Collection, *paths: str, **options: object):
    done = docs.enqueue(ef.read_paths(list(paths), **options), mirror=True)
    return done.enqueued


def keys(docs: Collection) -> list[str]:
    return [each.key for each in docs.documents()]


def test_objects_have_keys_and_sources_as_files_have(docs: Collection, filled: Bucket):
    assert 6 == mirror(docs, filled.url("docs")).documents
    assert ["a.txt", "b.md", "r0", "r1", "r2", "sub/c.txt"] == keys(docs)
    assert filled.url("docs/sub/c.txt") in {each.source for each in docs.documents()}


def test_unchanged_objects_are_not_downloaded(docs: Collection, filled: Bucket):
    mirror(docs, filled.url("docs"))
    assert 4 == len(filled.downloads)
    filled.requests.clear()
    again = mirror(docs, filled.url("docs"))
    assert (0, 6, 0, None) == (
        again.documents,
        again.unchanged,
        again.deleted,
        again.undeleted,
    )
    assert [] == filled.downloads
    assert {"HEAD", "GET"} >= {method for method, _, _ in filled.requests}
    planned = docs.plan(ef.read_paths([filled.url("docs")]), mirror=True)
    assert (6, 0) == (planned.unchanged, planned.to_delete)
    assert [] == filled.downloads
    assert 6 == len(keys(docs))


def test_a_mirror_follows_a_bucket(docs: Collection, filled: Bucket):
    mirror(docs, filled.url("docs"))
    filled.write("docs/a.txt", "changed")
    filled.write("docs/new.txt", "new")
    filled.write("docs/sub/rows.jsonl", rows(2))
    filled.delete("docs/b.md")
    filled.requests.clear()
    done = mirror(docs, filled.url("docs"))
    assert (2, 2) == (done.documents, done.deleted)
    assert ["docs/a.txt", "docs/new.txt", "docs/sub/rows.jsonl"] == sorted(filled.downloads)
    assert ["a.txt", "new.txt", "r0", "r1", "sub/c.txt"] == keys(docs)
    filled.requests.clear()
    assert 5 == mirror(docs, filled.url("docs")).unchanged
    assert [] == filled.downloads


def test_rows_over_many_windows_are_known_as_one_object(migrated_url, redis_url, bucket: Bucket):
    with ef.connect(migrated_url, redis_url, window_documents=100) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        bucket.write("many.jsonl", rows(2_350))
        mirror(docs, bucket.url())
        bucket.requests.clear()
        done = mirror(docs, bucket.url())
        assert (2_350, [], 0) == (done.unchanged, bucket.downloads, done.deleted)


def test_a_document_that_was_deleted_comes_back(docs: Collection, filled: Bucket):
    mirror(docs, filled.url("docs"))
    docs.delete(["r1", "a.txt"])
    filled.requests.clear()
    assert 2 == mirror(docs, filled.url("docs")).documents
    assert ["docs/a.txt", "docs/sub/rows.jsonl"] == sorted(filled.downloads)


def test_an_object_with_a_rejected_row_is_read_again(docs: Collection, filled: Bucket):
    filled.write("docs/sub/rows.jsonl", rows(2) + '{"id": "r2", "text": ""}\n')
    for _ in range(2):
        filled.requests.clear()
        assert 1 == mirror(docs, filled.url("docs")).rejected
        assert "docs/sub/rows.jsonl" in filled.downloads


def test_other_options_read_everything_again(docs: Collection, filled: Bucket):
    mirror(docs, filled.url("docs"))
    filled.requests.clear()
    docs.enqueue(ef.read_paths([filled.url("docs")], options=ef.ReadOptions(key_prefix="x/")))
    assert 4 == len(filled.downloads)


def test_a_function_that_cuts_sees_all_texts(docs: Collection, filled: Bucket):
    docs.enqueue(ef.read_paths([filled.url("docs")]))
    filled.requests.clear()
    docs.enqueue(ef.read_paths([filled.url("docs")]), chunk=lambda text: [text])
    assert 4 == len(filled.downloads)


def test_a_function_that_says_contexts_sees_all_texts(docs: Collection, filled: Bucket):
    docs.enqueue(ef.read_paths([filled.url("docs/sub")]))
    asked = []

    def context(document, chunks):
        asked.append(document.key)
        return ["said"] * len(chunks)

    again = docs.enqueue(ef.read_paths([filled.url("docs/sub")]), context=context).enqueued
    assert (4, 0) == (again.documents, again.unchanged)
    assert ["c.txt", "r0", "r1", "r2"] == sorted(asked)


def test_a_name_of_its_own_keeps_objects_known(docs: Collection, filled: Bucket):
    for unchanged in (0, 6):
        filled.requests.clear()
        stream = ef.read_paths([filled.url("docs")])
        done = docs.enqueue(stream, source="wiki", mirror=True).enqueued
        assert (unchanged, None) == (done.unchanged, done.undeleted)
    assert [] == filled.downloads
    assert {"wiki"} == {each.source for each in docs.documents()}


def test_patterns_choose_objects_as_files(filled: Bucket):
    stream = ef.read_paths([filled.url("docs")], include=["*.txt"], exclude=["sub/"])
    assert ["a.txt"] == [each.key for each in stream]


def test_one_object_is_called_by_its_name(filled: Bucket):
    (found,) = ef.read_paths([filled.url("docs/sub/c.txt")])
    assert ("c.txt", "three") == (found.key, found.text)


def test_the_command_reads_a_bucket(command: Command, handbook: str, filled: Bucket):
    done = command("enqueue", handbook, filled.url("docs/"), "--mirror", "--json")
    assert (0, 6) == (done.code, done.json["documents"])


@pytest.mark.parametrize("path", ["nothing-here", "docs/none.txt"])
def test_what_is_not_there_is_said(filled: Bucket, path: str):
    with pytest.raises(StoreRefused, match="no such bucket, folder or object"):
        ef.read_paths([filled.url(path)])


def test_a_bucket_that_is_not_there_is_said(bucket: Bucket):
    with pytest.raises(StoreRefused, match="s3://no-such-bucket-at-all cannot be read"):
        ef.read_paths(["s3://no-such-bucket-at-all"])


def test_a_store_without_a_login_is_said_and_names_no_secret(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, "embedfleet_producer")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(StoreRefused, match="AWS_ACCESS_KEY_ID") as refused:
        ef.read_paths([bucket.url()])
    assert "canary" not in f"{refused.value}{caplog.text}"


def test_a_store_out_of_reach_is_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreRefused, match="cannot be reached"):
        ef.read_paths([bucket.url()])


@pytest.mark.parametrize(("url", "extra"), [("gs://b/x", "gcs"), ("az://c/x", "azure")])
def test_a_library_that_is_not_installed_is_named(url: str, extra: str, monkeypatch):
    module = {"gcs": "gcsfs", "azure": "adlfs"}[extra]
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ExtraMissing, match=rf"embedfleet\[{extra}\]"):
        ef.read_paths([url])


@pytest.mark.parametrize(
    "url", ["s3://key:secret@bucket/x", "az://box/x?sig=secret", "s3://", "ftp://user:secret@h/x"]
)
def test_a_path_with_a_secret_is_refused_and_not_repeated(url: str):
    with pytest.raises(UsageError) as refused:
        ObjectUrl.of(url)
    assert "secret" not in str(refused.value)


def test_a_store_that_fails_midway_deletes_nothing(docs: Collection, filled: Bucket, monkeypatch):
    """The reading of one object is refused."""
    from embedfleet_producer.readers import object_store

    mirror(docs, filled.url("docs"))
    filled.write("docs/a.txt", "changed")
    filled.delete("docs/b.md")
    fetched = object_store._Store.fetched

    def refusing(store, path):
        if path.endswith("a.txt"):
            raise StoreRefused(url=path, reason="access is denied")
        return fetched(store, path)

    monkeypatch.setattr(object_store._Store, "fetched", refusing)
    done = mirror(docs, filled.url("docs"))
    assert 0 == done.deleted
    assert "a.txt: access is denied" in done.undeleted
    assert ["a.txt", "b.md"] == keys(docs)[:2]
