"""Spellings of a key: the same letters, composed or taken apart."""

from unicodedata import normalize

from hypothesis import example, given
from hypothesis import strategies as st

from embedfleet_schema.unicode_forms import composed, unicode_forms


@given(st.text())
@example("Gru\u0308ße und Grüße")
def test_a_text_comes_first_and_each_of_its_spellings_once(text):
    found = unicode_forms(text)
    assert text == found[0]
    assert {text, normalize("NFC", text), normalize("NFD", text)} == set(found)
    assert len(set(found)) == len(found)


@given(st.text())
def test_every_spelling_leads_to_the_composed_one(text):
    assert [composed(text)] == list(dict.fromkeys(map(composed, unicode_forms(text))))


@given(st.text(st.characters(codec="ascii")))
def test_a_text_without_accents_has_one_spelling(text):
    assert (text,) == unicode_forms(text)
