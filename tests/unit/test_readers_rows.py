"""What becomes of a row: no value vanishes and no row loses its key without a word."""

import csv
import io
import json
from datetime import date
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_producer.readers import ReadOptions, ReadReport, read_paths
from embedfleet_producer.readers.columns import unique_names
from embedfleet_producer.validation import Validated, validate
from embedfleet_schema.errors import BadReadOption
from embedfleet_schema.types import Document, Rejection

MAX_BYTES = 1_000_000


class Found:
    """The verdicts on a file and what is said of it."""

    def __init__(self, path, **options):
        report = ReadReport()
        self.verdicts = list(
            read_paths([path], max_bytes=MAX_BYTES, options=ReadOptions(**options), report=report)
        )
        self.lines = report.lines

    @property
    def keys(self):
        return [verdict.key for verdict in self.verdicts]

    @property
    def codes(self):
        return [getattr(verdict, "code", "taken") for verdict in self.verdicts]

    @property
    def metadata(self):
        return [verdict.metadata for verdict in self.verdicts]

    @property
    def texts(self):
        return [verdict.text for verdict in self.verdicts]

    @property
    def said(self):
        return "\n".join(self.lines)


@pytest.fixture
def table(tmp_path):
    def write(data, name="t.csv", **options):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return Found(path, **options)

    return write


@pytest.fixture
def jsonl(table):
    def write(*rows, **options):
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        return table("\n".join(lines), "t.jsonl", **options)

    return write


@pytest.fixture
def parquet(tmp_path):
    def write(columns, **options):
        made = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(made, tmp_path / "t.parquet")
        return Found(tmp_path / "t.parquet", **options)

    return write


# Keys


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("a", "a"),
        (" a ", " a "),
        ("1", "1"),
        ("1.0", "1.0"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (12345678901234567890, "12345678901234567890"),
        ({"$oid": "507f1f77bcf86cd799439011"}, "507f1f77bcf86cd799439011"),
    ],
)
def test_the_same_number_is_one_key_however_it_is_written(jsonl, value, key):
    assert [key] == jsonl({"id": value, "text": "t"}).keys


@pytest.mark.parametrize("value", [True, ["x"], {}, {"a": 1}, 1e300, 2.0**53 + 2])
def test_a_value_that_identifies_nothing_is_no_key_and_said_so(jsonl, value):
    found = jsonl({"id": value, "text": "t"})
    assert ["BAD_KEY"] == found.codes
    assert "id is not a key" in found.verdicts[0].reason


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        (pa.array([1.0, 2.0]), ["1", "2"]),
        (pa.array([Decimal(7), Decimal(8)], pa.decimal128(10, 0)), ["7", "8"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array([date(2024, 1, 2), date(2024, 1, 3)]), ["2024-01-02", "2024-01-03"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([2**63, 2**64 - 1], pa.uint64()), ["9223372036854775808", f"{2**64 - 1}"]),
    ],
)
def test_a_parquet_key_of_any_type_is_kept(parquet, column, keys):
    assert keys == parquet({"id": column, "text": ["a", "b"]}).keys


def test_bytes_that_are_no_text_are_no_key(parquet):
    found = parquet({"id": [b"\xff\xfe", b"ok"], "text": ["a", "b"]})
    assert ["BAD_KEY", "taken"] == found.codes


def test_rows_whose_key_is_empty_are_called_by_number_and_that_is_said_once(jsonl):
    rows = [{"id": None, "text": "t"}, {"id": "", "text": "t"}, {"id": "x", "text": "t"}]
    found = jsonl(*rows)
    assert ["t.jsonl#1", "t.jsonl#2", "x"] == found.keys
    assert "id is empty: the key is the row's number (2 rows)" in found.said


def test_a_missing_number_in_a_column_of_ids_leaves_the_others_whole(parquet):
    found = parquet({"id": [1.0, float("nan"), 3.0], "text": ["a", "b", "c"]})
    assert ["1", "t.parquet#2", "3"] == found.keys


