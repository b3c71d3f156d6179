"""Collections: a page of them, one of them, its documents, and what failed."""

from __future__ import annotations

from embedfleet.web.pages.rendering import Page, Redirect, at
from embedfleet.web.pages.visits import Visit
from embedfleet_schema.store import documents as stored
from embedfleet_schema.store import pages

PER_PAGE = 50
JOBS = 5


def collections(visit: Visit) -> Page:
    """A page of collections by name."""
    part = visit.text("part").lower()
    found = pages.collections(
        visit.fleet.db, part=part, after=visit.text("after"), limit=PER_PAGE + 1
    )
    after = found[PER_PAGE - 1].name if len(found) > PER_PAGE else None
    return Page("collections.html", {"lines": found[:PER_PAGE], "part": part, "next": after})


def collection(visit: Visit) -> Page:
    """What a collection is and how much it holds."""
    found = visit.fleet.collection(visit.parts["name"])
    newest = pages.jobs(visit.fleet.db, collection_id=found.info.id, limit=JOBS)
    return Page(
        "collection.html",
        {
            "info": found.info,
            "counts": found.counts(),
            "jobs": [job.status for job in map(visit.fleet.job, newest)],
        },
    )


def documents(visit: Visit) -> Page:
    """A page of the documents whose keys begin alike."""
    found = visit.fleet.collection(visit.parts["name"])
    prefix = visit.text("prefix")
    listed = stored.page(
        visit.fleet.db,
        found.info,
        prefix=prefix,
        after=visit.given.get("after", ""),
        limit=PER_PAGE + 1,
    )
    after = listed[PER_PAGE - 1].key if len(listed) > PER_PAGE else None
    told = {"info": found.info, "documents": listed[:PER_PAGE], "prefix": prefix, "next": after}
    return Page("documents.html", told)


def failing(visit: Visit) -> Page:
    """The collections in which something failed."""
    found = pages.failing(visit.fleet.db, limit=PER_PAGE + 1)
    return Page("failing.html", {"lines": found[:PER_PAGE], "more": len(found) > PER_PAGE})


def failures(visit: Visit) -> Page:
    """What failed in a collection: by code, and the newest one by one."""
    found = visit.fleet.collection(visit.parts["name"])
    codes = pages.codes(visit.fleet.db, found.info)
    return Page(
        "failures.html",
        {
            "info": found.info,
            "codes": codes,
            "counted": pages.FAILURES,
            "failures": found.failures(limit=PER_PAGE),
            "most": PER_PAGE,
            "nothing_retried": bool(visit.text("nothing")),
        },
    )


def retry(visit: Visit) -> Redirect:
    """Try the failed chunks of a collection again."""
    found = visit.fleet.collection(visit.parts["name"])
    job = found.retry()
    if job is None:
        return Redirect(at("collections", found.name, "failures", nothing=1))
    return Redirect(at("jobs", job.id))
