"""Files that become one document each: plain text, Markdown, HTML, PDF."""

import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet_producer.readers import READERS, ReadReport, read_paths
from embedfleet_producer.readers.formats import guarded
from embedfleet_producer.readers.opening import open_regular
from embedfleet_producer.readers.rejections import Note
from embedfleet_schema.types import Document, Mark, Rejection

MAX_BYTES = 200_000


def read_one(path, data, max_bytes=MAX_BYTES):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    [verdict] = read_paths([path], max_bytes=max_bytes)
    return verdict


def read_here(path, data):
    """The verdict of the reader itself, for many examples: `read_paths` starts a process."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with open_regular(path) as stream:
        found = list(guarded(path.name, READERS[path.suffix](path.name, stream, MAX_BYTES)))
    [verdict] = [each for each in found if not isinstance(each, Note)]
    return verdict


def pdf(text=None, *, info=b"", trailer=b""):
    """The smallest PDF with one page; `text` is shown on it."""
    shown = b"" if text is None else b"BT /F1 12 Tf 72 720 Td (" + text + b") Tj ET"
    content = zlib.compress(shown)
    length = str(len(content)).encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources 7 0 R >>",
        b"<< /Filter /FlateDecode /Length " + length + b" >>\nstream\n" + content + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< " + info + b" >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    written, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        written
        + b"xref\n0 8\n0000000000 65535 f \n"
        + table
        + b"trailer\n<< /Size 8 /Root 1 0 R /Info 6 0 R "
        + trailer
        + b" >>\nstartxref\n%d\n%%%%EOF\n" % len(written)
    )


@pytest.mark.parametrize(
    ("name", "kind", "mode"),
    [
        ("a.txt", "txt", None),
        ("a.md", "md", "markdown"),
        ("a.markdown", "md", "markdown"),
        ("a.rst", "rst", None),
    ],
)
def test_a_text_file_is_one_document_with_its_path_and_type(tmp_path, name, kind, mode):
    expected = Document(name, "# Hé\r\n\ntext\n", {"path": name, "type": kind}, mode=mode)
    assert expected == read_one(tmp_path / name, "# Hé\r\n\ntext\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_is_read_and_its_byte_order_mark_is_not_text(tmp_path, encoding):
    assert "naïve 日本" == read_one(tmp_path / "a.txt", "naïve 日本".encode(encoding)).text


def test_both_byte_orders_of_utf_16_are_read(tmp_path):
    assert "ab" == read_one(tmp_path / "a.txt", b"\xff\xfea\0b\0").text
    assert "ab" == read_one(tmp_path / "a.txt", b"\xfe\xff\0a\0b").text


@pytest.mark.parametrize(
    "data",
    ["café".encode("latin-1"), "text".encode("utf-32"), b"\xff\xfea\0b", b"\xff\xfe\x00\xd8a\x00"],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_other_encodings_are_not_guessed(tmp_path, name, data):
    assert "BAD_ENCODING" == read_one(tmp_path / name, data).code


@pytest.mark.parametrize("name", ["a.txt", "a.rst", "a.html", "a.jsonl", "a.csv"])
def test_binary_data_under_the_name_of_a_text_is_turned_down(tmp_path, name):
    assert "NOT_TEXT" == read_one(tmp_path / name, b"\x7fELF" + b"x" * 8_000 + b"\0\1\2").code


def test_a_nul_far_into_a_text_is_found_as_well(tmp_path):
    assert "NOT_TEXT" == read_one(tmp_path / "a.txt", b"x" * 100_000 + b"\0").code


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.pdf", "a.jsonl", "a.csv", "a.parquet"])
def test_an_empty_file_is_rejected(tmp_path, name):
    assert "EMPTY" == read_one(tmp_path / name, b"").code


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.jsonl", "a.csv"])
def test_a_file_of_white_space_is_empty(tmp_path, name):
    assert "EMPTY" == read_one(tmp_path / name, " \n\n \t\n" if name != "a.csv" else "\n\n").code


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.pdf"])
def test_a_file_is_taken_up_to_the_limit_and_not_beyond(tmp_path, name):
    data = pdf(b"x") if name == "a.pdf" else b"x" * 500
    assert "x" in read_one(tmp_path / name, data, max_bytes=len(data)).text
    rejection = read_one(tmp_path / name, data, max_bytes=len(data) - 1)
    assert "TOO_LARGE" == rejection.code


@given(data=st.binary(max_size=200))
def test_any_bytes_get_one_verdict_that_can_be_stored(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    verdict = read_one(path, data)
    if isinstance(verdict, Document):
        assert "\0" not in verdict.text
        verdict.text.encode()


PAGE = """<!DOCTYPE html>
<html><head><title>A
 title &amp; more</title><style>p { color: red }</style><script>var x = 1 < 2;</script></head>
