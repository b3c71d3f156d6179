"""The checks of `doctor`. Each looks at one thing and says what it found and what to do."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version

from psycopg import Error
from redis.exceptions import RedisError

from embedfleet.cli import index_diagnosis, model_diagnosis
from embedfleet.cli.finding import Finding, Level
from embedfleet.limits import learnt
from embedfleet.progress import command
from embedfleet.stack import ServerStatus
from embedfleet.stack import status as stack_status
from embedfleet_schema import requirements, session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database import (
    BUDGET_LOCK_SPACE,
    LOCK_SPACES,
    MODEL_LOCK_SPACE,
    Database,
)
from embedfleet_schema.errors import EmbedfleetError, NotConfigured
from embedfleet_schema.leadership import DISK_PROBE, PROVIDER_BATCHES
from embedfleet_schema.redis_clients import client
from embedfleet_schema.redis_url import parse_redis_url
from embedfleet_schema.requirements import Versions
from embedfleet_schema.revisions import newest
from embedfleet_schema.roles import code_of_others
from embedfleet_schema.session import Holder
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import scan_defaults, spaces, workers
from embedfleet_schema.types import serving
from embedfleet_workers.versions import broker_advice, pgvector_advice

REDIS_TIMEOUT_SECONDS = 3.0
# Transactions of ours are over by then, or stand still.
HELD_LONG_S = 60.0
# `torch>=2.10; extra == "local"`; what is only for some machines is no lack on others.
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*; extra == ['\"]([\w-]+)['\"]$")
# Who writes for embedfleet or for another library knows what is needed, and commands that few
# people use say themselves what they lack.
_OF_OTHERS = (
    *("dev", "langchain", "llamaindex"),
    *("plots", "map", "s3", "gcs", "azure", "watch", "bedrock", "vertex"),
)


def examine(settings: Settings) -> Iterator[Finding]:
    """All checks, the cheap ones first."""
    yield Finding(
        "ok", "embedfleet", f"{version('embedfleet')}, Python {platform.python_version()}"
    )
    yield from _packages()
    yield from model_diagnosis.engine(settings)
    yield from model_diagnosis.plugins()
    if settings.uses_embedded_stack:
        stopped = list(_embedded_stack(settings))
        yield from stopped
        if any(finding.level != "ok" for finding in stopped):
            return
    yield from _redis(settings)
    yield from _database(settings)


def _packages() -> Iterator[Finding]:
    missing: dict[str, list[str]] = {}
    for requirement in requires("embedfleet") or ():
        if (found := _REQUIREMENT.match(requirement)) and not _installed(found[1]):
            missing.setdefault(found[2], []).append(found[1])
    for extra in _OF_OTHERS:
        missing.pop(extra, None)
    if not missing:
        yield Finding("ok", "packages", "all extras are installed")
    for extra, names in missing.items():
        advice = f"if you need it: pip install 'embedfleet[{extra}]'"
        yield Finding("warning", f"extra {extra}", f"without {', '.join(names)}", advice)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _embedded_stack(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "data", str(settings.data))
    try:
        found = stack_status(settings.data)
    except EmbedfleetError as error:
        yield Finding("broken", "stack", str(error))
        return
    for server in (found.postgres, found.valkey):
        yield _embedded(server, settings)


def _embedded(server: ServerStatus, settings: Settings) -> Finding:
    if server.running:
        at = f"{server.version} at {server.address}, pid {server.pid}"
        return Finding("ok", server.name, f"embedded {at}")
    if not server.version:
        advice = "pip install 'embedfleet[embedded]', or set EMBEDFLEET_DATABASE_URL"
        return Finding("broken", server.name, "no server is configured or installed", advice)
    start = command(settings, "up")
    return Finding("warning", server.name, f"embedded {server.version} is stopped", start)


def _redis(settings: Settings) -> Iterator[Finding]:
    advice = "check EMBEDFLEET_REDIS_URL; you can still enqueue, and the batches wait"
    try:
        with client(
            parse_redis_url(settings.redis),
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        ) as redis:
            info = redis.info()
    except (RedisError, OSError, ValueError) as error:
        yield Finding("broken", "Redis", session.brief(error), advice)
        return
    name = str(info.get("server_name", "redis")).capitalize()
    number = str(info.get(f"{name.lower()}_version", info.get("redis_version", "0")))
    outdated = broker_advice(name.lower(), number)
    yield Finding("warning" if outdated else "ok", "Redis", f"{name} {number} answers", outdated)
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        yield Finding(
            "warning",
            "Redis",
            f"evicts keys when its memory is full (maxmemory-policy {policy})",
            "set maxmemory-policy noeviction; until then messages can be lost, and are sent again",
        )


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(
            settings.database, direct_url=settings.direct_database, max_connections=2
        )
    except NotConfigured as error:
        yield Finding("broken", "PostgreSQL", str(error))
        return
    try:
        servers = list(_servers(database))
        yield from servers
        if all(finding.level != "broken" for finding in servers):
            yield from _pooler(database)
            yield from _scans(database)
            yield from index_diagnosis.indexes(database)
            yield from _workers(database, settings)
            yield from _paused(database)
            yield from _limits(database, settings)
            yield from model_diagnosis.models(database)
            yield from model_diagnosis.endings(database, datetime.now(UTC).date())
            yield from model_diagnosis.model_changes(database)
    except EmbedfleetError as error:
        yield Finding("broken", "PostgreSQL", str(error))
    except Error as error:
        yield Finding("broken", "PostgreSQL", session.brief(error))
    finally:
        database.close()


def _servers(database: Database) -> Iterator[Finding]:
    with database.connect() as conn:
        found = requirements.versions(conn)
        problems = requirements.unmet(conn)
        foreign = code_of_others(conn)
        held = session.long_held(conn, LOCK_SPACES, seconds=HELD_LONG_S)
    yield Finding("ok", "PostgreSQL", f"{found.server} at {database.name}")
    for problem in problems:
        level: Level = "broken" if problem.for_migrate else "warning"
        yield Finding(level, "database", problem.found, problem.advice)
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
    return Finding("warning", "locks", found, advice)


def _pgvector(versions: Versions) -> Finding:
    if versions.installed is not None:
        outdated = pgvector_advice(versions.installed)
        level: Level = "warning" if outdated else "ok"
        return Finding(level, "pgvector", versions.installed, outdated)
    if versions.offered is not None:
        found, advice = f"{versions.offered} is available, but not created", "embedfleet migrate"
        return Finding("broken", "pgvector", found, advice)
    advice = "install it on the server: https://github.com/pgvector/pgvector#installation"
    return Finding("broken", "pgvector", "it is not installed on the server", advice)


def _tables(revision: str | None) -> Finding:
    needed = newest()
    if revision is None:
        return Finding("broken", "tables", "there are none", "embedfleet migrate")
    if revision < needed:
        found = f"at revision {revision}, this program needs {needed}"
        return Finding("broken", "tables", found, "embedfleet migrate")
    if revision > needed:
        found = f"at revision {revision}, this program knows only {needed}"
        return Finding("broken", "tables", found, "upgrade embedfleet on this machine")
    return Finding("ok", "tables", f"at revision {revision}")


def _pooler(database: Database) -> Iterator[Finding]:
    """What needs a session of its own goes past a pooler."""
    database.check_direct()
    if not database.is_pooled():
        return
    found = "the URL is one of a pooler: each transaction may get another session"
    if database.direct_url != database.url:
        yield Finding("ok", "pooler", f"{found}; EMBEDFLEET_DIRECT_DATABASE_URL names the server")
    else:
        advice = "set EMBEDFLEET_DIRECT_DATABASE_URL to the server's URL: migrate and index need it"
        yield Finding("warning", "pooler", found, advice)


def _scans(database: Database) -> Iterator[Finding]:
    """Our searches are complete by themselves; those of people depend on the database."""
    if scan_defaults.are_set(database):
        yield Finding("ok", "plain SQL", "an index is scanned until the LIMIT is reached")
    else:
        found = "gets at most 40 rows from an HNSW index, and fewer with a filter"
        yield Finding("warning", "plain SQL", found, "embedfleet migrate --set-defaults")


def _workers(database: Database, settings: Settings) -> Iterator[Finding]:
    listed = workers.recent(database)
    alive = [worker for worker in listed if worker.is_alive]
    if alive:
        yield Finding("ok", "workers", f"{len(alive)} alive")
    if silent := len(listed) - len(alive):
        found = f"{silent} stopped sending heartbeats within the last hour"
        advice = "check their processes; their batches go to other workers by themselves"
        yield Finding("warning", "workers", found, advice)
    waiting = {serving(each.queue, each.delivery) for each in workers.queues(database)}
    for queue in sorted(waiting):
        if not any(queue in worker.queues for worker in alive):
            start = command(settings, f"worker --queue {queue}")
            found = f"no worker serves queue {queue}, where batches wait"
            yield Finding("warning", "workers", found, start)
    for reason in {each.reason for each in alive if waiting.intersection(each.queues)} - {None}:
        yield Finding("warning", "workers", str(reason))
    if not listed:
        start = command(settings, "worker --queue cpu")
        yield Finding("warning", "workers", "none is known", start)


def _paused(database: Database) -> Iterator[Finding]:
    """The models that stand still until a person acts."""
    for space in spaces.paused(database):
        advice = f"fix it there, then: embedfleet resume {space.model}"
        held = quantity(space.held, "batch", "batches")
        yield Finding("warning", "paused", f"{space}; held: {held}", advice)


def _limits(database: Database, settings: Settings) -> Iterator[Finding]:
    """What is known of limits only because the provider refused requests."""
    for said in learnt(database, settings.redis):
        found, _, advice = said.partition(" If you know better, set it: ")
        yield Finding("warning", "limits", found, advice)
