"""What an error may say of itself: never what it was given."""

import psycopg
import pytest

from embedfleet_schema.database_errors import DatabaseFull
from embedfleet_schema.errors import ModelNotFound
from embedfleet_workers.embedding_errors import BadAnswer, InputAtFault
from embedfleet_workers.reasons import LONGEST, describe

TEXT = "the patient was born on the first of May"


def test_an_error_of_ours_speaks_for_itself():
    assert "The embedder's answer is not usable: row 3 is a zero vector." == describe(
        BadAnswer(reason="row 3 is a zero vector"), [TEXT]
    )


@pytest.mark.parametrize("quoted", [TEXT, "invalid input 'born on the first of' at 5"])
def test_a_reason_that_quotes_the_text_is_left_out(quoted):
    said = describe(InputAtFault(reason=quoted), ["other", TEXT])
    assert "InputAtFault: its message quotes the text and is left out" == said


def test_a_text_of_another_batch_is_not_looked_for_in_errors_without_an_embedder():
    error = ModelNotFound(model="all-MiniLM-L6-v2", reason="no network")
    assert str(error) == describe(error, ["how to use all-MiniLM-L6-v2 with pgvector"])


def test_a_foreign_error_is_its_type():
    assert "ValueError" == describe(ValueError(TEXT), [TEXT])
    assert "KeyboardInterrupt" == describe(KeyboardInterrupt())


def test_an_error_of_postgresql_is_its_type_and_code():
    assert "CheckViolation 23514" == describe(psycopg.errors.CheckViolation(f"row ({TEXT})"))
    assert str(DatabaseFull()) == describe(psycopg.errors.DiskFull("?"))


def test_a_long_reason_is_cut():
    assert LONGEST + 3 == len(describe(BadAnswer(reason="x" * 10_000)))