@pytest.mark.parametrize("name", ["_id", "id_", "doc_id", "docid", "uuid", "pk", "ID", " Id "])
def test_common_names_of_keys_are_known(jsonl, name):
    found = jsonl({name: "d1", "title": "T", "text": "t"})
    assert (["d1"], [{"title": "T"}]) == (found.keys, found.metadata)
    assert f"t.jsonl: text <- text, key <- {name}, metadata <- title" == found.lines[0]


def test_of_two_keys_the_first_by_preference_is_taken_and_that_is_said(jsonl):
    found = jsonl({"uuid": "u", "id": 1, "text": "t"})
    assert (["1"], [{"uuid": "u"}]) == (found.keys, found.metadata)
    assert "id is the key, not uuid; to change it: --key-column" in found.said
    assert ["u"] == jsonl({"uuid": "u", "id": 1, "text": "t"}, key_column="uuid").keys


def test_a_key_column_that_was_named_is_never_replaced_by_a_number(jsonl):
    rows = [{"k": "a", "text": "t"}, {"k": None, "text": "t"}, {"id": 1, "text": "t"}]
    assert ["taken", "BAD_KEY", "BAD_KEY"] == jsonl(*rows, key_column="k").codes


# Columns that are missing


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_missing_column_is_one_error_per_file_with_what_was_meant(jsonl, table, kind):
    if kind == "jsonl":
        found = jsonl(*({"title": "a", "txt": "b"} for _ in range(5_000)))
    else:
        found = table("title,txt\n" + "a,b\n" * 5_000)
    [verdict] = found.verdicts
    assert "MISSING_TEXT" == verdict.code
    for word in ("title, txt", "Did you mean txt?", "--text-column txt"):
        assert word in verdict.reason


def test_options_that_name_a_column_that_is_not_there_say_what_is_near(table):
    data = "article,Body\na,b\n"
    [verdict] = table(data, key_column="artikel").verdicts
    assert ("t.csv", "MISSING_KEY") == (verdict.key, verdict.code)
    assert "--key-column article" in verdict.reason
    [verdict] = table(data, text_column="boddy").verdicts
    assert ("MISSING_TEXT", True) == (verdict.code, "--text-column Body" in verdict.reason)
    assert (
        "there is no column urll for the metadata" in table(data, metadata_columns=("urll",)).said
    )


def test_rows_before_the_first_with_the_column_get_their_own_verdicts(jsonl):
    found = jsonl({"version": 1}, {"text": "a"}, {"version": 2})
    assert ["MISSING_TEXT", "taken", "MISSING_TEXT"] == found.codes
    assert ["t.jsonl#1", "t.jsonl#2", "t.jsonl#3"] == found.keys


def test_a_header_with_another_delimiter_is_told_which(table):
    [verdict] = table("id;text\n1;a\n").verdicts
    assert "--delimiter ';'" in verdict.reason
    assert [("1", "a")] == [
        (d.key, d.text) for d in table("id;text\n1;a\n", delimiter=";").verdicts
    ]


def test_columns_are_chosen_by_option(table):
    found = table(
        "nr,para,lang,url\n7,hello,en,http\n",
        text_column="para",
        key_column="nr",
        metadata_columns=("lang",),
    )
    assert [Document("7", "hello", {"lang": "en"})] == found.verdicts
    assert ["t.csv: text <- para, key <- nr, metadata <- lang"] == found.lines


# Headers and cells


def test_columns_of_one_name_and_of_none_keep_their_values(table):
    found = table("id,text,tag,tag,\n1,t,a,b,c\n")
    assert [{"tag": "a", "tag_2": "b", "column_5": "c"}] == found.metadata
    assert "a second column 'tag': it is called tag_2" in found.said
    assert "column 5 has no name: it is called column_5" in found.said


@pytest.mark.parametrize("header", ["id,text,text", "id,id,text"])
def test_two_columns_that_could_be_the_text_or_the_key_are_refused(table, header):
    assert ["DUPLICATE_COLUMN"] == table(f"{header}\n1,2,3\n").codes


@given(names=st.lists(st.sampled_from(["a", "a_2", "b", "", " ", "column_1"]), max_size=8))
def test_names_become_unique_and_the_first_of_each_stays(names):
    unique, said = unique_names(names)
    assert len(names) == len(set(unique))
    assert all(name.strip() for name in unique)
    changed = [name for name, new in zip(names, unique, strict=True) if name != new]
    assert len(changed) == len(said)


