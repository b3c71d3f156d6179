"""What a caller says of files reaches each reader, in whichever process it runs."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedfleet_producer.readers import ReaderLimits, ReadOptions, ReadReport, read_paths
from embedfleet_schema.types import Document, Rejection

ROWS = [{"nr": 1, "absatz": "one", "jahr": 2024}, {"nr": 2, "absatz": "two", "jahr": 2025}]
OPTIONS = ReadOptions(
    text_column="absatz", key_column="nr", metadata_columns=("jahr",), key_prefix="p/"
)


def written(path):
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        case ".json":
            path.write_text(json.dumps(ROWS))
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case suffix:
            between = "\t" if suffix == ".tsv" else ","
            lines = [
                between.join(map(str, row.values())) for row in ({n: n for n in ROWS[0]}, *ROWS)
            ]
            path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl", ".csv", ".tsv"])
def test_rows_of_every_kind_take_the_same_options(tmp_path, suffix):
    path = written(tmp_path / f"t{suffix}")
    report = ReadReport()
    found = list(read_paths([path], options=OPTIONS, report=report))
    assert [("p/1", "one"), ("p/2", "two")] == [(each.key, each.text) for each in found]
    assert ["2024", "2025"] == [str(each.metadata["jahr"]) for each in found]
    assert {str(path)} == {each.source for each in found}
    [shape] = report.shapes
    assert (["absatz"], ["nr"], ["jahr"], 2) == (
        shape.text,
        shape.key,
        shape.metadata,
        shape.documents,
    )


def test_one_json_object_is_called_by_its_file(tmp_path):
    (tmp_path / "a.json").write_text('{"absatz": "one", "jahr": 2024}')
    options = ReadOptions(text_column="absatz", key_prefix="p/", source="wiki")
    [found] = read_paths([tmp_path / "a.json"], options=options)
    assert Document("p/a.json", "one", {"jahr": 2024}) == found
    assert "wiki" == found.source
    (tmp_path / "b.json").write_text('{"anything": "else"}')
    [found] = read_paths([tmp_path / "b.json"], options=ReadOptions(key_prefix="p/"))
    assert ("p/b.json", '{"anything": "else"}') == (found.key, found.text)


def test_an_encoding_is_that_of_a_page_that_another_process_reads(tmp_path):
    path = tmp_path / "a.html.gz"
    path.write_bytes(gzip.compress("<title>Ü</title><p>Grün".encode("cp1252")))
    report = ReadReport()
    options = ReadOptions(encoding="cp1252", key_prefix="p/")
    [found] = read_paths([path], options=options, report=report)
    assert ("p/a.html.gz", "Grün", str(path)) == (found.key, found.text, found.source)
    assert "Ü" == found.metadata["title"]
    [shape] = report.shapes
    assert (["all of it"], ["its name"], 1) == (shape.text, shape.key, shape.documents)


def test_one_report_has_shapes_remarks_notes_and_what_was_left_out(tmp_path):
    written(tmp_path / "t.parquet")
    (tmp_path / "a.md").write_text("---\n- no mapping\n---\ntext")
    (tmp_path / "b.log").write_text("text")
    report = ReadReport()
    options = ReadOptions(text_column="absatz")
    list(read_paths([tmp_path], exclude=["*.log"], options=options, report=report))
    assert {"excluded": 1} == report.left_out
    assert ["BAD_FRONT_MATTER"] == [note.code for note in report.notes]
    assert {"a.md", "t.parquet"} == {shape.name for shape in report.shapes}
    assert any("the key is the row's number, which changes" in each for each in report.remarks)


def test_of_a_file_with_too_many_rows_the_shape_is_told_as_far_as_it_was_read(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": range(600), "text": ["x"] * 600}), path)
    report = ReadReport()
    found = list(read_paths([path], limits=ReaderLimits(max_rows=300), report=report))
    assert (300, "TOO_MANY_ROWS") == (len(found) - 1, found[-1].code)
    assert isinstance(found[-1], Rejection)
    assert str(path) == found[-1].source
    [shape] = report.shapes
    assert (["text"], ["id"]) == (shape.text, shape.key)


def test_a_stream_tells_the_sources_that_it_has_read_to_the_end(tmp_path):
    (tmp_path / "a.csv").write_text("text\none\n")
    (tmp_path / "b.csv").write_text('text\ntwo\n"never closed\n')
    (tmp_path / "c.txt").write_text("text")
    stream = read_paths([tmp_path])
    assert [] == stream.take_ended()
    assert "a.csv#2" == next(stream).key
    assert [] == stream.take_ended()
    assert "b.csv#2" == next(stream).key
    assert [str(tmp_path / "a.csv")] == stream.take_ended()
    assert ["BAD_CSV", "text"] == [getattr(each, "code", "text") for each in stream]
    assert [str(tmp_path / "c.txt"), str(tmp_path)] == stream.take_ended()
