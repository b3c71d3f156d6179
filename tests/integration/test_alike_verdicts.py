"""A file whose rows are all wrong in the same way: some are listed, all are counted."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedfleet as ef
from embedfleet_producer.verdicts import RepeatedVerdicts

if TYPE_CHECKING:
    from pathlib import Path


MOST = 10


@pytest.fixture(autouse=True)
def _most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfleet_producer.verdicts.MOST_ALIKE", MOST)


@pytest.fixture
def docs(migrated_url: str, redis_url: str):
    """Windows that are smaller than the files."""
    with ef.connect(migrated_url, redis_url, window_documents=7) as fleet:
        yield fleet.collection("docs", model="fake/16")


def listed(docs: ef.Collection) -> dict[str | None, str]:
    return {each.document: each.reason for each in docs.failures()}


def row(number: int, text: str) -> str:
    return f'{{"id": "{number}", "text": "{text}"}}\n'


def test_rows_that_are_wrong_alike_have_an_end_and_a_number(docs: ef.Collection, tmp_path: Path):
    table, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    # The reader refuses empty texts, the producer those that cannot be stored.
    rows = [row(n, "") + row(100 + n, "a\\u0000b") for n in range(25)]
    table.write_text("".join([*rows, row(1_000, "a text"), "no row\n"]))
    other.write_text(row(200, "") * 3)
    job = docs.enqueue(ef.read_paths([table, other]))
    assert (1, 54) == (job.enqueued.documents, job.enqueued.rejected)
    assert 54 == job.status.rejected
    found = listed(docs)
    empty, nul = f"{table}#MISSING_TEXT", f"{table}#NUL_BYTE"
    assert "15 more rows of it have the same fault" == found.pop(empty)
    assert "15 more rows of it have the same fault" == found.pop(nul)
    assert 2 * MOST + 1 + 3 == len(found)
    assert {str(table)} == {each.source for each in docs.failures() if each.document == empty}


def test_what_stands_for_the_others_goes_with_them(docs: ef.Collection, tmp_path: Path):
    table = tmp_path / "a.jsonl"
    for bad in (25, 12, 3):
        table.write_text("".join(row(n, "") for n in range(bad)) + row(100, "a text"))
        assert bad == docs.enqueue(ef.read_paths([table])).enqueued.rejected
        more = [f"{bad - MOST} more rows of it have the same fault"] if bad > MOST else []
        assert more == [each for each in listed(docs).values() if "more rows" in each]
        assert min(bad, MOST) + len(more) == len(docs.failures())


def test_standard_input_has_an_end_too(docs: ef.Collection):
    stream = io.BytesIO((row(0, "a text") + row(1, "") * 30).encode())
    assert 30 == docs.enqueue(ef.read_paths(["-"], stdin=stream)).enqueued.rejected
    assert "20 more rows of it have the same fault" == listed(docs)["stdin#MISSING_TEXT"]


def test_each_document_of_a_program_has_its_verdict(docs: ef.Collection):
    """It knows them by their keys, and its sources are never read to their end."""
    docs.enqueue([ef.Document(f"d{n}", "", source="wiki") for n in range(25)])
    assert 25 == len(listed(docs))


def test_a_window_that_is_written_again_counts_once(docs: ef.Collection, tmp_path: Path):
    alike = RepeatedVerdicts(of_files=True)
    verdicts = [ef.Rejection(f"a#{n}", "EMPTY", "no text", "a") for n in range(MOST + 5)]
    assert alike.cut(verdicts) == alike.cut(verdicts)
    alike.count(verdicts)
    (more,) = alike.cut(verdicts)
    assert ("a#EMPTY", f"{MOST + 10} more rows of it have the same fault") == (
        more.key,
        more.reason,
    )


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=12), max_size=8))
def test_whatever_the_windows_are_no_fault_is_lost(windows: list[list[str]]):
    alike, kept = RepeatedVerdicts(of_files=True), {}
    for number, codes in enumerate(windows):
        verdicts = [ef.Rejection(f"{number}/{n}", code, "bad", "s") for n, code in enumerate(codes)]
        kept |= {each.key: each for each in alike.cut(verdicts)}
        alike.count(verdicts)
    for code in "abc":
        given_codes = sum(codes.count(code) for codes in windows)
        single = [each for each in kept.values() if each.code == code and "more" not in each.reason]
        more = kept.get(f"s#{code}")
        assert min(given_codes, MOST) == len(single)
        assert max(0, given_codes - MOST) == (int(more.reason.split()[0]) if more else 0)
