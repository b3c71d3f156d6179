"""Rows from the command line: columns by option, what became of them, whose key it is."""

import json

import pytest

import embedfleet as ef
from embedfleet.cli.stack import _is_served
from plugins.fleets import ask, drain
from plugins.worker_processes import eventually


@pytest.fixture
def corpus(tmp_path):
    """Rows as BEIR publishes them."""
    path = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}", "url": "u"} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("words", [["enqueue"], ["plan"]])
def test_one_line_tells_what_became_text_key_and_metadata(command, handbook, corpus, words):
    said = command(*words, handbook, corpus)
    assert 0 == said.code
    assert "corpus.jsonl: text <- text, key <- _id, metadata <- title, url\n" in said.err
    assert "title is metadata: it is not embedded with the text" in said.err
    shown = command(*words, handbook, corpus, "--json").json
    read = (shown if isinstance(shown, dict) else shown[0])["read"]
    [shape] = read["shapes"]
    assert (["text"], ["_id"], ["title", "url"], 3) == (
        shape["text"],
        shape["key"],
        shape["metadata"],
        shape["documents"],
    )
    assert any("title" in each for each in read["remarks"])


def test_columns_are_chosen_by_option(command, fleet, handbook, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("nr;absatz;jahr;ort\n7;Grün;2024;x\n".encode("cp1252"))
    options = ["--delimiter", ";", "--encoding", "cp1252", "--metadata-columns", "jahr"]
    columns = ["--text-column", "absatz", "--key-column", "nr", "--key-prefix", "p/"]
    done = command("enqueue", handbook, path, *options, *columns, "--source", "wiki", "--json")
    assert (0, 1) == (done.code, done.json["documents"])
    [row] = ask(
        fleet,
        "SELECT d.key, d.source, t.content, c.metadata FROM embedfleet._documents_1 AS d "
        "JOIN embedfleet._chunks_1 AS c ON c.document_id = d.id "
        "JOIN embedfleet._texts_1 AS t ON t.id = c.text_id",
    )
    assert ("p/7", "wiki", "Grün", {"jahr": "2024"}) == row
    assert 1 == command("plan", handbook, path, *options, *columns, "--json").json[0]["unchanged"]


def test_a_column_that_is_missing_is_one_error_with_the_option_to_set(command, handbook, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"title": "a", "txt": "b"}\n' * 3_000)
    failed = command("enqueue", handbook, path)
    assert 1 == failed.code
    assert "MISSING_TEXT: 1\n" in failed.out
    assert "Did you mean txt?" in failed.out
    assert "--text-column txt" in failed.out
    assert 0 == command("enqueue", handbook, path, "--text-column", "txt").code


def test_wrong_options_are_wrong_use(command, handbook, corpus):
    for words in (["--encoding", "nonsense"], ["--delimiter", ";;"], ["--key", "x"]):
        refused = command("enqueue", handbook, corpus, *words)
        assert 2 == refused.code
        assert "cannot be" in refused.err


def test_a_key_of_another_file_is_kept_and_both_ways_out_are_said(command, handbook, tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,one\n")
    (tmp_path / "b.csv").write_text("id,text\n1,two\n")
    both = command("enqueue", handbook, tmp_path)
    assert 0 == both.code
    for words in ("DUPLICATE_KEY", f"{tmp_path}/a.csv, row 2", f"{tmp_path}/b.csv, row 2"):
        assert words in both.out
    refused = command("enqueue", handbook, tmp_path / "b.csv")
    assert 1 == refused.code
    assert "KEY_TAKEN" in refused.out
    assert 0 == command("enqueue", handbook, tmp_path / "b.csv", "--key-prefix", "b/").code
    assert 0 == command("enqueue", handbook, tmp_path / "b.csv", "--replace").code
    shown = command("documents", handbook, "--json").json
    assert [("1", f"{tmp_path}/b.csv"), ("b/1", f"{tmp_path}/b.csv")] == [
        (each["key"], each["source"]) for each in shown
    ]


def test_documents_are_listed_by_key(command, fleet, embedded, folder):
    fleet.collection(embedded).enqueue([ef.Document("z", "Not embedded yet.")])
    shown = command("documents", embedded, "--json").json
    assert ["a.txt", "b.txt", "c.md", "z"] == [each["key"] for each in shown]
    assert [True, True, True, False] == [each["live"] for each in shown]
    assert [str(folder / "a.txt"), None] == [shown[0]["source"], shown[3]["source"]]
    assert [1, 1, 1, 1] == [each["chunks"] for each in shown]
    assert ["c.md"] == [
        each["key"] for each in command("documents", embedded, "--prefix", "c", "--json").json
    ]
    few = command("documents", embedded, "--limit", 2)
    assert "b.txt" in few.out
    assert "c.md" not in few.out
    assert "--limit" in few.err
    nothing = command("documents", embedded, "--prefix", "%")
    assert ("", 0) == (nothing.out, nothing.code)
    assert "No documents in handbook whose key starts with %" in nothing.err


def test_any_number_of_documents_is_listed_page_by_page(fleet, monkeypatch):
    monkeypatch.setattr("embedfleet_schema.store.documents.PAGE", 4)
    docs = fleet.collection("docs", model="fake/16")
    keys = [f"k{n}" for n in range(12)] + ["Ä", "a", "B", "_", "k 1", "-k"]
    docs.enqueue(ef.Document(key, f"text of {key}") for key in keys)
    listed = [each.key for each in docs.documents()]
    assert sorted(keys) == sorted(listed)
    assert sorted(key for key in keys if key.startswith("k")) == sorted(
        each.key for each in docs.documents(prefix="k")
    )


def test_explain_and_failures_say_where_a_document_comes_from(command, failed, folder):
    assert f"It comes from {folder / 'd.txt'}." in command("explain", failed, "d.txt").out
    [failure] = command("failures", failed, "--json").json
    assert str(folder / "d.txt") == failure["source"]
    assert str(folder / "d.txt") in command("failures", failed).out


def test_what_another_collection_has_is_said_to_be_reused(command, embedded, folder):
    assert 0 == command("collection", "create", "second", "--model", "fake/32").code
    (folder / "new.txt").write_text("A text that nobody has.")
    plan = command("plan", "second", folder, "--json").json[0]
    assert (3, 1) == (plan["elsewhere"], plan["to_embed"])
    done = command("enqueue", "second", folder)
    assert "4 chunks, 3 reused (3 from another collection)" in done.out
    again = command("enqueue", embedded, folder, "--json").json
    assert (0, 0) == (again["reused"], again["elsewhere"])


def test_a_collection_may_keep_to_itself(command, embedded, folder):
    create = ("collection", "create", "own", "--model", "fake/32", "--reuse")
    assert 0 == command(*create, "none").code
    plan = command("plan", "own", folder, "--json").json[0]
    assert (0, 3) == (plan["elsewhere"], plan["to_embed"])
    assert 0 == command("enqueue", "own", folder, "--json").json["elsewhere"]
    assert 2 == command(*create, "some").code


def test_a_collection_that_is_dropped_meanwhile_is_reused_from_no_more(fleet, worker):
    first = fleet.collection("first", model="fake/16")
    first.enqueue([ef.Document("1", "text")])
    drain(worker())
    second = fleet.collection("second", model="fake/16")
    first.drop()
    assert 0 == second.enqueue([ef.Document("1", "text")]).enqueued.elsewhere


def test_a_worker_that_runs_is_not_asked_for(command, handbook, corpus, embedding):
    said = command("enqueue", handbook, corpus)
    assert "Start one" not in said.err
    assert "Follow it" in said.err


def test_a_worker_of_the_queue_is_seen_and_one_of_none_is_not(fleet, worker):
    assert not _is_served(fleet.settings)
    worker()
    eventually(lambda: _is_served(fleet.settings))
