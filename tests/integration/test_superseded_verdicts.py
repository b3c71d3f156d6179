"""Verdicts on what a source no longer holds go when it is read again to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import embedfleet as ef

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.command_line import Command

BAD = "id,text\n1,one\n2,\n3,\n"
BETTER = "id,text\n1,one\n2,two\n3,\n"


def places(docs: ef.Collection) -> list[str | None]:
    return sorted(each.document or "" for each in docs.failures())


def test_a_row_that_is_mended_or_gone_loses_its_verdict(docs: ef.Collection, tmp_path: Path):
    table, other = tmp_path / "a.csv", tmp_path / "b.csv"
    table.write_text(BAD)
    other.write_text(BAD)
    docs.enqueue(ef.read_paths([table]))
    docs.enqueue(ef.read_paths([other], options=ef.ReadOptions(key_prefix="b/")))
    others = ["b/b.csv#3", "b/b.csv#4"]
    assert ["a.csv#3", "a.csv#4", *others] == places(docs)
    assert {str(table), str(other)} == {each.source for each in docs.failures()}

    table.write_text(BETTER)
    docs.enqueue(ef.read_paths([table]))
    assert ["a.csv#4", *others] == places(docs)

    table.write_text("id,text\n1,one\n")
    docs.enqueue(ef.read_paths([table]))
    assert others == places(docs)


def test_a_table_without_rows_has_none_that_is_wrong(docs: ef.Collection, tmp_path: Path):
    table = tmp_path / "a.csv"
    table.write_text(BAD)
    docs.enqueue(ef.read_paths([table]))
    table.write_text("id,text\n")
    docs.enqueue(ef.read_paths([table]))
    assert ["a.csv"] == places(docs)


def test_what_was_not_read_to_the_end_keeps_its_verdicts(docs: ef.Collection, tmp_path: Path):
    table = tmp_path / "a.csv"
    table.write_text(BAD)
    docs.enqueue(ef.read_paths([table]))
    table.write_text('id,text\n1,one\n4,"never closed\n')
    docs.enqueue(ef.read_paths([table]))
    assert ["a.csv", "a.csv#3", "a.csv#4"] == places(docs)


def test_an_interrupted_read_removes_nothing(docs: ef.Collection, tmp_path: Path):
    table = tmp_path / "a.csv"
    table.write_text(BAD)
    docs.enqueue(ef.read_paths([table]))
    table.write_text(BETTER)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        docs.enqueue(ef.read_paths([table]), on_window=interrupt)
    assert ["a.csv#3", "a.csv#4"] == places(docs)


def test_documents_of_a_program_keep_the_verdicts_of_their_source(docs: ef.Collection):
    docs.enqueue([ef.Document("a", "", source="wiki"), ef.Document("b", "text", source="wiki")])
    docs.enqueue([ef.Document("b", "changed", source="wiki")])
    assert ["a"] == places(docs)


def test_a_folder_forgets_what_was_taken_out_of_it(command: Command, handbook: str, tmp_path: Path):
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a.txt").write_text("text")
    (root / "x.png").write_bytes(b"\0")
    command("enqueue", handbook, root)
    assert ["*.png"] == [each["document"] for each in command("failures", handbook, "--json").json]
    (root / "x.png").unlink()
    command("enqueue", handbook, root)
    assert [] == command("failures", handbook, "--json").json


@pytest.mark.parametrize("source", ["a\0b", "\ud800", "", "x" * 5_000])
def test_a_verdict_is_kept_whatever_its_source_is_called(docs: ef.Collection, source: str):
    docs.enqueue([ef.Rejection("a", "EMPTY", "nothing in it", source), ef.Document("b", "text")])
    assert ["a"] == places(docs)


NAMED = ef.ReadOptions(source="wiki")


def test_a_verdict_under_a_named_source_goes_with_what_was_wrong(
    docs: ef.Collection, tmp_path: Path
):
    """Whoever found it: the reader an empty text, the producer one that cannot be stored."""
    table, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    bad = '{"id": "1", "text": "a\\u0000b"}\n{"id": "2", "text": "two"}\n{"id": "3", "text": ""}\n'
    table.write_text(bad)
    other.write_text(bad.replace('": "', '": "b'))
    docs.enqueue(ef.read_paths([table], options=NAMED))
    docs.enqueue(ef.read_paths([other], options=NAMED))
    assert {"1": str(table), "a.jsonl#3": str(table), "b1": str(other)} == {
        each.document: each.source for each in docs.failures()
    }
    assert {"wiki"} == {each.source for each in docs.documents()}

    table.write_text('{"id": "2", "text": "two"}\n')
    docs.enqueue(ef.read_paths([table], options=NAMED))
    assert ["b1"] == places(docs)


def test_verdicts_of_all_kinds_go_with_what_was_wrong(docs: ef.Collection, tmp_path: Path):
    docs.enqueue([ef.Document("taken", "mine", source="elsewhere")])
    table = tmp_path / "a.jsonl"
    rows = [("taken", "another"), ("twice", "one"), ("twice", "two"), ("k" * 600, "long")]
    table.write_text("".join(f'{{"id": "{key}", "text": "{text}"}}\n' for key, text in rows))

    def cut(text: str) -> list[str]:
        if text == "one":
            raise ValueError
        return [text]

    docs.enqueue(ef.read_paths([table], options=NAMED), chunk=cut)
    found = {each.code: each.source for each in docs.failures()}
    kinds = ["KEY_TAKEN", "KEY_TOO_LONG", "CHUNKER_FAILED"]
    assert dict.fromkeys(kinds, str(table)) == found
    table.write_text('{"id": "new", "text": "new"}\n')
    docs.enqueue(ef.read_paths([table], options=NAMED), chunk=cut)
    assert [] == places(docs)


def test_a_duplicate_under_a_named_source_goes_with_its_file(docs: ef.Collection, tmp_path: Path):
    table = tmp_path / "a.jsonl"
    table.write_text('{"id": "1", "text": "one"}\n{"id": "1", "text": "two"}\n')
    docs.enqueue(ef.read_paths([table], options=NAMED))
    assert ["DUPLICATE_KEY"] == [each.code for each in docs.failures()]
    table.write_text('{"id": "2", "text": "two"}\n')
    docs.enqueue(ef.read_paths([table], options=NAMED))
    assert [] == places(docs)
