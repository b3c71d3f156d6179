"""The rows of a window and the columns that COPY puts them in."""

import re

from embedfleet_schema.statements import load
from embedfleet_schema.store.incoming import ChunkRow, DocumentRow, VerdictRow

SQL = load("ingest")


# What is stored of a chunk with its text; the hash tells its number, and the key its document.
OF_TEXTS = {"tokens", "hash", "content", "context"}
NUMBERS = ["document_id", "version"]


def test_the_fields_of_a_chunk_are_the_columns_of_its_copy_in_order():
    columns = re.search(r"\(([^)]+)\)", SQL["copy_chunks"].as_string(None))[1].split(", ")
    own = [name for name in columns if name != "text_id"]
    assert [name for name in ChunkRow._fields if name not in OF_TEXTS] == ["key", *own[2:]]
    assert NUMBERS == own[:2]


def test_a_document_is_merged_from_one_list_for_each_of_its_fields():
    asked = set(re.findall(r"%\((\w+)\)s::\w+\[\]", SQL["merge_documents"].as_string(None)))
    assert {f"{name}s" for name in DocumentRow._fields} == asked


def test_the_fields_of_a_verdict_are_what_its_statement_asks_for():
    asked = set(re.findall(r"%\((\w+)\)s", SQL["reject"].as_string(None)))
    assert {f"{name}s" for name in VerdictRow._fields} == asked - {"collection_id", "job_id"}
