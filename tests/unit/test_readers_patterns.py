"""Which files --include and --exclude choose."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedfleet_producer.readers import ReadReport, read_paths
from embedfleet_producer.readers.patterns import Patterns
from embedfleet_schema.errors import BadPattern, InputMissing

FILES = ("a.md", "b.log", "docs/a.md", "docs/deep/c.md", "docs/deep/d.log", "build/e.md")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    return tmp_path


def chosen(folder, **patterns):
    return [each.key for each in read_paths([folder], **patterns)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.md", {"a.md", "docs/a.md", "docs/deep/c.md", "build/e.md"}),
        ("a.md", {"a.md", "docs/a.md"}),
        ("/a.md", {"a.md"}),
        ("./a.md", {"a.md", "docs/a.md"}),
        ("docs", {"docs/a.md", "docs/deep/c.md", "docs/deep/d.log"}),
        ("deep/", {"docs/deep/c.md", "docs/deep/d.log"}),
        ("docs/*.md", {"docs/a.md"}),
        ("docs/**/*.md", {"docs/a.md", "docs/deep/c.md"}),
        ("**/deep/*.log", {"docs/deep/d.log"}),
        ("docs/**", {"docs/a.md", "docs/deep/c.md", "docs/deep/d.log"}),
        ("[a-c].*", {"a.md", "b.log", "docs/a.md", "docs/deep/c.md"}),
        ("?.log", {"b.log", "docs/deep/d.log"}),
        ("[!a-c].md", {"build/e.md"}),
    ],
)
def test_a_pattern_includes_and_excludes_the_same_files(folder, pattern, expected):
    assert expected == set(chosen(folder, include=[pattern]))
    assert set(FILES) - expected == set(chosen(folder, exclude=[pattern]))


def test_exclude_wins_and_patterns_add_up(folder):
    expected = ["build/e.md", "docs/a.md"]
    patterns = {"include": ["*.md", "*.log"], "exclude": ["deep/", "/a.md", "b.*"]}
    assert expected == chosen(folder, **patterns)


def test_what_is_left_out_is_counted(folder):
    (folder / ".hidden").write_text("x")
    report = ReadReport()
    list(read_paths([folder], include=["*.md"], exclude=["build/"], report=report))
    assert Counter({"not included": 2, "excluded": 1, "hidden": 1}) == report.left_out


def test_patterns_that_leave_nothing_are_wrong_use(folder):
    with pytest.raises(InputMissing, match="no file in it matches"):
        read_paths([folder], include=["*.xyz"])


@pytest.mark.parametrize("pattern", ["", "/", "[z-a]"])
def test_a_pattern_that_cannot_be_is_wrong_use(folder, pattern):
    with pytest.raises(BadPattern):
        read_paths([folder], exclude=[pattern])


@given(pattern=st.text(alphabet="ab*?[]!^-\\/.({+|$&~", min_size=1, max_size=12))
@example("[[]")
@example("[a--b]")
@example("[a&&b]")
@example("[a~~|b]")
def test_any_pattern_is_used_or_told(pattern):
    try:
        patterns = Patterns.of([pattern])
    except BadPattern:
        return
    patterns.match_any(("a", "b", "a.b"))


@given(name=st.text(alphabet="ab().+$^{}|é", min_size=1, max_size=8))
def test_a_name_matches_itself_whatever_signs_are_in_it(name):
    assert Patterns.of([name]).match_any(("folder", name))
