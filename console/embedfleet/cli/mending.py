"""What `doctor --fix` does: only what loses nothing, and what a person could undo."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import typer

from embedfleet.cli.finding import Fault, Finding
from embedfleet.cli.output import note
from embedfleet_schema.errors import EmbedfleetError, UsageError
from embedfleet_schema.store import workers
from embedfleet_schema.store.sweep import sweep

if TYPE_CHECKING:
    from embedfleet.fleet import Fleet
    from embedfleet_schema.settings import Settings


class Mend(NamedTuple):
    """What a person is asked, and what is done then; `{collection}` is the finding's."""

    question: str
    act: Callable[[Fleet, Finding], object]


def _index(fleet: Fleet, finding: Finding) -> None:
    assert finding.collection is not None  # noqa: S101 - its check names one
    fleet.collection(finding.collection).index()


def _forget_dead(fleet: Fleet, _: Finding) -> None:
    # First their batches go to others: the owner of a lease is known by its row.
    sweep(fleet.db)
    workers.forget_dead(fleet.db)


_INDEX = Mend("Build the indexes of {collection}? Readers and writers go on", _index)
MENDS: dict[Fault, Mend] = {
    Fault.INDEX_MISSING: _INDEX,
    Fault.INDEX_INVALID: _INDEX,
    Fault.FILTER_INDEX_MISSING: _INDEX,
    Fault.WORKERS_DEAD: Mend("Give back what dead workers hold, and forget them?", _forget_dead),
}


def mend(settings: Settings, findings: Sequence[Finding], *, yes: bool) -> bool:
    """Ask of each fault that can be mended, and mend it; whether something was done.

    Raises:
        UsageError: there is nobody to ask.
    """
    from embedfleet.fleet import Fleet

    wanted = {
        (found.code, found.collection): (MENDS[found.code], found)
        for found in findings
        if found.code in MENDS
    }
    if wanted and not yes and not sys.stdin.isatty():
        raise UsageError(reason="To mend without confirmation, add --yes")
    done = 0
    for each, finding in wanted.values():
        question = each.question.format(collection=finding.collection)
        if not yes and not typer.confirm(question, err=True):
            continue
        try:
            with Fleet(settings) as fleet:
                each.act(fleet, finding)
        except EmbedfleetError as error:
            note(f"{finding.code} is not mended: {error}")
        else:
            note(f"mended: {finding.code} {finding.collection or ''}".rstrip())
            done += 1
    return done > 0
