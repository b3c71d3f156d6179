"""One rule for values: whatever a reader stores is found by the filter that asks for it."""

import csv
import datetime as dt
import json
from decimal import Decimal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from embedfleet.cli.parameters import parse_where
from embedfleet_producer.readers import read_paths
from embedfleet_producer.validation import validate
from embedfleet_schema.store.filters import condition

# The database is the same for all examples, and nothing is written there.
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
# A process is started for the files of each example: many files in few of them.
several_files = settings(many, max_examples=10)
FILES = {"min_size": 20, "max_size": 45}
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
looks_like_json = st.sampled_from(
    [
        "12",
        "007",
        "1.50",
        "1e5",
        "true",
        "null",
        "[1, 2]",
        '"12"',
        '""',
        "{}",
        "-0",
        " 12",
        "1E400",
        '"\\u0000"',
        '"\\ud800"',
        "[" * 99 + "]" * 99,
    ]
)


@pytest.fixture
def holds(migrated_url):
    """Whether a condition holds for metadata as it is stored."""
    with psycopg.connect(migrated_url, autocommit=True, prepare_threshold=None) as connection:

        def ask(metadata, where):
            row = sql.SQL("SELECT {} FROM (SELECT %s::jsonb) AS t (metadata)")
            query = row.format(condition(connection, where))
            return connection.execute(query, (metadata,)).fetchone()[0]

        yield ask


@pytest.fixture
def matches(holds):
    """Whether a condition holds for the metadata of the one document of a file."""

    def ask(path, where):
        [metadata] = read([path])
        return holds(metadata, where)

    return ask


def read(paths):
    """The metadata of files of one document, as it is stored; one process reads all Parquet."""
    return [validate(document, max_bytes=1_000_000).metadata for document in read_paths(paths)]


def csv_file(folder, cell, stem="t"):
    path = folder / f"{stem}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "x"], ["t", cell]])
    return path


def jsonl_file(folder, value, stem="t"):
    path = folder / f"{stem}.jsonl"
    path.write_text(json.dumps({"text": "t", "x": value}))
    return path


def parquet_file(folder, value, kind=None, stem="t"):
    path = folder / f"{stem}.parquet"
    pq.write_table(pa.table({"text": ["t"], "x": pa.array([value], kind)}), path)
    return path


@many
@given(cell=texts | looks_like_json)
@example("9" * 400)
def test_a_cell_of_csv_is_found_by_what_stands_in_it(matches, tmp_path_factory, cell):
    path = csv_file(tmp_path_factory.getbasetemp(), cell)
    assert matches(path, parse_where([f"x={cell}"]))
    assert matches(path, {"x": cell})


@many
@given(value=values | looks_like_json)
def test_a_value_of_json_lines_is_found_by_itself(matches, tmp_path_factory, value):
    path = jsonl_file(tmp_path_factory.getbasetemp(), value)
    word = value if isinstance(value, str) else json.dumps(value)
    assert matches(path, parse_where([f"x={word}"]))
    # An object would be taken for operators.
    assert matches(path, {"x": {"contains": value} if isinstance(value, dict) else value})


cells_of_parquet = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | texts
    | looks_like_json
    | st.dates()
    | st.datetimes()
    | st.decimals(-(10**9), 10**9, places=2)
    | st.lists(st.integers(-5, 5), max_size=3)
)


def word_of(value):
    """As a person writes it."""
    if isinstance(value, dt.date):
        return value.isoformat()
    return json.dumps(value) if isinstance(value, bool | list) else str(value)


@several_files
@given(cells=st.lists(cells_of_parquet, **FILES))
def test_a_value_of_parquet_is_found_by_itself(holds, tmp_path_factory, cells):
    folder = tmp_path_factory.getbasetemp()
    files = [parquet_file(folder, cell, stem=f"t{n}") for n, cell in enumerate(cells)]
    for cell, metadata in zip(cells, read(files), strict=True):
        assert holds(metadata, {"x": cell})
        assert holds(metadata, parse_where([f"x={word_of(cell)}"]))


@several_files
@given(found=st.lists(numbers, **FILES))
def test_a_number_is_found_alike_wherever_it_was_read(holds, tmp_path_factory, found):
    folder = tmp_path_factory.getbasetemp()
    files = []
    for n, number in enumerate(found):
        kind = pa.float64() if isinstance(number, float) else None
        written = [
            csv_file(folder, json.dumps(number), f"t{n}"),
            jsonl_file(folder, number, f"t{n}"),
        ]
        if isinstance(number, float) or abs(number) < 2**63:
            written.append(parquet_file(folder, number, kind, f"t{n}"))
        files += [(number, path) for path in written]
    for (number, path), metadata in zip(files, read([path for _, path in files]), strict=True):
        assert holds(metadata, {"x": number}), path
        assert holds(metadata, parse_where([f"x={json.dumps(number)}"])), path


def test_a_text_that_is_asked_for_is_no_number(matches, tmp_path):
    assert not matches(jsonl_file(tmp_path, 12), {"x": "12"})
    assert not matches(csv_file(tmp_path, "007"), {"x": 7})
    assert matches(parquet_file(tmp_path, Decimal("1.50")), parse_where(["x=1.50"]))