<body><!-- a comment --><h1>Head</h1><p>One   <b>bold</b>
word.</p><p>Two<br>lines</p><noscript>enable it</noscript><template><p>no</p></template>
<pre>  kept   as
    it is</pre><table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>
<div>out<div>in</div>side</div></body></html>"""


def test_html_gives_its_visible_text_block_by_block(tmp_path):
    document = read_one(tmp_path / "page.htm", PAGE)
    expected = (
        "Head\n\nOne bold word.\n\nTwo\n\nlines\n\n  kept   as\n    it is\n\na b\n\nc\n\n"
        "out\nin\nside"
    )
    assert expected == document.text
    assert {"path": "page.htm", "type": "html", "title": "A title & more"} == document.metadata


def test_html_without_text_is_empty(tmp_path):
    assert "EMPTY" == read_one(tmp_path / "a.html", "<title>T</title><script>1</script>").code


def test_html_that_looks_like_xml_or_a_file_name_is_read_without_a_warning(tmp_path):
    xhtml = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><p>x</p></html>'
    for markup in (xhtml, '<?xml version="1.0"?><feed><p>x</p></feed>'):
        assert "x" == read_here(tmp_path / "a.html", markup).text
    for name in ("page.html", "https://example.org/page"):
        assert name == read_here(tmp_path / "a.html", name).text


def test_html_that_nests_deeper_than_the_stack_is_read(tmp_path):
    assert "x" == read_one(tmp_path / "a.html", "<div>" * 20_000 + "x").text


@given(markup=st.text(alphabet="<>/!-[]&;\"'= \nabp?", max_size=60))
def test_any_markup_gets_one_verdict(tmp_path_factory, markup):
    read_here(tmp_path_factory.getbasetemp() / "any.html", markup)


def test_pdf_gives_its_text_and_title(tmp_path):
    document = read_one(tmp_path / "a.pdf", pdf(b"Hello from a page", info=b"/Title (A  title)"))
    metadata = {"path": "a.pdf", "type": "pdf", "title": "A title"}
    expected = Document("a.pdf", "Hello from a page", metadata, marks=(Mark(0, {"page": 1}),))
    assert expected == document


def noted(path, data):
    """The document of a file, and the codes of what beside its text was not taken."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    report = ReadReport()
    [document] = read_paths([path], max_bytes=MAX_BYTES, report=report)
    return document, [note.code for note in report.notes]


@pytest.mark.parametrize(
    "title", [b"7", b"true", b"[(a) 1]", b"<< /A 1 >>", b"/Name", b"9 0 R", b"2 0 R"]
)
def test_a_pdf_whose_title_is_no_text_is_read_and_the_loss_is_said(tmp_path, title):
    document, codes = noted(tmp_path / "a.pdf", pdf(b"Hello", info=b"/Title " + title))
    assert "Hello" == document.text
    assert codes in ([], ["METADATA_DROPPED"])


@pytest.mark.parametrize("title", [b"(\\000)", b"<FEFFD800>", b"(" + b"x" * 70_000 + b")"])
def test_a_pdf_with_a_strange_title_is_read(tmp_path, title):
    document, _ = noted(tmp_path / "a.pdf", pdf(b"Hello", info=b"/Title " + title))
    assert "Hello" == document.text
    assert len(document.metadata.get("title", "")) <= 1_000


