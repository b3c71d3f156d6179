"""A parser that fails in the process that reads files: of memory, or of a flaw of its own."""

import pytest

from embedfleet_producer.readers import reader_process
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.rows import Rows
from embedfleet_schema.types import Rejection

REQUEST = {"suffix": ".pdf", "max_bytes": 1_000}
# As Python words them.
WITHOUT = "<built-in function loads> returned NULL without setting an exception"
FLAW = "Objects/tupleobject.c:927: bad argument to internal function"


def verdicts(monkeypatch, error):
    def failing(*_):
        raise error
        yield

    monkeypatch.setattr(reader_process, "read_open", failing)
    return list(reader_process._verdicts(REQUEST, None, Rows("a.pdf", ReadOptions(), "a.pdf")))


@pytest.mark.parametrize("error", [MemoryError(), SystemError(WITHOUT)])
def test_a_lack_of_memory_ends_the_process(monkeypatch, error):
    with pytest.raises(type(error)):
        verdicts(monkeypatch, error)


def test_a_flaw_of_a_parser_is_told_as_one(monkeypatch):
    (found,) = verdicts(monkeypatch, SystemError(FLAW))
    assert isinstance(found, Rejection)
    assert "UNREADABLE" == found.code
    assert "SystemError" in found.reason
