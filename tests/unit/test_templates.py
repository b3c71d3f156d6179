"""What is embedded before a content: the template's words, from metadata and nothing else."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_producer.templates import Template
from embedfleet_schema.embedded_text import embedded_text, text_digest, text_hash
from embedfleet_schema.errors import BadChunking

# As validation lets them through: no NUL and no half of a pair.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
PAGE = "{title}\n{headings}\n\n{content}"


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_two_contents_in_contexts_never_have_one_address(context, content, other, other_content):
    pairs = [(context, content), (other, other_content)]
    assert (pairs[0] == pairs[1]) == (
        text_digest(content, context) == text_digest(other_content, other)
    )


@given(TEXTS, TEXTS, st.integers(0, 40))
def test_what_reads_alike_cut_elsewhere_has_another_address(context, content, place):
    joined = context + content
    other = joined[:place], joined[place:]
    same = other == (context, content)
    assert same == (text_hash(other[1], other[0]) == text_hash(content, context))
    if context:
        assert text_hash(joined) != text_hash(content, context)
        assert text_hash(f"\0{len(context.encode())}:{joined}") == text_hash(content, context)


def test_a_content_without_a_context_keeps_the_address_that_it_had():
    """SHA-256 of "text", its first half."""
    assert "982d9e3eb996f559e633f4d194def376" == text_hash("text").hex()
    assert text_hash("text") == text_hash("text", None) == text_hash("text", "")


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (None, "text"),
        ("", "text"),
        ("Title", "Title\n\ntext"),
        ("Title\n", "Title\ntext"),
        ("Title: ", "Title: text"),
    ],
)
def test_an_empty_line_stands_before_a_content_unless_its_context_ends_with_white_space(
    context, expected
):
    assert expected == embedded_text("text", context)


@pytest.mark.parametrize(
    ("template", "metadata", "expected"),
    [
        (PAGE, {"title": "T", "headings": ["A", "B"]}, "T\nA > B\n\n"),
        (PAGE, {"title": "T"}, "T\n\n"),
        (PAGE, {"headings": ["A"]}, "A\n\n"),
        (PAGE, {"title": "", "headings": []}, None),
        ("title: {title} | text: {content}", {"title": "T"}, "title: T | text: "),
        ("title: {title} | text: {content}", {}, "title:  | text: "),
        ("Tags: {tags}\nOf {key}\n{content}", {}, "Of k\n"),
        ("Tags: {tags}\n{content}", {"tags": ["a", 1, None, True]}, "Tags: a, 1, true\n"),
        ("{year} {price} {open}\n{content}", {"year": 2020.0, "price": 1.5}, "2020 1.5 \n"),
        (
            "{author name} {x-y} {o}\n{content}",
            {"author name": "N", "o": {"b": 1, "a": "ä"}},
            'N  {"a": "ä", "b": 1}\n',
        ),
        ("{{literal}} {title}\n{content}", {"title": "{content}"}, "{literal} {content}\n"),
        ("{content}", {"title": "T"}, None),
        ("", {"title": "T"}, None),
        ("{key}\n{content}", {"key": "of the metadata"}, "k\n"),
    ],
)
def test_a_template_is_filled_and_a_line_of_empty_fields_is_left_out(template, metadata, expected):
    assert expected == Template(template).context("k", metadata)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{title}", "holds {content} once, at its end"),
        ("{content} {content}", "holds {content} once, at its end"),
        ("{content} of {title}", "holds {content} once, at its end"),
        ("{title.__class__} {content}", "{title.__class__} is no field"),
        ("{title[0]} {content}", "{title[0]} is no field"),
        ("{title!r} {content}", "{title!r} is no field"),
        ("{title:>9} {content}", "{title:>9} is no field"),
        ("{title:{width}} {content}", "{title:{width}} is no field"),
        ("{} {content}", "{} is no field"),
        ("{ title} {content}", "{ title} is no field"),
        ("{title {content}", "is written twice"),
        ("title} {content}", "is written twice"),
        ("\0{content}", "holds a NUL"),
        ("\udc80{content}", "half of a surrogate pair"),
        ("x" * 4_000 + "{content}", "at most 4,000 characters"),
    ],
)
def test_what_is_no_template_is_refused_in_one_line(template, reason):
    with pytest.raises(BadChunking) as refused:
        Template(template)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.dictionaries(st.sampled_from(["title", "headings", "tags"]), VALUES))
def test_any_metadata_makes_a_context_and_again_what_postgresql_gives_back(metadata):
    template = Template("{title} {key}\n{headings}\n{tags}\n\n{content}")
    context = template.context("k", metadata)
    assert context == template.context("k", json.loads(json.dumps(metadata)))
    assert context is None or context == context.lstrip()


@given(st.text(st.sampled_from(string.ascii_letters + "{}.[]!:\n _content"), max_size=30))
def test_any_text_is_a_template_or_is_refused(text):
    try:
        template = Template(text)
    except BadChunking:
        return
    assert embedded_text("what is read", template.context("k", {})).endswith("what is read")
