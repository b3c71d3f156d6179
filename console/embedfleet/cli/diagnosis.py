"""The checks of `doctor`. Each looks at one thing and says what it found and what to do.

None hides another: one that fails is a finding, and the next one is made.
"""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version

from psycopg import Error
from redis.exceptions import RedisError

from embedfleet.cli import (
    database_diagnosis,
    index_diagnosis,
    model_diagnosis,
    server_diagnosis,
    worker_diagnosis,
)
from embedfleet.cli.finding import Fault, Finding, Level
from embedfleet.limits import learnt
from embedfleet.progress import command
from embedfleet.stack import ServerStatus
from embedfleet.stack import status as stack_status
from embedfleet_schema import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.errors import EmbedfleetError, NotConfigured
from embedfleet_schema.redis_clients import client
from embedfleet_schema.redis_url import parse_redis_url
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import spaces
from embedfleet_workers.versions import broker_advice

log = logging.getLogger(__name__)

REDIS_TIMEOUT_SECONDS = 3.0
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
    yield from checked("packages", _packages)
    yield from checked("engine", lambda: model_diagnosis.engine(settings))
    yield from checked("plugins", model_diagnosis.plugins)
    if settings.uses_embedded_stack:
        yield from checked("disk", lambda: server_diagnosis.disk(settings))
        stopped = list(checked("stack", lambda: _embedded_stack(settings)))
        yield from stopped
        if any(finding.level != "ok" for finding in stopped):
            return
    yield from checked("Redis", lambda: _redis(settings))
    yield from checked("PostgreSQL", lambda: _database(settings))


def checked(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds, and what ended it: those after it are made all the same."""
    try:
        yield from check()
    except EmbedfleetError as error:
        yield Finding("broken", subject, str(error), code=Fault.CHECK_FAILED)
    except Error as error:
        yield Finding("broken", subject, session.brief(error), code=Fault.CHECK_FAILED)
    except Exception as error:
        found = f"this check failed with {type(error).__name__}"
        advice = "please report it, with what embedfleet --debug doctor says"
        log.debug("the check of %s failed", subject, exc_info=error)
        yield Finding("broken", subject, found, advice, code=Fault.CHECK_FAILED)


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
        yield Finding(
            "warning",
            f"extra {extra}",
            f"without {', '.join(names)}",
            advice,
            code=Fault.EXTRA_MISSING,
        )


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
        yield Finding("broken", "stack", str(error), code=Fault.STACK_STOPPED)
        return
    for server in (found.postgres, found.valkey):
        yield _embedded(server, settings)


def _embedded(server: ServerStatus, settings: Settings) -> Finding:
    if server.running:
        at = f"{server.version} at {server.address}, pid {server.pid}"
        return Finding("ok", server.name, f"embedded {at}")
    if not server.version:
        advice = "pip install 'embedfleet[embedded]', or set EMBEDFLEET_DATABASE_URL"
        return Finding(
            "broken",
            server.name,
            "no server is configured or installed",
            advice,
            code=Fault.STACK_STOPPED,
        )
    start = command(settings, "up")
    return Finding(
        "warning",
        server.name,
        f"embedded {server.version} is stopped",
        start,
        code=Fault.STACK_STOPPED,
    )


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
        yield Finding("broken", "Redis", session.brief(error), advice, code=Fault.REDIS_UNREACHABLE)
        return
    name = str(info.get("server_name", "redis")).capitalize()
    number = str(info.get(f"{name.lower()}_version", info.get("redis_version", "0")))
    outdated = broker_advice(name.lower(), number)
    level: Level = "warning" if outdated else "ok"
    code = Fault.REDIS_OLD if outdated else None
    yield Finding(level, "Redis", f"{name} {number} answers", outdated, code=code)
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        yield Finding(
            "warning",
            "Redis",
            f"evicts keys when its memory is full (maxmemory-policy {policy})",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration; until then messages"
            " can be lost, and are sent again",
            code=Fault.REDIS_EVICTS,
        )


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(
            settings.database, direct_url=settings.direct_database, max_connections=2
        )
    except NotConfigured as error:
        yield Finding("broken", "PostgreSQL", str(error), code=Fault.DATABASE_UNREACHABLE)
        return
    try:
        servers = list(database_diagnosis.servers(database))
        yield from servers
        if all(finding.level != "broken" for finding in servers):
            for subject, check in _checks(database, settings):
                yield from checked(subject, check)
    except DatabaseUnreachable as error:
        yield Finding("broken", "PostgreSQL", str(error), code=Fault.DATABASE_UNREACHABLE)
    finally:
        database.close()


def _checks(
    database: Database, settings: Settings
) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """What is asked of a database that has our tables, each for itself."""
    of_server = (
        ("pooler", database_diagnosis.pooler),
        ("clock", server_diagnosis.clock),
        ("timeouts", server_diagnosis.timeouts),
        ("connections", server_diagnosis.connections),
        ("vacuum", server_diagnosis.vacuum),
        ("shm", server_diagnosis.build_memory),
        ("plain SQL", database_diagnosis.scans),
        ("index", index_diagnosis.indexes),
    )
    for subject, of_database in of_server:
        yield subject, partial(of_database, database)
    yield "workers", partial(worker_diagnosis.workers_and_queues, database, settings)
    yield "paused", partial(_paused, database)
    yield "limits", partial(_limits, database, settings)
    yield "prices", partial(model_diagnosis.prices, database, settings)
    yield "chunks", partial(model_diagnosis.chunk_sizes, database)
    yield "model", partial(model_diagnosis.models, database)
    yield "model", partial(model_diagnosis.endings, database, datetime.now(UTC).date())
    yield "model", partial(model_diagnosis.model_changes, database)


def _paused(database: Database) -> Iterator[Finding]:
    """The models that stand still until a person acts."""
    for space in spaces.paused(database):
        advice = f"fix it there, then: embedfleet resume {space.model}"
        held = quantity(space.held, "batch", "batches")
        yield Finding(
            "warning", "paused", f"{space}; held: {held}", advice, code=Fault.SPACE_PAUSED
        )


def _limits(database: Database, settings: Settings) -> Iterator[Finding]:
    """What is known of limits only because the provider refused requests."""
    for said in learnt(database, settings.redis):
        found, _, advice = said.partition(" If you know better, set it: ")
        yield Finding("warning", "limits", found, advice, code=Fault.LIMIT_LEARNT)
