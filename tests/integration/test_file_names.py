"""Files whose names are written in other Unicode forms than their keys in the collection."""

import unicodedata

import pytest

import embedfleet as ef

COMPOSED, APART = (unicodedata.normalize(form, "Grüße.txt") for form in ("NFC", "NFD"))


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs", model="fake/16")


@pytest.mark.parametrize("stored", [COMPOSED, APART])
@pytest.mark.parametrize("named", [COMPOSED, APART])
def test_a_file_is_found_under_the_key_of_before_in_either_form(docs, tmp_path, stored, named):
    metadata = {"path": stored, "type": "txt"}
    docs.enqueue([ef.Document(stored, "the first text", metadata)])
    (tmp_path / named).write_text("the first text")
    again = docs.enqueue(ef.read_paths([tmp_path])).enqueued
    assert (0, 1) == (again.documents, again.unchanged)
    (tmp_path / named).write_text("the second text")
    planned = docs.plan(ef.read_paths([tmp_path]))
    assert (1, 0) == (planned.documents, planned.unchanged)
    changed = docs.enqueue(ef.read_paths([tmp_path])).enqueued
    assert (1, 0) == (changed.documents, changed.unchanged)
    assert [stored] == docs.delete([COMPOSED, APART])


def test_a_key_of_the_callers_own_is_never_respelled(docs):
    done = docs.enqueue([ef.Document(APART, "one"), ef.Document(COMPOSED, "two")]).enqueued
    assert (2, []) == (done.documents, done.rejections)
