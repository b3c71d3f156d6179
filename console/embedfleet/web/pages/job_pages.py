"""Jobs: a page of them, one of them, and what may be done with one."""

from __future__ import annotations

from embedfleet.job import Job
from embedfleet.web.pages.fleet_pages import hour
from embedfleet.web.pages.rendering import Page, Redirect, at
from embedfleet.web.pages.visits import Visit
from embedfleet_schema.errors import UnknownJob, UsageError
from embedfleet_schema.store import failures, pages
from embedfleet_schema.store import jobs as stored
from embedfleet_schema.types import LARGEST_ID

PER_PAGE = 25
FAILURES = 20


def jobs(visit: Visit) -> Page:
    """A page of jobs, the newest first, of one collection or of all."""
    name = visit.text("collection")
    collection = visit.fleet.collection(name).info if name else None
    found = pages.jobs(
        visit.fleet.db,
        before=visit.number("before"),
        collection_id=collection.id if collection else None,
        limit=PER_PAGE + 1,
    )
    shown = stored.statuses(visit.fleet.db, found[:PER_PAGE])
    older = found[PER_PAGE - 1] if len(found) > PER_PAGE else None
    return Page("jobs.html", {"jobs": shown, "collection": name, "older": older})


def job(visit: Visit) -> Page:
    """Where one job stands, and its last hour."""
    found = _job(visit)
    status = found.status
    collection = visit.fleet.collection(status.collection)
    return Page(
        "job.html",
        {
            "job": status,
            "webhook": found.webhook,
            "plots": hour(pages.minutes(visit.fleet.db, job_id=found.id)),
            "failures": failures.listed(
                visit.fleet.db, collection.info, job_id=found.id, limit=FAILURES
            ),
            "most": FAILURES,
        },
    )


def pause(visit: Visit) -> Redirect:
    found = _job(visit)
    found.pause()
    return Redirect(at("jobs", found.id))


def resume(visit: Visit) -> Redirect:
    """Let a job go on, with a new budget where one is given."""
    found = _job(visit)
    typed = visit.text("budget")
    try:
        budget = float(typed) if typed else None
    except ValueError:
        raise UsageError(reason="a budget is an amount in USD, such as 2.50") from None
    found.resume(budget_usd=budget)
    return Redirect(at("jobs", found.id))


def cancel(visit: Visit) -> Redirect:
    found = _job(visit)
    found.cancel()
    return Redirect(at("jobs", found.id))


def _job(visit: Visit) -> Job:
    number = visit.parts["job"]
    if not 1 <= number <= LARGEST_ID:
        raise UnknownJob(job=number)
    return visit.fleet.job(number)
