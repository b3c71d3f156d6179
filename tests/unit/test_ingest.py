"""The rows of a window and the columns that COPY puts them in."""

import re

import pytest

from embedfleet_schema.statements import load
from embedfleet_schema.store.ingest import ChunkRow, DocumentRow, VerdictRow

SQL = load("ingest")


@pytest.mark.parametrize(
    ("row", "statement"), [(DocumentRow, "copy_documents"), (ChunkRow, "copy_chunks")]
)
def test_the_fields_of_a_row_are_the_columns_of_its_copy_in_order(row, statement):
    columns = re.search(r"\(([^)]+)\)", SQL[statement].as_string(None))[1]
    assert list(row._fields) == columns.split(", ")


def test_the_fields_of_a_verdict_are_what_its_statement_asks_for():
    asked = set(re.findall(r"%\((\w+)\)s", SQL["reject"].as_string(None)))
    assert set(VerdictRow._fields) == asked - {"collection_id", "job_id"}