def test_chunks_of_a_pdf_can_carry_the_number_of_their_page(tmp_path):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter()
    for text in (b"First page", None, b"Third page"):
        writer.append(PdfReader(io.BytesIO(pdf(text))))
    writer.write(tmp_path / "a.pdf")
    [document] = read_paths([tmp_path / "a.pdf"])
    assert "First page\n\nThird page" == document.text
    assert (Mark(0, {"page": 1}), Mark(12, {"page": 3})) == document.marks


def test_one_page_that_cannot_be_read_does_not_cost_the_others(tmp_path):
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import NameObject, NumberObject

    writer = PdfWriter()
    for text in (b"First page", b"Second page"):
        writer.append(PdfReader(io.BytesIO(pdf(text))))
    writer.pages[0][NameObject("/Resources")] = NumberObject(7)
    data = io.BytesIO()
    writer.write(data)
    document, codes = noted(tmp_path / "a.pdf", data.getvalue())
    assert "Second page" in document.text
    assert codes in ([], ["PAGE_UNREADABLE"])


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"])
def test_a_pdf_with_an_owner_password_only_is_read(tmp_path, algorithm):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(b"Hello"))))
    writer.encrypt("", "the owner's", algorithm=algorithm)
    writer.write(tmp_path / "a.pdf")
    assert "Hello" == read_one(tmp_path / "a.pdf", (tmp_path / "a.pdf").read_bytes()).text


def test_a_page_with_a_title_that_cannot_be_stored_is_read(tmp_path):
    document, _ = noted(tmp_path / "a.html", f"<title>{'x' * 70_000}</title><p>text")
    assert "text" == document.text
    assert "x" * 1_000 == document.metadata["title"]


def test_a_pdf_without_text_is_empty(tmp_path):
    assert "EMPTY" == read_one(tmp_path / "scan.pdf", pdf()).code


def test_an_encrypted_pdf_is_unreadable_and_says_why(tmp_path):
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "a.pdf")
    rejection = read_one(tmp_path / "a.pdf", (tmp_path / "a.pdf").read_bytes())
    assert "UNREADABLE" == rejection.code
    assert "encrypted" in rejection.reason


@pytest.mark.parametrize("data", [b"not a pdf", b"%PDF-1.4\n", b"\0" * 100])
def test_a_broken_pdf_is_unreadable_with_a_short_reason(tmp_path, data, capfd):
    rejection = read_one(tmp_path / "a.pdf", data)
    assert "UNREADABLE" == rejection.code
    assert len(rejection.reason) < 300
    assert "" == capfd.readouterr().err


# Derandomized: what a parser does with damage should not make a build a matter of luck.
@settings(derandomize=True)
@given(place=st.integers(0, 900), data=st.binary(min_size=1, max_size=8))
def test_a_damaged_pdf_gets_one_verdict(tmp_path_factory, place, data):
    whole = pdf(b"Hello")
    damaged = whole[:place] + data + whole[place + len(data) :]
    read_here(tmp_path_factory.getbasetemp() / "damaged.pdf", damaged)


def test_the_text_of_a_pdf_is_held_to_the_limit_too(tmp_path):
    whole = pdf(b"word " * 2_000)
    rejection = read_one(tmp_path / "a.pdf", whole, max_bytes=len(whole) + 100)
    assert "TOO_LARGE" == rejection.code


@pytest.mark.parametrize(
    ("name", "package"), [("a.html", "bs4"), ("a.pdf", "pypdf"), ("a.parquet", "pyarrow")]
)
def test_a_missing_package_loses_only_the_files_that_need_it(tmp_path, monkeypatch, name, package):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / f"{package}.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path / "path")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(b"x")
    (folder / "b.txt").write_text("text")
    missing, document = read_paths([folder], max_bytes=MAX_BYTES)
    assert Rejection(name, "READER_MISSING", missing.reason) == missing
    assert "pip install 'embedfleet[readers]'" in missing.reason
    assert "text" == document.text
