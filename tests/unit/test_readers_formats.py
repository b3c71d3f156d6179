"""Word files, notebooks, JSON, TSV, source code, front matter, and all of them packed."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_producer.readers import ReaderLimits, ReadReport, read_paths
from embedfleet_producer.readers.front_matter import BadFrontMatter, split_front_matter
from embedfleet_producer.readers.json_structure import elements
from embedfleet_schema.types import Document, Rejection
from plugins.office_files import docx, heading_style, notebook, paragraph, part

MAX_BYTES = 1_000_000


def read(path, data=None, **options):
    if data is not None:
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_paths([path], max_bytes=MAX_BYTES, **options))


def noted(path, data=None):
    report = ReadReport()
    [document] = read(path, data, report=report)
    return document, [note.code for note in report.notes]


# Word


def test_a_word_file_is_markdown_with_headings_lists_tables_and_its_title(tmp_path):
    styles = heading_style("Kop1", 1) + (
        '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="Kop1"/></w:style>'
    )
    body = (
        paragraph("A title", '<w:pStyle w:val="Kop1"/>')
        + paragraph("Mine too", '<w:pStyle w:val="Mine"/>')
        + paragraph("Outlined", '<w:outlineLvl w:val="2"/>')
        + "<w:p><w:r><w:t>Two </w:t></w:r><w:r><w:t>runs</w:t><w:br/><w:t>and a line</w:t></w:r>"
        + "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        + paragraph("one", '<w:numPr><w:numId w:val="1"/></w:numPr>')
        + f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr></w:tbl>"
    )
    core = '<c xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title> The  title</dc:title></c>'
    notes = part("footnotes", paragraph("a footnote"))
    path = docx(
        tmp_path / "a.docx",
        body,
        word__styles=part("styles", styles),
        word__footnotes=notes,
        docProps__core=core,
    )
    expected = (
        "# A title\n\n# Mine too\n\n### Outlined\n\nTwo runs\nand a line\n\n- one\n| a | b |\n"
        "a footnote"
    )
    metadata = {"path": "a.docx", "type": "docx", "title": "The title"}
    assert [Document("a.docx", expected, metadata, mode="markdown")] == read(path)


def test_a_word_file_is_found_by_its_relationships(tmp_path):
    target = '<R><Relationship Type="x/officeDocument" Target="word/other.xml"/></R>'
    path = docx(tmp_path / "a.docx", "", word__other=part("document", paragraph("here")))
    import zipfile

    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("_rels/.rels", target)
    assert "here" == read(path)[0].text


@pytest.mark.parametrize("name", ["docProps__core", "word__styles", "word__footnotes"])
def test_a_part_of_a_word_file_that_is_damaged_does_not_cost_its_text(tmp_path, name):
    path = docx(tmp_path / "a.docx", paragraph("text"), **{name: "<not xml"})
    document, codes = noted(path)
    assert ("text", ["METADATA_DROPPED"]) == (document.text, codes)


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "EMPTY"), (b"PK\3\4 no", "UNREADABLE"), (b"\xd0\xcf\x11\xe0 old", "UNREADABLE")],
)
def test_what_is_no_word_file_is_turned_down(tmp_path, data, code):
    assert [code] == [verdict.code for verdict in read(tmp_path / "a.docx", data)]


def test_a_word_file_may_declare_no_entities(tmp_path):
    path = docx(tmp_path / "a.docx", paragraph("x"))
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "word/document.xml", '<!DOCTYPE d [<!ENTITY a "aaaa">]><d><t>&a;&a;</t></d>'
        )
    [rejection] = read(path)
    assert "UNREADABLE" == rejection.code
    assert "entities" in rejection.reason


# Notebooks


def test_a_notebook_is_its_markdown_and_its_code(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb",
        ("markdown", ["# Head\n", "text"]),
        ("code", "print(1)\n"),
        ("code", ""),
        ("raw", "as it is"),
        language_info={"name": "julia"},
        title="A title",
    )
    expected = "# Head\ntext\n\n```julia\nprint(1)\n```\n\nas it is"
    metadata = {"path": "a.ipynb", "type": "ipynb", "title": "A title"}
    assert [Document("a.ipynb", expected, metadata, mode="markdown")] == read(path)


def test_a_cell_without_text_and_a_title_that_is_none_do_not_cost_the_others(tmp_path):
    path = notebook(tmp_path / "a.ipynb", ("code", {"a": 1}), ("markdown", "text"), title=[7])
    document, codes = noted(path)
    assert ("text", ["CELL_UNREADABLE", "METADATA_DROPPED"]) == (document.text, codes)


@pytest.mark.parametrize("data", ["[]", "{}", '{"cells": 1}', "no"])
def test_what_is_no_notebook_is_turned_down(tmp_path, data):
    assert ["BAD_JSON"] == [verdict.code for verdict in read(tmp_path / "a.ipynb", data)]


# JSON


def test_an_array_of_objects_is_rows(tmp_path):
    data = '\n [ {"id": 1, "text": "a, \\"b\\" [c]"},\n{"text": "d"} , 7]\n'
    first, second, third = read(tmp_path / "a.json", data)
    assert ("1", 'a, "b" [c]') == (first.key, first.text)
    assert ("a.json#2", "d") == (second.key, second.text)
    assert ("a.json#3", "BAD_JSON") == (third.key, third.code)


def test_one_object_with_a_text_is_a_document_called_by_its_key_or_the_file(tmp_path):
    assert [Document("a.json", "x", {"n": 1})] == read(tmp_path / "a.json", '{"text":"x","n":1}')
    assert ["k"] == [row.key for row in read(tmp_path / "a.json", '{"text":"x","key":"k"}')]


def test_another_object_is_the_text_that_it_is(tmp_path):
    [document] = read(tmp_path / "package.json", '{"name": "x"}\n')
    assert ('{"name": "x"}\n', "text") == (document.text, document.mode)


def test_rows_of_json_lines_are_read_under_the_name_of_json(tmp_path):
    found = read(tmp_path / "a.json", '{"text":"a"}\n{"text":"b"}\n')
    assert [("a.json#1", "a"), ("a.json#2", "b")] == [(row.key, row.text) for row in found]


@pytest.mark.parametrize(
    "data", ["[", '[{"text": "a"}', '[{"text": "a"}] x', "[1}", "{", "nothing", '{"a": 1} x']
)
def test_json_that_is_broken_ends_in_a_verdict(tmp_path, data):
    assert "BAD_JSON" == read(tmp_path / "a.json", data)[-1].code


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    items=st.lists(values, max_size=6), size=st.integers(1, 9), indent=st.sampled_from([None, 1])
)
def test_the_elements_of_an_array_are_found_wherever_it_is_cut(items, size, indent):
    text = json.dumps(items, indent=indent)
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    assert items == [json.loads(element) for element in elements(pieces, 1_000)]


def test_an_element_over_the_limit_costs_itself_alone(tmp_path):
    data = json.dumps([{"text": "a"}, {"text": "x" * MAX_BYTES}, {"text": "z"}])
    first, second, third = read(tmp_path / "a.json", data)
    assert ("a", "TOO_LARGE", "z") == (first.text, second.code, third.text)


# Tables, source code


def test_cells_between_tabs_are_rows(tmp_path):
    [row] = read(tmp_path / "a.tsv", "id\ttext\tn\nk\ta, b\t1\n")
    assert ("k", "a, b") == (row.key, row.text)


@pytest.mark.parametrize("name", ["a.py", "A.PY", "b.rs", "c.yaml", "d.ts", "e.sql", "f.toml"])
def test_source_code_is_taken_as_text_and_never_as_markdown(tmp_path, name):
    kind = name.rpartition(".")[2].lower()
    expected = Document(name, "# a\n", {"path": name, "type": kind}, mode="text")
    assert [expected] == read(tmp_path / name, "# a\n")


def test_more_rows_than_the_limit_are_not_taken(tmp_path):
    found = read(tmp_path / "a.jsonl", '{"text":"a"}\n' * 5, limits=ReaderLimits(max_rows=3))
    assert ["a", "a", "a"] == [row.text for row in found[:3]]
    assert [("a.jsonl", "TOO_MANY_ROWS")] == [(row.key, row.code) for row in found[3:]]


# Front matter


def test_front_matter_is_metadata_and_no_part_of_the_text(tmp_path):
    block = (
        "title: A page\ntags: [a, 'b']\ndate: 2026-01-31\nat: 12:30\ndraft: no\non: true\n"
        "n: 7\nx: 1.5"
    )
    document, codes = noted(tmp_path / "a.md", f"---\n{block}\nempty:\n---\n# Head\n")
    assert ("# Head\n", []) == (document.text, codes)
    assert {
        "path": "a.md",
        "type": "md",
        "title": "A page",
        "tags": ["a", "b"],
        "date": "2026-01-31",
        "at": "12:30",
        "draft": "no",
        "on": True,
        "n": 7,
        "x": 1.5,
        "empty": None,
    } == document.metadata


@pytest.mark.parametrize(
    "block",
    [
        "a: [",
        "a: &x [1]\nb: *x",
        "!!python/object/apply:os.system ['true']",
        "a: !secret x",
        "- a\n- b",
        "just words",
        "a: " + "[" * 50 + "]" * 50,
        "? [a]\n: b",
        "a: \x07",
    ],
)
def test_front_matter_that_is_none_is_taken_as_text_and_said(tmp_path, block):
    whole = f"---\n{block}\n...\ntext\n"
    document, codes = noted(tmp_path / "a.md", whole)
    assert (whole, ["BAD_FRONT_MATTER"]) == (document.text, codes)


TOO_MUCH = f"{'é' * 20_000}\nz: {'é' * 20_000}"


@pytest.mark.parametrize("value", ['"\\ud800"', TOO_MUCH])
def test_front_matter_that_cannot_be_stored_does_not_cost_the_text(tmp_path, value):
    document, codes = noted(tmp_path / "a.md", f"---\na: {value}\nb: 1\n---\ntext")
    assert ("text", ["METADATA_DROPPED"]) == (document.text, codes)


@pytest.mark.parametrize("text", ["---\n", "--- \ntext", "----\na: 1\n---\n", " ---\na: 1\n---\nx"])
def test_a_rule_is_no_front_matter(text):
    assert ({}, text) == split_front_matter(text)


@given(block=st.text(alphabet="a:-[]{}&*!|>'\"#%@,? \n0.", max_size=60))
def test_any_front_matter_is_metadata_or_stays_text(block):
    whole = f"---\n{block}\n---\ntext"
    try:
        metadata, text = split_front_matter(whole)
    except BadFrontMatter:
        return
    assert whole.endswith(text)
    json.dumps(metadata, allow_nan=False)


# Packed


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.jsonl", "a.csv", "a.json", "a.py", "README"])
def test_what_is_packed_is_read_as_what_it_was(tmp_path, name):
    data = {"a.jsonl": b'{"text":"x"}', "a.csv": b"text\nx", "a.json": b'[{"text":"x"}]'}
    [verdict] = read(tmp_path / f"{name}.gz", gzip.compress(data.get(name, b"x")))
    assert "x" == verdict.text
    assert verdict.key.startswith(f"{name}.gz")


def test_what_is_packed_and_read_in_a_process_is_read_too(tmp_path):
    (tmp_path / "a.html.gz").write_bytes(gzip.compress(b"<p>page"))
    pq.write_table(pa.table({"text": ["row"]}), tmp_path / "b.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "b.parquet").read_bytes()))
    (tmp_path / "b.parquet").unlink()
    assert ["page", "row"] == [document.text for document in read(tmp_path)]


@pytest.mark.parametrize(
    "data",
    [b"", b"not gzip", gzip.compress(b"x" * 10_000)[:-9], gzip.compress(b"x" * 99) + b"!"],
    ids=["empty", "other", "cut off", "longer"],
)
def test_a_damaged_packed_file_is_a_verdict(tmp_path, data):
    [rejection] = read(tmp_path / "a.txt.gz", data)
    assert isinstance(rejection, Rejection)
    assert rejection.code in {"EMPTY", "UNREADABLE"}


def test_a_packed_file_of_an_unknown_kind_is_told_by_both_suffixes(tmp_path):
    (tmp_path / "folder").mkdir()
    read(tmp_path / "folder/a.tar.gz", gzip.compress(b"x"))
    assert ["*.tar.gz"] == [verdict.key for verdict in read(tmp_path / "folder")]
