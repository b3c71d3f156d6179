"""The steps of a batch are those of the picture, and their statements stand in one file."""

import re
from collections import defaultdict
from importlib.resources import files

from embedfleet_schema.statements import load
from embedfleet_schema.store import transitions
from embedfleet_schema.store.settlement import Settlement
from embedfleet_schema.store.transitions import EDGES
from plugins.documents import ROOT, blocks

SQL = files("embedfleet_schema").joinpath("sql")
# A statement that makes batches, or assigns a state to one.
WRITES_STATE = re.compile(
    r"INSERT INTO embedfleet\.batch\b"
    r"|UPDATE embedfleet\.batch\b(?: AS \w+)?\s+SET (?:(?!\b(?:FROM|WHERE)\b)[^;])*?\bstate = "
)


def drawn() -> str:
    """All steps as a Mermaid diagram, one line for each pair of states."""
    names = defaultdict(list)
    for edge in EDGES:
        for target in edge.targets:
            names[edge.source or "[*]", target].append(edge.name)
    lines = [f"    {a} --> {b}: {', '.join(each)}\n" for (a, b), each in names.items()]
    return "".join(["stateDiagram-v2\n", *lines])


def test_the_picture_shows_every_step_and_no_other():
    (picture,) = blocks(ROOT / "docs/architecture.md", "mermaid")
    assert drawn().strip() == picture.text.strip()


def test_each_step_is_a_function_of_that_name():
    for edge in EDGES:
        assert hasattr(transitions, edge.name) or hasattr(Settlement, edge.name), edge


def test_no_other_file_has_a_statement_that_writes_a_state():
    writing = {
        path.name.removesuffix(".sql")
        for path in SQL.iterdir()
        for statement in load(path.name.removesuffix(".sql")).values()
        if WRITES_STATE.search(statement.as_string())
    }
    assert {"transitions"} == writing


def test_a_lease_is_written_by_one_statement():
    leasing = [path.read_text().count("SET state = 'leased'") for path in SQL.iterdir()]
    assert 1 == sum(leasing)
