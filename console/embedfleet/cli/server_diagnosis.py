"""The checks of `doctor` that concern how PostgreSQL is set, and what stands in its way."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from embedfleet.cli.finding import Fault, Finding
from embedfleet.stack.postgres_settings import shared_memory_bytes
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database import Database
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import server_health
from embedfleet_schema.store.server_health import ServerFacts, Slot

# More than a question to the server takes, and less than a signature of a request may be off.
SKEW_S = 5.0
# A search that is exact may take as long.
LEAST_TIMEOUT_MS = 10_000
# Of the connections that there are, others need some.
SHARE_OF_CONNECTIONS = 0.9
# Nothing of ours takes so long but an index build, which keeps no dead rows of other tables.
OLD_TRANSACTION_S = 900.0
SLOT_BYTES = 1_000_000_000
LEAST_DISK_SHARE, LEAST_DISK_BYTES = 0.05, 1_000_000_000
_LOCAL = ("localhost", "127.0.0.1", "::1")


def clock(database: Database) -> Iterator[Finding]:
    """Leases live by the database's clock alone, but signatures and TLS do by this machine's."""
    before = datetime.now(UTC)
    there = server_health.facts(database).clock
    after = datetime.now(UTC)
    ahead_s = (before + (after - before) / 2 - there).total_seconds()
    if abs(ahead_s) <= SKEW_S + (after - before).total_seconds():
        yield Finding("ok", "clock", "as the database's")
        return
    found = (
        f"this machine's is {abs(ahead_s):,.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the"
        " database's: webhooks, object stores and TLS may refuse it"
    )
    advice = "synchronise the one that is wrong: timedatectl set-ntp true"
    yield Finding("warning", "clock", found, advice, code=Fault.CLOCK_SKEWED)


def timeouts(database: Database) -> Iterator[Finding]:
    with database.transaction():
        timeout_ms = int(database.statement_timeout)
    if 0 < timeout_ms < LEAST_TIMEOUT_MS:
        found = f"searches of this role end after {timeout_ms / 1e3:g} s (statement_timeout)"
        advice = "give it more: ALTER ROLE CURRENT_USER SET statement_timeout = '30s'"
        yield Finding("warning", "timeouts", found, advice, code=Fault.STATEMENT_TIMEOUT)


def connections(database: Database) -> Iterator[Finding]:
    """A pooler's clients are no connections of the server."""
    if database.is_pooled():
        return
    found = server_health.facts(database)
    needed = server_health.needed_connections(database)
    most = SHARE_OF_CONNECTIONS * found.connections
    if needed > most:
        said = f"the workers may open {needed} connections, and the server has {found.connections}"
    elif found.connected > most:
        said = f"{found.connected} of {found.connections} connections are in use"
    else:
        return
    advice = (
        "fewer processes (embedfleet worker --concurrency), a pooler, or ALTER SYSTEM SET"
        f" max_connections = {round(1.5 * max(needed, found.connected))}, and a restart"
    )
    yield Finding("warning", "connections", said, advice, code=Fault.CONNECTIONS_SHORT)


def vacuum(database: Database) -> Iterator[Finding]:
    """What keeps dead rows in the tables, which every search passes."""
    if not server_health.facts(database).autovacuum:
        found = "autovacuum is off: dead rows stay, and searches get slower"
        advice = "turn it on: ALTER SYSTEM SET autovacuum = on, then SELECT pg_reload_conf()"
        yield Finding("warning", "vacuum", found, advice, code=Fault.AUTOVACUUM_OFF)
    if tables := server_health.without_autovacuum(database):
        found = f"autovacuum is off for {quantity(len(tables), 'table')}, such as {tables[0]}"
        advice = f"turn it on: ALTER TABLE embedfleet.{tables[0]} RESET (autovacuum_enabled)"
        yield Finding("warning", "vacuum", found, advice, code=Fault.AUTOVACUUM_OFF)
    for holder in server_health.old_transactions(database, seconds=OLD_TRANSACTION_S)[:3]:
        found = f"a transaction is open for long, and keeps all dead rows: {holder}"
        advice = f"if you do not need it: SELECT pg_terminate_backend({holder.pid})"
        yield Finding("warning", "vacuum", found, advice, code=Fault.TRANSACTION_OLD)
    yield from slots(server_health.unused_slots(database))


def slots(unused: Iterable[Slot]) -> Iterator[Finding]:
    for slot in unused:
        if slot.bytes > SLOT_BYTES:
            kept = f"{slot.bytes / 1e9:,.1f} GB"
            found = f"nobody reads replication slot {slot.name}, for which the server keeps {kept}"
            advice = f"if no replica needs it: SELECT pg_drop_replication_slot('{slot.name}')"
            yield Finding("warning", "vacuum", found, advice, code=Fault.SLOT_UNUSED)


def build_memory(database: Database) -> Iterator[Finding]:
    """What a parallel index build takes, where the server is on this machine."""
    room = shared_memory_bytes()
    if room is not None and is_local(database):
        yield from shared_memory(server_health.facts(database), room)


def shared_memory(server: ServerFacts, room: int) -> Iterator[Finding]:
    if (
        server.parallel_workers
        and server.shared_memory_type == "posix"
        and room <= server.maintenance_bytes
    ):
        found = (
            f"of shared memory there are {room / 1e6:,.0f} MB, and an index build takes"
            f" {server.maintenance_bytes / 1e6:,.0f} MB of them (maintenance_work_mem)"
        )
        advice = (
            "start the container with a larger --shm-size, or ALTER SYSTEM SET"
            " max_parallel_maintenance_workers = 0"
        )
        yield Finding("warning", "shm", found, advice, code=Fault.SHARED_MEMORY_SMALL)


def is_local(database: Database) -> bool:
    return (urlsplit(database.url).hostname or "") in _LOCAL


def disk(settings: Settings) -> Iterator[Finding]:
    """Of the embedded server, whose disk is this machine's."""
    folder = next((each for each in (settings.data, *settings.data.parents) if each.exists()), None)
    usage = shutil.disk_usage(folder or Path.cwd())
    least = min(LEAST_DISK_SHARE * usage.total, LEAST_DISK_BYTES)
    if usage.free < least:
        found = f"{usage.free / 1e6:,.0f} MB are left at {settings.data}"
        advice = f"free some: du -sh {settings.data}; a full disk pauses all workers"
        yield Finding("warning", "disk", found, advice, code=Fault.DISK_LOW)