def test_parquet_columns_of_one_name_keep_their_values(parquet):
    arrays = [pa.array(["t"]), pa.array(["a"]), pa.array(["b"])]
    found = parquet(pa.Table.from_arrays(arrays, names=["text", "tag", "tag"]))
    assert [{"tag": "a", "tag_2": "b"}] == found.metadata


def test_parquet_columns_with_dots_in_their_names_are_columns(parquet):
    columns = {"text": ["t"], "a": [1], "a.b": [2], "text.x": [3], "s": [{"x": 4}]}
    assert [{"a": 1, "a.b": 2, "text.x": 3, "s": {"x": 4}}] == parquet(columns).metadata
    assert [{"a": 1}] == parquet(columns, metadata_columns=("a",)).metadata


def test_short_rows_are_counted_and_empty_cells_beyond_the_header_are_nothing(table):
    found = table("id,text,n\n1,a\n2,b,3,,\n3,c,4,5\n")
    assert ["taken", "taken", "BAD_CSV"] == found.codes
    assert [{}, {"n": "3"}] == [found.verdicts[0].metadata, found.verdicts[1].metadata]
    assert "fewer cells than the header has (1 row)" in found.said


def test_quotes_that_would_get_lost_are_a_verdict_on_their_row_alone(table):
    found = table('id,text\n1,"Hello" he said\n2,fine\n3,"a ""b"" c"\n')
    assert ["BAD_CSV", "taken", "taken"] == found.codes
    assert 'a "b" c' == found.verdicts[2].text


def test_a_wrong_quote_after_a_line_end_leaves_the_next_row_in_doubt(table):
    found = table('id,text\n1,a\n2,"two\nlines" and more\n3,b\n')
    assert ["taken", "BAD_CSV"] == found.codes
    assert "line 3" in found.verdicts[1].reason


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5))
def test_what_a_csv_writer_writes_is_what_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "a", "b"), *((f"t{t}", a, b) for t, a, b in rows)])
    found = Found(path)
    assert [f"t{text}" for text, _, _ in rows] == found.texts
    kept = [{n: v for n, v in (("a", a), ("b", b)) if v != ""} for _, a, b in rows]
    assert kept == found.metadata


@pytest.mark.parametrize("cell", ["007", "1e5", "true", "1.50", "9" * 40, "0x10", "-0", "NaN"])
def test_a_cell_of_csv_stays_the_text_that_it_is(table, cell):
    assert [{"n": cell}] == table(f"text,n\nt,{cell}\n").metadata


# Values


def test_lists_and_objects_are_metadata(jsonl):
    row = {"text": "t", "tags": ["a", 1, None], "author": {"name": "x", "n": [1]}, "e": [], "o": {}}
    assert [{name: row[name] for name in ("tags", "author", "e", "o")}] == jsonl(row).metadata


def test_a_name_that_comes_twice_in_an_object_is_a_verdict(jsonl):
    found = jsonl('{"text": "t", "a": 1, "a": 2}', '{"text": "t", "o": {"b": 1, "b": 2}}')
    assert ["BAD_JSON", "BAD_JSON"] == found.codes


def test_numbers_of_any_size_are_what_they_were(jsonl):
    row = {"text": "t", "big": 2**70, "small": -(2**63), "f": 0.1, "e": 1e300}
    assert [{name: row[name] for name in ("big", "small", "f", "e")}] == jsonl(row).metadata


def test_parquet_values_become_json(parquet):
    columns = {
        "text": ["t"],
        "when": pa.array([1_700_000_000_000_000_001], pa.timestamp("ns")),
        "far": pa.array([400_000_000_000], pa.timestamp("s")),
        "price": [Decimal("1.50")],
        "big": pa.array([2**64 - 1], pa.uint64()),
        "tags": [["a", "b"]],
        "point": [{"x": 1.5, "on": date(2024, 1, 2)}],
        "names": pa.array([[("a", 1), ("b", 2)]], pa.map_(pa.string(), pa.int64())),
        "twice": pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
        "yes": [True],
    }
    expected = {
        "when": "2023-11-14T22:13:20.000000001",
        "far": "14645-06-30T15:06:40",
        "price": "1.50",
        "big": 2**64 - 1,
        "tags": ["a", "b"],
        "point": {"x": 1.5, "on": "2024-01-02"},
        "names": {"a": 1, "b": 2},
        "twice": [["a", 1], ["a", 2]],
        "yes": True,
    }
    assert [expected] == parquet(columns).metadata


