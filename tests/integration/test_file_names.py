"""Files whose names are written in other Unicode forms than their keys in the collection."""

import unicodedata

import pytest

import embedfleet as ef

COMPOSED, APART = (unicodedata.normalize(form, "Grüße.txt") for form in ("NFC", "NFD"))


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


@pytest.mark.parametrize("stored", [COMPOSED, APART])
@pytest.mark.parametrize("typed", [COMPOSED, APART])
def test_a_key_finds_its_document_in_whichever_spelling_it_is_held(docs, stored, typed):
    docs.enqueue([ef.Document(stored, "a text", {"path": stored}), ef.Document("other", "b")])
    found = docs.explain(typed)
    assert ("waiting", stored) == (found.state, found.key)
    assert [stored] == [each.key for each in docs.documents(prefix=typed[:-4])]
    assert 0 == docs.delete_matching(prefix=f"{typed}x")
    assert 1 == docs.delete_matching(prefix=typed[:-4])
    docs.enqueue([ef.Document(stored, "a text", {"path": stored})])
    assert 1 == docs.delete_matching(where={"path": typed})
    docs.enqueue([ef.Document(stored, "a text")])
    assert [stored] == docs.delete([typed, "nowhere", "not\0a key"])


@pytest.mark.parametrize("stored", [COMPOSED, APART])
@pytest.mark.parametrize("typed", [COMPOSED, APART])
def test_a_verdict_is_found_and_forgotten_by_its_key_in_either_spelling(docs, stored, typed):
    docs.enqueue([ef.Document(stored, "")])
    assert ("rejected", stored) == (docs.explain(typed).state, docs.explain(typed).key)
    assert [stored] == docs.delete([typed])
    assert [] == docs.failures()


def test_of_two_keys_that_look_alike_the_one_that_was_typed_is_meant(docs):
    docs.enqueue([ef.Document(APART, "one"), ef.Document(COMPOSED, "two")])
    assert [COMPOSED, APART] == [docs.explain(key).key for key in (COMPOSED, APART)]
    assert [APART] == docs.delete([APART])
    assert [COMPOSED] == [each.key for each in docs.documents()]


def test_a_beginning_means_both_spellings_because_a_folder_may_hold_both(docs):
    docs.enqueue([ef.Document(APART, "one"), ef.Document(COMPOSED, "two")])
    for typed in (COMPOSED, APART):
        assert {COMPOSED, APART} == {each.key for each in docs.documents(prefix=typed)}
    assert 2 == docs.delete_matching(prefix=COMPOSED)


def test_a_percent_sign_begins_only_what_begins_with_it(docs):
    docs.enqueue([ef.Document("%s ü", "one"), ef.Document("as ü", "two")])
    assert ["%s ü"] == [each.key for each in docs.documents(prefix="%s")]
    assert 1 == docs.delete_matching(prefix="%s u\N{COMBINING DIAERESIS}")


@pytest.mark.parametrize("typed", [COMPOSED, APART])
def test_the_commands_take_a_key_in_either_spelling(command, docs, typed):
    docs.enqueue([ef.Document(COMPOSED, "a text")])
    assert 0 == command("explain", "docs", typed).code
    assert COMPOSED in command("documents", "docs", "--prefix", typed, "--json").json[0]["key"]
    deleted = command("delete", "docs", typed, "nowhere")
    assert ("deleted 1 document\n", "not there: nowhere\n") == (deleted.out, deleted.err)
