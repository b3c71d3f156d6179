"""A document by its key: where it is, and why it is not searchable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from embedfleet.web.pages.rendering import Page, Redirect, at
from embedfleet.web.pages.visits import Visit
from embedfleet_schema.store import collections, pages
from embedfleet_schema.store.document_status import Explanation

# Collections that a key is looked for in where none is named: the newest.
LOOKED_IN = 1_000
# Of those, as many are asked for keys that begin alike.
ALIKE_IN = 100
PLACES = 50
CHUNKS = 20


@dataclass(frozen=True, slots=True)
class Step:
    """What a person can do next: a button."""

    label: str
    address: str
    fields: dict[str, str] = field(default_factory=dict)


def find(visit: Visit) -> Page | Redirect:
    """The document of a key, in one collection or in whichever has it."""
    key, name = visit.text("key"), visit.text("collection")
    if name:
        looked_in = [visit.fleet.collection(name).info]
    else:
        looked_in = collections.newest(visit.fleet.db, LOOKED_IN + 1)
    more, looked_in = len(looked_in) > LOOKED_IN, looked_in[:LOOKED_IN]
    found = pages.holding(visit.fleet.db, looked_in, key) if key else []
    if len(found) == 1:
        return Redirect(at("collections", found[0].collection, "document", key=found[0].key))
    alike = []
    if key and not found:
        alike = pages.holding(visit.fleet.db, looked_in[:ALIKE_IN], key, prefix=True)
    told = {
        "key": key,
        "collection": name,
        "found": found[:PLACES],
        "alike": alike[:PLACES],
        "looked_in": len(looked_in),
        "more": more,
    }
    return Page("find.html", told)


def document(visit: Visit) -> Page | Redirect:
    """Where a document stands, in words, what to do next, and what readers see of it."""
    found = visit.fleet.collection(visit.parts["name"])
    key = visit.given.get("key", "")
    if not key:
        return Redirect(at("collections", found.name, "documents"))
    explanation = found.explain(key)
    shown = []
    if explanation.searchable:
        shown = pages.chunks(visit.fleet.db, found.info, explanation.key, limit=CHUNKS + 1)
    told = {
        "info": found.info,
        "found": explanation,
        "steps": list(_steps(explanation)),
        "chunks": shown[:CHUNKS],
        "more": len(shown) > CHUNKS,
    }
    return Page("document.html", told, 404 if explanation.state == "unknown" else 200)


def _steps(found: Explanation) -> Iterator[Step]:
    """The buttons for what the explanation advises, as far as there is one."""
    if found.paused is not None:
        model = found.paused.model
        yield Step(f"Resume {model}", at("models", "resume"), {"model": model})
    for job_id in sorted({each.job_id for each in found.batches if each.job_paused}):
        yield Step(f"Resume job {job_id}", at("jobs", job_id, "resume"))
    # Without attempts it was refused before anyone tried, and would be refused again.
    if not found.batches and any(failure.attempts for failure in found.failures):
        retry = at("collections", found.collection, "retry")
        yield Step(f"Retry the failed chunks of {found.collection}", retry)
