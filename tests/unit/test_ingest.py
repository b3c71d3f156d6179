"""The rows of a window and the columns that COPY puts them in."""

import re

import pytest

from embedfleet_schema.statements import load
from embedfleet_schema.store.ingest import ChunkRow, DocumentRow, VerdictRow

SQL = load("ingest")


# What is stored of a chunk with its text; the hash tells its number.
OF_TEXTS = {"tokens", "hash", "content"}


@pytest.mark.parametrize(
    ("row", "statement"), [(DocumentRow, "copy_documents"), (ChunkRow, "copy_chunks")]
)
def test_the_fields_of_a_row_are_the_columns_of_its_copy_in_order(row, statement):
    columns = re.search(r"\(([^)]+)\)", SQL[statement].as_string(None))[1].split(", ")
    own = [name for name in columns if name != "text_id"]
    assert [name for name in row._fields if name not in OF_TEXTS] == own


def test_the_fields_of_a_verdict_are_what_its_statement_asks_for():
    asked = set(re.findall(r"%\((\w+)\)s", SQL["reject"].as_string(None)))
    assert {f"{name}s" for name in VerdictRow._fields} == asked - {"collection_id", "job_id"}
