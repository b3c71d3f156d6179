"""Vectors move out of a collection and into one: the same rows, and nothing embedded twice."""

import csv
import errno
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import embedfleet as ef
from embedfleet import exports
from embedfleet_schema.errors import ModelMismatch
from embedfleet_schema.exchange_errors import (
    ExportFailed,
    ExportRefused,
    ImportRefused,
    ModelUnstated,
)
from embedfleet_schema.store import export
from plugins.fleets import ask, drain, small_fleet
from plugins.servers import fresh_database

MODEL = "fake/16"
FORMATS = ["parquet", "npy", "csv", "jsonl"]
DOCUMENTS = [
    ef.Document("a.md", "one two three. " * 40, {"lang": "en", "n": 12345678901234567890}),
    ef.Document(
        "b/ü.md",
        chunks=[
            ef.Chunk('say "hi",\nthen go', 3, 19, {"page": 1}),
            "two\r\nlines",
            ef.Chunk("two\r\nlines", context='in "ü",\nsaid: '),
        ],
    ),
    ef.Document("c", "=1+1", {"deep": {"a": [1, 2.5, None, ""]}, "empty": ""}),
    ef.Document("d", "same text"),
    ef.Document("e", "same text", {"lang": "de"}),
]


def filled(fleet, worker, *, storage=None, name="docs"):
    docs = fleet.collection(name, model=MODEL, storage=storage)
    docs.enqueue(DOCUMENTS)
    drain(worker())
    return docs


def found(docs):
    """What people see of it, without the numbers of the chunks, which are a database's own."""
    queries = ("one", "say hi", "same text", "=1+1")
    hits = [docs.search(query, k=20) for query in queries]
    filtered = docs.search("one", k=5, where={"lang": "de"})
    listed = [
        [
            (hit.document, hit.position, hit.content, hit.metadata, round(hit.score, 6))
            for hit in each
        ]
        for each in [*hits, filtered]
    ]
    # Hits of one score may come in any order.
    return [sorted(each, key=lambda hit: (-hit[-1], hit[0], hit[1])) for each in listed]


def places(docs):
    info = docs.info
    statement = (
        "SELECT d.key, c.position, c.start_offset, c.end_offset, t.hash, t.context"
        f" FROM embedfleet.{info.documents} d JOIN embedfleet.{info.chunks} c"
        f" ON c.document_id = d.id JOIN embedfleet.{info.texts} t ON t.id = c.text_id ORDER BY 1, 2"
    )
    return ask_in(docs, statement)