def test_what_cannot_be_kept_is_said_once_with_its_number(parquet):
    raw = pa.array([b"fine", b"caf\xe9", b"fine"])
    columns = {
        "text": ["a", "b", "c"],
        "score": [float("nan"), float("inf"), 0.5],
        "blob": [b"x", b"y", b"z"],
        "vector": [[0.1] * 384, [0.2] * 384, None],
        "note": pa.Array.from_buffers(pa.string(), 3, raw.buffers()),
    }
    found = parquet(columns)
    assert [{"note": "fine"}, {}, {"score": 0.5, "note": "fine"}] == found.metadata
    assert "score is left out, or a part of it: not a finite number (2 rows)" in found.said
    assert "vector is left out, a vector of numbers; --metadata-columns keeps it (2 rows)" in (
        found.said
    )
    assert "blob is left out, it holds bytes" in found.said
    assert "note is left out" in found.said
    chosen = parquet(columns, metadata_columns=("blob", "vector")).metadata
    assert [{"blob": "x", "vector": [0.1] * 384}] == chosen[:1]


@pytest.mark.parametrize(
    "value",
    [list(range(101)), "x" * 70_000, ["x" * 70_000], "a\0b", [json.loads("[" * 40 + "]" * 40)]],
)
def test_an_accessory_that_cannot_be_stored_never_costs_the_text(jsonl, value):
    found = jsonl({"text": "t", "a": 1, "extra": value})
    [metadata] = found.metadata
    assert 1 == metadata.pop("a")
    assert metadata.keys() <= {"extra"}
    assert "extra is left out" in found.said
    assert isinstance(validate(found.verdicts[0], max_bytes=MAX_BYTES), Validated)


def test_a_column_that_the_metadata_object_hides_is_told(jsonl):
    found = jsonl({"text": "t", "a": 1, "b": 2, "metadata": {"a": 3, "b": 2}})
    assert [{"a": 3, "b": 2}] == found.metadata
    assert "a is left out: the metadata object has another a (1 row)" in found.said


def test_a_title_beside_the_text_is_said_not_to_be_embedded(jsonl):
    assert "title is metadata: it is not embedded" in jsonl({"title": "T", "text": "t"}).said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(row=st.dictionaries(st.sampled_from(["id", "a", "b", "metadata"]), json_values))
def test_every_value_of_a_row_is_kept_or_told_of(tmp_path_factory, row):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(json.dumps(row | {"text": "t"}))
    found = Found(path)
    [verdict] = found.verdicts
    if isinstance(verdict, Rejection):
        assert verdict.reason
        return
    given = row.get("metadata")
    inner = given if isinstance(given, dict) else {}
    kept = verdict.metadata
    for name, value in ({} if inner else row).items():
        if name == "id" or value in (None, "") or (name == "metadata" and value == {}):
            continue
        assert (name in kept and kept[name] == value) or f"{name} is left out" in found.said
    for name, value in inner.items():
        assert kept[name] == value or "is left out" in found.said


# Encodings


