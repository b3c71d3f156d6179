"""Rate limits that a person set, and the models that share one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from embedfleet_schema.database import Database
from embedfleet_schema.statements import load
from embedfleet_schema.store import workers

_SQL = load("limits")

# The account of a limit that holds for every key.
EVERY_ACCOUNT = ""


@dataclass(frozen=True, slots=True)
class LimitName:
    """What a limit was set for: a model of a provider, or a group of its models."""

    provider: str
    account: str
    name: str


@dataclass(frozen=True, slots=True)
class LimitBook:
    """Everything that was set, as of one moment. Amounts are per minute, of concurrency at once."""

    limits: Mapping[LimitName, Mapping[str, float]] = field(default_factory=dict)
    groups: Mapping[tuple[str, str], str] = field(default_factory=dict)
    api_workers: int = 0

    def group_of(self, provider: str, model: str) -> str:
        """The name under which the limits of a model are kept: its own, or its group's."""
        return self.groups.get((provider, model), model)

    def quotas(self, provider: str, account: str, name: str) -> dict[str, float]:
        """What was set for every account, and over it what was set for this one."""
        every = self.limits.get(LimitName(provider, EVERY_ACCOUNT, name), {})
        return {**every, **self.limits.get(LimitName(provider, account, name), {})}


def read(db: Database) -> LimitBook:
    """What was set, and how many workers draw on it."""
    with db.transaction() as conn:
        rows = conn.execute(_SQL["limits"]).fetchall()
        groups = conn.execute(_SQL["groups"]).fetchall()
        drawing = workers.count_alive(conn, "api")
    limits: dict[LimitName, dict[str, float]] = defaultdict(dict)
    for provider, account, name, dimension, amount in rows:
        limits[LimitName(provider, account, name)][dimension] = amount
    return LimitBook(
        dict(limits),
        {(provider, model): name for provider, model, name in groups},
        drawing,
    )


def set_limits(db: Database, limit: LimitName, amounts: Mapping[str, float]) -> None:
    """Set some dimensions of a limit; the others stay as they are."""
    named = {"provider": limit.provider, "account": limit.account, "name": limit.name}
    with db.transaction() as conn:
        for dimension, amount in sorted(amounts.items()):
            conn.execute(_SQL["set"], {**named, "dimension": dimension, "amount": amount})


def clear_limits(db: Database, provider: str, name: str, account: str | None = None) -> int:
    """Forget what was set, for one account or (None) for all; returns how many rows there were."""
    named = {"provider": provider, "name": name, "account": account}
    with db.transaction() as conn:
        return len(conn.execute(_SQL["clear"], named).fetchall())


def join_group(db: Database, provider: str, model: str, name: str) -> None:
    """Let a model draw on the limit of a group."""
    with db.transaction() as conn:
        conn.execute(_SQL["join"], {"provider": provider, "model": model, "name": name})


def leave_group(db: Database, provider: str, model: str) -> str | None:
    """Give a model its own limit again; returns the group that it left."""
    with db.transaction() as conn:
        row = conn.execute(_SQL["leave"], {"provider": provider, "model": model}).fetchone()
    return row[0] if row else None
