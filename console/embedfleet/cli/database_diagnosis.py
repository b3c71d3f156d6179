"""The checks of `doctor` that concern a database as such: what it is, what it lacks, whose."""

from __future__ import annotations

from collections.abc import Iterator

from embedfleet.cli.finding import Fault, Finding, Level
from embedfleet_schema import requirements, session
from embedfleet_schema.database import (
    BUDGET_LOCK_SPACE,
    LOCK_SPACES,
    MODEL_LOCK_SPACE,
    Database,
)
from embedfleet_schema.leadership import DISK_PROBE, PROVIDER_BATCHES
from embedfleet_schema.requirements import Versions
from embedfleet_schema.revisions import newest
from embedfleet_schema.roles import code_of_others
from embedfleet_schema.session import Holder
from embedfleet_schema.store import scan_defaults
from embedfleet_workers.versions import pgvector_advice

# Transactions of ours are over by then, or stand still.
HELD_LONG_S = 60.0


def servers(database: Database) -> Iterator[Finding]:
    with database.connect() as conn:
        found = requirements.versions(conn)
        problems = requirements.unmet(conn)
        foreign = code_of_others(conn)
        held = session.long_held(conn, LOCK_SPACES, seconds=HELD_LONG_S)
    yield Finding("ok", "PostgreSQL", f"{found.server} at {database.name}")
    for problem in problems:
        level: Level = "broken" if problem.for_migrate else "warning"
        code = Fault(problem.code)
        yield Finding(level, "database", problem.found, problem.advice, code=code)
    yield _pgvector(found)
    for space, number, holder in held:
        yield _held(space, number, holder)
    if foreign:
        advice = "check it and remove it; until then, do not log in as a superuser"
        yield Finding(
            "broken",
            "tables",
            f"they call code that is not part of embedfleet: {foreign[0]}",
            advice,
            code=Fault.CODE_OF_OTHERS,
        )
        return
    yield _tables(database.revision())


def _held(space: int, number: int, holder: Holder) -> Finding:
    if number == PROVIDER_BATCHES:
        return Finding("ok", "batch API", f"has {holder}")
    kind = {MODEL_LOCK_SPACE: "space", BUDGET_LOCK_SPACE: "job"}.get(space, "collection")
    what = {0: "sweep", -1: "migration", DISK_PROBE: "disk probe"}.get(number)
    found = f"the lock of {what or f'{kind} {number}'} is held by {holder}"
    advice = f"if you do not need that session: SELECT pg_terminate_backend({holder.pid})"
    return Finding("warning", "locks", found, advice, code=Fault.LOCK_HELD)


def _pgvector(versions: Versions) -> Finding:
    if versions.installed is not None:
        outdated = pgvector_advice(versions.installed)
        level: Level = "warning" if outdated else "ok"
        code = Fault.PGVECTOR_OLD if outdated else None
        return Finding(level, "pgvector", versions.installed, outdated, code=code)
    if versions.offered is not None:
        found, advice = f"{versions.offered} is available, but not created", "embedfleet migrate"
    else:
        found = "it is not installed on the server"
        advice = "install it on the server: https://github.com/pgvector/pgvector#installation"
    return Finding("broken", "pgvector", found, advice, code=Fault.PGVECTOR_MISSING)


def _tables(revision: str | None) -> Finding:
    needed = newest()
    if revision is None:
        return Finding(
            "broken", "tables", "there are none", "embedfleet migrate", code=Fault.TABLES_MISSING
        )
    if revision < needed:
        found = f"at revision {revision}, this program needs {needed}"
        return Finding("broken", "tables", found, "embedfleet migrate", code=Fault.TABLES_OLD)
    if revision > needed:
        found = f"at revision {revision}, this program knows only {needed}"
        advice = "upgrade embedfleet on this machine"
        return Finding("broken", "tables", found, advice, code=Fault.PROGRAM_OLD)
    return Finding("ok", "tables", f"at revision {revision}")


def pooler(database: Database) -> Iterator[Finding]:
    """What needs a session of its own goes past a pooler."""
    database.check_direct()
    if not database.is_pooled():
        return
    found = "the URL is one of a pooler: each transaction may get another session"
    if database.direct_url != database.url:
        yield Finding("ok", "pooler", f"{found}; EMBEDFLEET_DIRECT_DATABASE_URL names the server")
    else:
        advice = "set EMBEDFLEET_DIRECT_DATABASE_URL to the server's URL: migrate and index need it"
        yield Finding("warning", "pooler", found, advice, code=Fault.POOLER_WITHOUT_DIRECT)


def scans(database: Database) -> Iterator[Finding]:
    """Our searches are complete by themselves; those of people depend on the database."""
    if scan_defaults.are_set(database):
        yield Finding("ok", "plain SQL", "an index is scanned until the LIMIT is reached")
    else:
        found = "gets at most 40 rows from an HNSW index, and fewer with a filter"
        advice = "embedfleet migrate --set-defaults"
        yield Finding("warning", "plain SQL", found, advice, code=Fault.SCANS_CAPPED)
