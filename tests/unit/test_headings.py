import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from embedfleet_producer.headings import LONGEST_HEADING, heading_marks

LINES = [
    "# One",
    "## Two ##",
    "### Three #x",
    "   # Indented",
    "    # Code",
    "\t# Code",
    "####### Seven",
    "#Tag",
    "#",
    "words",
    "more words",
    "===",
    "---",
    " --- ",
    "- - -",
    "***",
    "```",
    "````sh",
    "~~~",
    "``` a`b",
    "- item",
    "1. item",
    "> quote",
    "<div>",
    "</div>",
    "<!-- open",
    "close -->",
    "<!-- one line -->",
    '<a name="x"></a>',
    "<b>",
    "<pre>",
    "</pre>",
    "",
    "",
]
CODE = {"    # Code", "\t# Code"}
ITEMS = {"- item", "1. item"}
NEWLINES = st.sampled_from(["\n", "\r\n"])


def paths(text: str) -> list[tuple[int, list[str]]]:
    return [(mark.start, mark.metadata["headings"]) for mark in heading_marks(text)]


def is_plain(lines: list[str]) -> bool:
    """Whether no line is indented within a list, where it is anybody's guess what that means."""
    return CODE.isdisjoint(lines) or ITEMS.isdisjoint(lines)


def of_commonmark(text: str) -> list[int]:
    """The lines at which an implementation of CommonMark sees a heading that is in nothing else."""
    tokens = MarkdownIt("commonmark").parse(text)
    return [each.map[0] for each in tokens if each.type == "heading_open" and each.level == 0]


@settings(max_examples=1_000)
@given(st.lists(st.sampled_from(LINES), max_size=12).filter(is_plain), NEWLINES)
@example(["- item", "words", "---"], "\n")
@example(["<b>", "# One"], "\n")
@example(["words", "<b>", "# One"], "\n")
def test_headings_are_those_of_commonmark(lines, newline):
    # What begins with a rule could be front matter, which CommonMark does not know.
    text = newline.join(["", *lines])
    starts = [0]
    for line in ["", *lines]:
        starts.append(starts[-1] + len(line) + len(newline))

    assert [starts[line] for line in of_commonmark(text)] == [start for start, _ in paths(text)]


@settings(max_examples=300)
@given(st.text())
def test_any_text_has_marks_in_order_that_lie_in_it(text):
    starts = [start for start, _ in paths(text)]
    assert starts == sorted(set(starts))
    assert all(0 <= start < len(text) for start in starts)


def test_a_path_holds_the_headings_above():
    text = "intro\n# A\n## B\n### C ###\n## D\n# `E` *f*\n### G"

    assert [["A"], ["A", "B"], ["A", "B", "C"], ["A", "D"], ["`E` *f*"], ["`E` *f*", "G"]] == [
        path for _, path in paths(text)
    ]


def test_underlined_paragraphs_are_headings_from_their_first_line():
    text = "x\n\nMain\ntitle\n=====\n\nPart\n---\n"

    assert [(3, ["Main title"]), (21, ["Main title", "Part"])] == paths(text)


@pytest.mark.parametrize(
    "code",
    ["```sh\n# no\n```\n", "~~~\n# no\n```\n# no\n~~~\n", "    # no\n", "```\n# no"],
)
def test_a_comment_in_code_is_no_heading(code):
    assert [(0, ["Yes"])] == paths(f"# Yes\n\n{code}")


@pytest.mark.parametrize("end", ["---", "..."])
def test_front_matter_is_no_heading(end):
    text = f"---\ntitle: x\n{end}\n# Yes\n"

    assert [(text.index("#"), ["Yes"])] == paths(text)


def test_a_heading_without_a_title_ends_the_deeper_ones():
    assert [["A"], ["A", "B"], ["A"], ["A", "C"]] == [
        path for _, path in paths("# A\n## B\n##\n### C")
    ]


def test_an_endless_heading_is_shortened():
    assert [(0, ["x" * LONGEST_HEADING])] == paths("# " + "x" * 100_000)