def ask_in(docs, statement, *values):
    with docs._connections.db.transaction() as conn:
        return conn.execute(statement, values).fetchall()


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def save(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def unit(number: int) -> list[float]:
    return [1.0 if place == number else 0.0 for place in range(16)]


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_and_imported_elsewhere_gives_the_same_results(
    form, storage, fleet, worker, stack, template_database, redis_url, tmp_path
):
    docs = filled(fleet, worker, storage=storage)
    path = tmp_path / f"docs.{form}"
    done = docs.export(path)
    assert (done.documents, done.chunks) == (5, docs.counts().chunks)
    assert path.stat().st_mode & 0o777 == 0o600
    with fresh_database(stack, template_database) as url, small_fleet(url, redis_url) as other:
        copy = other.collection("copy", model=MODEL, storage=storage)
        job = copy.import_vectors(path)
        enqueued = job.enqueued
        assert (enqueued.documents, enqueued.rejected, enqueued.batches) == (5, 0, 0)
        assert enqueued.imported == docs.counts().vectors
        assert job.status.state == "done"
        assert found(docs) == found(copy)
        assert places(docs) == places(copy)
        assert copy.audit().clean
        assert copy.counts().live_documents == 5
        again = copy.import_vectors(path).enqueued
        assert (again.documents, again.unchanged, again.imported, again.batches) == (0, 5, 0, 0)
        # Nothing of it is ever embedded: not by the import, and not by enqueueing the texts.
        assert ask(other, "SELECT count(*) FROM embedfleet.batch") == [(0,)]
        copy.enqueue(DOCUMENTS)
        assert ask(other, "SELECT count(*) FROM embedfleet.batch") == [(0,)]


def test_each_format_says_what_made_its_vectors(fleet, worker, tmp_path):
    docs = filled(fleet, worker)
    made_by = {"model": MODEL, "space": docs.info.space.fingerprint.hex()}
    for form in FORMATS:
        docs.export(tmp_path / f"docs.{form}")
    said = json.loads(pq.read_schema(tmp_path / "docs.parquet").metadata[b"embedfleet"])
    assert said == {"collection": "docs", **made_by}
    with (tmp_path / "docs.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert made_by == {name: row[name] for name in made_by}
    assert made_by == {name: rows_of(tmp_path / "docs.jsonl")[0][name] for name in made_by}
    matrix = np.load(tmp_path / "docs.npy")
    assert (docs.counts().chunks, 16, np.float32) == (*matrix.shape, matrix.dtype)


def test_an_export_is_one_snapshot(fleet, worker, tmp_path, monkeypatch):
    docs = filled(fleet, worker)
    monkeypatch.setattr(export, "DOCUMENTS", 1)
    told = []

    def enqueue_more(chunks):
        if not told:
            docs.delete(["d"])
            docs.enqueue([ef.Document("zzz", "new"), ef.Document("e", "another text")])
            drain(worker())
        told.append(chunks)

    docs.export(tmp_path / "docs.jsonl", on_chunks=enqueue_more)
    exported = {(row["document"], row["text"]) for row in rows_of(tmp_path / "docs.jsonl")}
    assert {("d", "same text"), ("e", "same text")} <= exported
    assert "zzz" not in {document for document, _ in exported}
    assert len(told) == 5


def test_only_what_readers_see_is_exported(fleet, worker, tmp_path):
    docs = filled(fleet, worker)
    docs.enqueue([ef.Document("d", "a draft"), ef.Document("new", "not embedded")])
    docs.export(tmp_path / "docs.jsonl")
    texts = {row["document"]: row["text"] for row in rows_of(tmp_path / "docs.jsonl")}
    assert texts["d"] == "same text"
    assert "new" not in texts


class FullDisk:
    """A file that has room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_the_former_export_and_no_half_file(
    form, fleet, worker, tmp_path, monkeypatch
):
    docs = filled(fleet, worker)
    path = tmp_path / f"docs.{form}"
    docs.export(path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    replacing = exports.replacing

    def small(target):
        context = replacing(target)

        class Small:
            def __enter__(self):
                return FullDisk(context.__enter__(), 200)

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Small()

    monkeypatch.setattr(exports, "replacing", small)
    with pytest.raises(ExportFailed, match=r"failed: no space left on device\. No part of it"):
        docs.export(path)
    assert before == {each.name: each.read_bytes() for each in tmp_path.iterdir()}


@pytest.mark.parametrize("form", FORMATS)
def test_an_interrupted_export_leaves_nothing(form, fleet, worker, tmp_path):
    docs = filled(fleet, worker)

    def interrupt(chunks):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        docs.export(tmp_path / f"docs.{form}", on_chunks=interrupt)
    assert [] == list(tmp_path.iterdir())


def test_an_export_that_cannot_be_is_refused_before_anything_is_read(docs, tmp_path):
    for name, reason in [
        ("docs", "one of parquet, npy, csv, jsonl"),
        ("no/docs.csv", "there is no folder"),
        (".", "format is one of"),
    ]:
        with pytest.raises(ExportRefused, match=reason):
            docs.export(tmp_path / name)
    with pytest.raises(ExportRefused, match=r"must end in \.npy"):
        docs.export(tmp_path / "docs.bin", format="npy")


def test_an_empty_collection_goes_out_and_in(docs, tmp_path):
    for form in ("parquet", "npy", "csv", "jsonl"):
        path = tmp_path / f"docs.{form}"
        assert docs.export(path).chunks == 0
    assert np.load(tmp_path / "docs.npy").shape == (0, 16)


CHROMA = {"id": "x1", "document": "a text", "embedding": unit(0), "metadata": {"lang": "en"}}
PINECONE = {"id": "x1", "values": unit(0), "metadata": {"text": "a text", "lang": "en"}}
GENERIC = {"id": "x1", "text": "a text", "embedding": unit(0), "lang": "en"}
PARQUETS = {"chroma": CHROMA, "pinecone": PINECONE | {"metadata": json.dumps(PINECONE["metadata"])}}


@pytest.mark.parametrize("row", [CHROMA, PINECONE, GENERIC])
def test_rows_of_other_databases_are_documents_of_one_chunk(row, docs, tmp_path):
    path = save(tmp_path / "rows.jsonl", [row, row | {"id": "x2"}])
    with pytest.raises(ModelUnstated, match="--model fake/16"):
        docs.import_vectors(path)
    assert docs.import_vectors(path, model=MODEL).enqueued.documents == 2
    hit, _ = docs.search(unit(0), k=5)
    assert ("a text", {"lang": "en"}, 1.0) == (hit.content, hit.metadata, hit.score)
    assert {"x1", "x2"} == {each.document for each in docs.search(unit(0), k=5)}


@pytest.mark.parametrize("kind", PARQUETS)
def test_parquet_of_other_databases_too(kind, docs, tmp_path):
    import pyarrow as pa

    row = PARQUETS[kind]
    table = pa.table({name: [value, value] for name, value in row.items()})
    table = table.set_column(0, "id", pa.array(["x1", "x2"]))
    pq.write_table(table, tmp_path / "rows.parquet")
    done = docs.import_vectors(tmp_path / "rows.parquet", model=MODEL).enqueued
    assert (2, 0) == (done.documents, done.rejected)
    hit, _ = docs.search(unit(0))
    assert ("a text", {"lang": "en"}, 1.0) == (hit.content, hit.metadata, hit.score)


WRONG = {
    "narrow": ([1.0] * 15, "15 dimensions, fake/16 has 16"),
    "wide": ([1.0] * 17, "17 dimensions"),
    "zero": ([0.0] * 16, "is a zero vector"),
    "long": ([1.0] * 16, "is not of unit length"),
    "infinite": ([1e39, *[0.0] * 15], "not finite"),
    "huge": ([10**400, *[0] * 15], "out of range"),
    "words": (["1.0"] * 16, "not a number"),
    "nested": ([[1.0]] * 16, "not a number"),
    "null": (None, "it has no vector"),
    "empty": ([], "the vector is empty"),
    "true": ([True] * 16, "not a number"),
    "an object": ({"0": 1}, "is dict"),
}


def test_what_is_wrong_with_a_vector_is_said_of_its_row_and_the_others_go_on(docs, tmp_path):
    rows = [CHROMA | {"id": name, "embedding": vector} for name, (vector, _) in WRONG.items()]
    path = save(tmp_path / "rows.jsonl", [CHROMA, *rows, CHROMA | {"id": "last"}])
    done = docs.import_vectors(path, model=MODEL).enqueued
    assert (2, len(WRONG)) == (done.documents, done.rejected)
    said = {each.key: each for each in done.rejections}
    for number, (name, (_, reason)) in enumerate(WRONG.items(), 2):
        assert said[name].code == "BAD_VECTOR"
        assert said[name].reason.startswith(f"row {number}: ")
        assert reason in said[name].reason
    assert {"x1", "last"} == {each.document for each in docs.search(unit(0))}
    assert len(WRONG) == len(docs.failures())


def test_nan_is_no_json_and_no_vector_of_parquet(docs, tmp_path):
    import pyarrow as pa

    (tmp_path / "rows.jsonl").write_text('{"id": "n", "text": "t", "embedding": [NaN]}\n')
    done = docs.import_vectors(tmp_path / "rows.jsonl", model=MODEL).enqueued
    assert ["BAD_JSON"] == [each.code for each in done.rejections]
    vectors = [[float("nan"), *unit(1)[1:]], unit(1)]
    table = pa.table({"id": ["n", "ok"], "text": ["t", "u"], "embedding": vectors})
    pq.write_table(table, tmp_path / "rows.parquet")
    done = docs.import_vectors(tmp_path / "rows.parquet", model=MODEL).enqueued
    assert [("n", "BAD_VECTOR")] == [(each.key, each.code) for each in done.rejections]
    assert done.documents == 1


def test_a_document_is_taken_whole_or_not_at_all(fleet, worker, tmp_path):
    docs = filled(fleet, worker)
    docs.export(tmp_path / "docs.jsonl")
    rows = rows_of(tmp_path / "docs.jsonl")
    (place, *_) = [n for n, row in enumerate(rows) if row["document"] == "b/ü.md"]
    copy = fleet.collection("copy", model=MODEL, reuse="none")
    faults = {
        "BAD_VECTOR": {"vector": [0.0] * 16},
        "CHANGED_TEXT": {"text": "another text"},
        "OTHER_MODEL": {"model": "fake/17"},
        "MISSING_TEXT": {"text": ""},
        "BAD_OFFSETS": {"start": -1},
        "BAD_METADATA": {"metadata": "[]"},
    }
    for code, changed in faults.items():
        wrong = [*rows[:place], rows[place] | changed, *rows[place + 1 :]]
        done = copy.import_vectors(save(tmp_path / "wrong.jsonl", wrong)).enqueued
        assert [("b/ü.md", code)] == [(each.key, each.code) for each in done.rejections]
        assert done.rejections[0].reason.startswith(f"row {place + 1}: "), done.rejections
    missing = [*rows[:place], *rows[place + 1 :]]
    done = copy.import_vectors(save(tmp_path / "wrong.jsonl", missing)).enqueued
    assert ["MISSING_CHUNKS"] == [each.code for each in done.rejections]
    apart = [*missing, rows[place]]
    done = copy.import_vectors(save(tmp_path / "wrong.jsonl", apart)).enqueued
    assert {"MISSING_CHUNKS"} == {each.code for each in done.rejections}
    assert {"a.md", "c", "d", "e"} == {each.key for each in copy.documents()}
    done = copy.import_vectors(save(tmp_path / "right.jsonl", rows)).enqueued
    assert (1, 4, 0) == (done.documents, done.unchanged, done.rejected)
    assert found(docs) == found(copy)
    assert [] == copy.failures()


def test_vectors_of_another_model_are_refused(fleet, worker, tmp_path):
    docs = filled(fleet, worker)
    for form in FORMATS:
        docs.export(tmp_path / f"docs.{form}")
    other = fleet.collection("other", model="fake/32")
    halves = fleet.collection("halves", model=MODEL, storage="halfvec", reuse="none")
    for form in FORMATS:
        path = tmp_path / f"docs.{form}"
        done = other.import_vectors(path).enqueued
        assert {"OTHER_MODEL"} == {each.code for each in done.rejections}
        assert "it is of 'fake/16', the collection of fake/32" in done.rejections[0].reason
        with pytest.raises(ModelMismatch):
            other.import_vectors(path, model=MODEL)
        done = halves.import_vectors(path).enqueued
        assert {"OTHER_MODEL"} == {each.code for each in done.rejections}
        assert "name the model with --model" in done.rejections[0].reason
    assert halves.import_vectors(path, model=MODEL).enqueued.documents == 5
    assert other.counts().documents == 0


def test_the_vectors_of_texts_that_wait_come_before_a_worker_does(fleet, worker, tmp_path):
    source = filled(fleet, worker)
    source.export(tmp_path / "docs.jsonl")
    waiting = fleet.collection("waiting", model=MODEL, reuse="none")
    job = waiting.enqueue([ef.Document("mine", "same text"), ef.Document("own", "own text")])
    done = waiting.import_vectors(tmp_path / "docs.jsonl").enqueued
    assert (5, 0) == (done.documents, done.batches)
    live = {each.key for each in waiting.documents() if each.live}
    assert {"a.md", "b/ü.md", "c", "d", "e", "mine"} == live
    drain(worker())
    assert "done" == job.status.state
    assert waiting.audit().clean


def test_an_unchanged_document_that_waits_gets_its_vectors(fleet, worker, tmp_path):
    docs = fleet.collection("docs", model=MODEL)
    docs.enqueue([ef.Document("x1", chunks=["a text"], metadata={"lang": "en"})])
    path = save(tmp_path / "rows.jsonl", [CHROMA])
    done = docs.import_vectors(path, model=MODEL).enqueued
    assert 1 == done.imported
    (hit,) = docs.search(unit(0))
    assert ("x1", 1.0) == (hit.document, hit.score)
    drain(worker())
    assert docs.audit().clean


def test_a_failure_is_cured_by_a_vector(fleet, worker, tmp_path):
    docs = fleet.collection("docs", model=MODEL)
    long = "word " * 3_000
    docs.enqueue([ef.Document("long", chunks=[long, "short"])])
    drain(worker())
    assert ["TOO_LONG"] == [each.code for each in docs.failures()]
    path = save(tmp_path / "rows.jsonl", [{"id": "x", "text": long, "embedding": unit(3)}])
    docs.import_vectors(path, model=MODEL)
    assert [] == docs.failures()
    assert {"x", "long"} == {each.document for each in docs.search(unit(3), k=2)}
    assert docs.audit().clean


def test_a_matrix_and_its_rows_belong_together(fleet, worker, tmp_path):
    docs = filled(fleet, worker)
    docs.export(tmp_path / "docs.npy")
    rows = tmp_path / "docs.jsonl"
    refused = docs.import_vectors(rows).enqueued.rejections
    assert all("import that file" in each.reason for each in refused)
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:-1]))
    with pytest.raises(ImportRefused, match=r"and docs\.jsonl"):
        docs.import_vectors(tmp_path / "docs.npy")
    rows.unlink()
    with pytest.raises(ImportRefused, match=r"rows are to lie in docs\.jsonl"):
        docs.import_vectors(tmp_path / "docs.npy")
    rows.write_text("".join(lines))
    np.save(tmp_path / "docs.npy", np.zeros((len(lines), 16), dtype=object), allow_pickle=True)
    with pytest.raises(ImportRefused, match="it holds object"):
        docs.import_vectors(tmp_path / "docs.npy")
    whole = (tmp_path / "docs.npy").read_bytes()
    (tmp_path / "docs.npy").write_bytes(b"\x93NUMPY" + whole[8:])
    with pytest.raises(ImportRefused, match=r"no \.npy file"):
        docs.import_vectors(tmp_path / "docs.npy")
    with pytest.raises(ImportRefused, match="no such file"):
        docs.import_vectors(tmp_path / "none.npy")


def test_texts_without_vectors_are_no_import(docs, tmp_path):
    for name, content in [
        ("a.md", "a text"),
        ("a.csv", "id,text\n1,a text\n"),
        ("a.jsonl", '{"id": 1, "text": "a text"}\n'),
    ]:
        (tmp_path / name).write_text(content)
        done = docs.import_vectors(tmp_path / name, model=MODEL).enqueued
        assert [(name, "MISSING_VECTOR")] == [(each.key, each.code) for each in done.rejections]
    assert docs.counts().documents == 0


def test_the_commands_say_what_moved(command, fleet, worker, tmp_path):
    filled(fleet, worker)
    path = tmp_path / "docs.parquet"
    assert "docs.parquet: 5 documents" in command("export", "docs", "-o", path).out
    answer = command("import", path, "--collection", "copy", "--model", MODEL)
    assert "5 documents, 0 unchanged" in answer.out
    assert found(fleet.collection("docs")) == found(fleet.collection("copy"))
    answer = command("import", path, "--collection", "copy", "--json")
    assert (5, 0) == (answer.json["unchanged"], answer.json["imported"])
    fleet.collection("other", model="fake/8")
    answer = command("import", path, "--collection", "other")
    assert 1 == answer.code
    assert "OTHER_MODEL" in answer.out
    answer = command("import", path, "--collection", "other", "--model", MODEL)
    assert (2, True) == (answer.code, "cannot be compared" in answer.err)


NUMBERS = {"halffloat": "float16", "float": "float32", "double": "float64", "int8": "int8"}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["list", "large_list", "fixed_size_list"])
def test_parquet_may_hold_vectors_of_any_numbers_in_any_list(number, kind, docs, tmp_path):
    import pyarrow as pa

    of = {
        "list": pa.list_,
        "large_list": pa.large_list,
        "fixed_size_list": lambda each: pa.list_(each, 16),
    }[kind](pa.from_numpy_dtype(NUMBERS[number]))
    vectors = [np.asarray(unit(n), NUMBERS[number]) if n != 1 else None for n in range(4)]
    table = pa.table(
        {
            "id": ["v0", "none", "v2", "v3"],
            "text": ["zero", "one", "two", "three"],
            "embedding": pa.array(vectors, of),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    done = docs.import_vectors(tmp_path / "rows.parquet", model=MODEL).enqueued
    assert [("none", "BAD_VECTOR")] == [(each.key, each.code) for each in done.rejections]
    for n in (0, 2, 3):
        (hit,) = docs.search(unit(n), k=1)
        assert (f"v{n}", 1.0) == (hit.document, hit.score)


def test_two_imports_and_workers_at_once_agree(fleet, worker, tmp_path):
    source = fleet.collection("source", model=MODEL, reuse="none")
    source.enqueue(ef.Document(f"d{n}", chunks=[f"text {n}", f"text {n // 2}"]) for n in range(150))
    drain(worker())
    source.export(tmp_path / "docs.parquet")
    docs = fleet.collection("docs", model=MODEL, reuse="none")
    docs.enqueue(ef.Document(f"own {n}", f"text {n}") for n in range(150))
    workers = [worker() for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        imports = [pool.submit(docs.import_vectors, tmp_path / "docs.parquet") for _ in range(2)]
        drained = [pool.submit(drain, each) for each in workers]
        jobs = [each.result() for each in imports]
        assert all(each.result() is not None for each in drained)
    drain(workers[0])
    assert {0} == {job.enqueued.rejected for job in jobs}
    assert docs.audit().clean
    counts = docs.counts()
    assert (300, 300, 150) == (counts.documents, counts.live_documents, counts.vectors)
    own = docs.search("text 7", k=3, where={"document": {"prefix": "d"}})
    assert [hit.score for hit in source.search("text 7", k=3)] == [hit.score for hit in own]


def test_an_import_that_is_interrupted_leaves_whole_documents(fleet, worker, tmp_path):
    docs = filled(fleet, worker)
    docs.export(tmp_path / "docs.jsonl")
    copy = fleet.collection("copy", model=MODEL, reuse="none")

    def interrupt(counts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy.import_vectors(tmp_path / "docs.jsonl", on_window=interrupt)
    assert "interrupted" == fleet.jobs()[0].status.state
    assert copy.audit().clean
    assert all(each.live for each in copy.documents())
    done = copy.import_vectors(tmp_path / "docs.jsonl").enqueued
    assert (5, 0) == (done.documents + done.unchanged, done.batches)


def test_folders_packed_files_and_tables_with_tabs_are_read_as_by_enqueue(docs, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    save(folder / "a.jsonl", [CHROMA | {"id": "a"}])
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps(CHROMA | {"id": "b"}))
    cells = ["c", "a text", json.dumps(unit(0)), '{"lang": "en"}']
    with (folder / "c.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([["id", "text", "embedding", "metadata"], cells])
    (folder / "d.json").write_text(json.dumps([CHROMA | {"id": "d"}]))
    (folder / "e.txt").write_text("no vector")
    done = docs.import_vectors(folder, model=MODEL).enqueued
    assert [("e.txt", "MISSING_VECTOR")] == [(each.key, each.code) for each in done.rejections]
    hits = docs.search(unit(0))
    assert {"a", "b", "c", "d"} == {hit.document for hit in hits}
    assert [{"lang": "en"}] * 4 == [hit.metadata for hit in hits]


def test_the_same_keys_in_two_collections_of_files_can_be_told_apart(docs, tmp_path):
    path = save(tmp_path / "rows.jsonl", [CHROMA])
    for prefix in ("one/", "two/"):
        options = ef.ReadOptions(key_prefix=prefix, source=prefix)
        docs.import_vectors(path, model=MODEL, options=options)
    assert [("one/x1", "one/"), ("two/x1", "two/")] == [
        (each.key, each.source) for each in docs.documents()
    ]
    changed = save(tmp_path / "rows.jsonl", [CHROMA | {"document": "another"}])
    options = ef.ReadOptions(key_prefix="one/", source="three")
    done = docs.import_vectors(changed, model=MODEL, options=options).enqueued
    assert ["KEY_TAKEN"] == [each.code for each in done.rejections]
    done = docs.import_vectors(changed, model=MODEL, options=options, replace=True).enqueued
    assert 1 == done.documents


def test_the_command_exposes_a_collection_and_takes_it_back(command, docs):
    answer = command("collection", "expose", "docs", "--as", "llamaindex")
    assert (0, "llamaindex may read embedfleet.data_docs\n") == (answer.code, answer.out)
    answer = command("collection", "expose", "docs", "--json")
    assert {"name": "docs", "view": "embedfleet.data_docs"} == answer.json
    answer = command("collection", "expose", "docs", "--remove")
    assert "docs is not exposed any more\n" == answer.out
    answer = command("collection", "expose", "docs", "--remove", "--json")
    assert {"name": "docs", "dropped": False} == answer.json


def test_the_command_says_what_it_wrote_as_json(command, docs, tmp_path):
    answer = command("export", "docs", "--output", tmp_path / "docs", "--format", "csv", "--json")
    assert {"files": [str(tmp_path / "docs")], "documents": 0, "chunks": 0} == answer.json
    answer = command("export", "docs", "-o", tmp_path / "no" / "docs.csv")
    assert (2, True) == (answer.code, "there is no folder" in answer.err)


def test_a_chunk_that_cannot_be_stored_refuses_its_document(docs, tmp_path):
    row = {"document": "a", "position": 0, "text": "fine", "vector": unit(0)}
    rows = [row, row | {"text": "not\0fine"}, row | {"document": "b"}]
    done = docs.import_vectors(save(tmp_path / "rows.jsonl", rows), model=MODEL).enqueued
    assert [("a", "NUL_BYTE")] == [(each.key, each.code) for each in done.rejections]
    assert done.rejections[0].reason.startswith("row 2: ")
    assert ["b"] == [each.key for each in docs.documents()]


def test_a_small_file_with_an_enormous_vector_is_refused_at_its_row(docs, tmp_path):
    import pyarrow as pa

    enormous = np.zeros(20_000_000, dtype=np.float32)
    vectors = pa.array([np.asarray(unit(0), np.float32), enormous], pa.list_(pa.float32()))
    table = pa.table({"id": ["a", "b"], "text": ["one", "two"], "embedding": vectors})
    pq.write_table(table, tmp_path / "rows.parquet", compression="zstd")
    assert (tmp_path / "rows.parquet").stat().st_size < 1_000_000
    done = docs.import_vectors(tmp_path / "rows.parquet", model=MODEL).enqueued
    assert [("b", "BAD_VECTOR")] == [(each.key, each.code) for each in done.rejections]
    assert "more than 16,000 dimensions" in done.rejections[0].reason
    assert 1 == done.documents