@pytest.mark.parametrize(
    ("encoding", "option"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("cp1252", "cp1252"),
        ("latin-1", "iso-8859-1"),
        ("utf-16-le", "utf-16-le"),
        ("utf-32", "utf-32"),
        ("utf-8-sig", "utf-8"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.txt"])
def test_an_encoding_is_seen_or_named(table, encoding, option, name):
    line = {"t.csv": "id,text\r\nk,café\r\n", "t.txt": "café"}.get(name)
    data = line or '{"id": "k", "text": "café"}\n'
    found = table(data.encode(encoding), name, encoding=option)
    assert ["café"] == found.texts
    assert ["t.txt" if name == "t.txt" else "k"] == found.keys


def test_a_byte_that_the_encoding_does_not_have_is_the_fault_of_its_row(table):
    data = b"id,text\n1,caf\xe9\n2,\x81\n3,z\n"
    assert ["taken", "BAD_ENCODING", "taken"] == table(data, encoding="cp1252").codes
    found = table(data)
    assert ["BAD_ENCODING", "BAD_ENCODING", "taken"] == found.codes
    assert "--encoding" in found.verdicts[0].reason
    assert "the text is not cp1252" == table(data, encoding="cp1252").verdicts[1].reason


def test_an_encoding_is_of_standard_input_too():
    stream = io.BytesIO("é".encode("cp1252"))
    [document] = read_paths(["-"], stdin=stream, options=ReadOptions(encoding="cp1252"))
    assert "é" == document.text


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ""},
        {"delimiter": ";;"},
        {"delimiter": '"'},
        {"encoding": "no-such"},
        {"encoding": "base64"},
        {"encoding": ""},
        {"text_column": ""},
        {"key": ""},
        {"source": ""},
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(options):
    with pytest.raises(BadReadOption):
        ReadOptions(**options)


@pytest.mark.parametrize("written", ["\t", "\\t", "tab"])
def test_a_tabulator_may_be_written(table, written):
    assert ["a"] == table("id\ttext\n1\ta\n", delimiter=written).texts
    assert ["a"] == table("id\ttext\n1\ta\n", "t.tsv").texts


# Keys and sources


def test_a_document_has_its_file_as_source_and_a_prefix_before_its_key(tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("id,text\n1,a\n,\n")
    (tmp_path / "a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    found = Found("rows.csv", key_prefix="p/")
    assert (["p/1", "p/rows.csv#3"], str(tmp_path / "rows.csv")) == (
        found.keys,
        found.verdicts[0].source,
    )
    [document] = Found("../" + tmp_path.name + "/a.txt", source="wiki").verdicts
    assert ("a.txt", "wiki") == (document.key, document.source)
    assert str(tmp_path / "a.txt") == Found("./a.txt").verdicts[0].source


def test_standard_input_has_a_key_and_a_source_of_its_own():
    def read(data, **options):
        stream = io.BytesIO(data)
        [document] = read_paths(["-"], stdin=stream, options=ReadOptions(**options))
        return document.key, document.source

    assert ("stdin", "stdin") == read(b"text")
    assert ("notes", "stdin") == read(b"text", key="notes")
    assert ("notes", "wiki") == read(b"text", key="notes", source="wiki")
    assert ("notes#1", "stdin") == read(b'{"text": "t"}\n', key="notes")
    assert ("1", "stdin") == read(b'{"para": "t", "id": 1}\n', text_column="para")


def test_standard_input_is_csv_where_a_delimiter_is_named():
    def read(data, **options):
        return list(read_paths(["-"], stdin=io.BytesIO(data), options=ReadOptions(**options)))

    rows = b"id;text\r\n1;a\r\n2;b\r\n"
    assert ["1", "2"] == [document.key for document in read(rows, delimiter=";")]
    [refused] = read(rows, text_column="text")
    assert ("stdin", "BAD_JSON", True) == (
        refused.key,
        refused.code,
        "--delimiter" in refused.reason,
    )


def test_a_key_for_standard_input_that_is_not_read_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(BadReadOption, match="standard input"):
        read_paths([tmp_path], options=ReadOptions(key="x"))


def test_files_that_are_alike_are_told_of_in_one_line(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": 1, "text": "t", "url": "u"}\n')
    (tmp_path / "d.md").write_text("# text")
    lines = Found(tmp_path).lines
    assert "3 files like a.jsonl: text <- text, key <- id, metadata <- url" == lines[0]
    assert "d.md: text <- all of it, key <- its name, metadata <- path, type" == lines[1]


def test_uuids_of_arrow_are_keys(parquet):
    value = UUID(int=7)
    storage = pa.array([value.bytes], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), storage)
    assert [str(value)] == parquet({"id": column, "text": ["t"]}).keys
