"""Rate limits of a fleet: what a person set in PostgreSQL, and how Redis says it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.catalogue.space_lookup import parse_model
from embedfleet_schema.database import Database
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.errors import BadModelName, UsageError
from embedfleet_schema.store import collections
from embedfleet_schema.store import limits as stored
from embedfleet_schema.store.limits import EVERY_ACCOUNT, LimitName

if TYPE_CHECKING:
    from embedfleet_workers.rate_limits.quota import LimitKey
    from embedfleet_workers.rate_limits.stores.limit_store import Snapshot


# What can be limited.
DIMENSIONS = ("requests", "tokens", "inputs", "concurrency")


@dataclass(frozen=True, slots=True)
class LimitDimension:
    """One dimension per minute; None where nothing was set, or nothing has happened yet.

    `quota` is what a person set, `seen` what the provider's answers say, `effective` what the fleet
    keeps to, `foreign` the share that other programs were found to use. `learnt` is what refusals
    taught where a limit is neither set nor stated.
    """

    quota: float | None = None
    seen: float | None = None
    effective: float | None = None
    used: float | None = None
    ahead_s: float | None = None
    foreign: float = 0.0
    learnt: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit, as it was set and as it is used. `account` is empty where it holds for all.

    `largest_request` is the most tokens of a request by what refusals taught; None where nothing.
    """

    name: str
    account: str
    dimensions: Mapping[str, LimitDimension]
    models: list[str] = field(default_factory=list)
    paused_s: float = 0.0
    paused_why: str = ""
    paused_by: str = ""
    slowed_to: float = 1.0
    in_flight: int = 0
    waiting: int = 0
    stopped: str | None = None
    stopped_by: str = ""
    largest_request: float | None = None

    @property
    def advice(self) -> str | None:
        """What refusals taught of a limit that nobody set or stated, and what to type."""
        learnt = {name: each.learnt for name, each in self.dimensions.items() if each.learnt}
        if not learnt:
            return None
        rounded = {name: _rounded(amount) for name, amount in sorted(learnt.items())}
        found = " and ".join(f"{amount:,} {name}" for name, amount in rounded.items())
        size = f", at most {_rounded(self.largest_request):,} tokens at once"
        found += f" a minute{size if self.largest_request else ''}"
        options = " ".join(f"--{name} {amount}" for name, amount in rounded.items())
        model = self.models[0] if self.models else self.name
        return (
            f"{self.name}: no limit of {' and '.join(rounded)} is set, and the provider states "
            f"none. Learnt from its refusals: about {found}. If you "
            f"know better, set it: embedfleet limits set {model} {options}"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LimitList:
    """All limits; `live` is False where Redis did not say how they are used."""

    limits: list[Limit]
    live: bool


@translate_errors
class Limits:
    """The rate limits of a fleet's providers."""

    def __init__(self, db: Database, redis_url: str) -> None:
        self._db = db
        self._redis_url = redis_url

    def set(
        self,
        model: str,
        amounts: Mapping[str, float],
        *,
        account: str | None = None,
        group: str | None = None,
    ) -> None:
        """Set limits of a model, or of the group that it draws on, per minute.

        Args:
            model: `openai/text-embedding-3-small`.
            amounts: by dimension: `requests`, `tokens`, `inputs`, or `concurrency`, at once.
            account: hash of an API key (`embedfleet_schema.accounts`); None: for every key.
            group: put the model into this group first; its models share one limit.

        Raises:
            BadModelName: it is no model behind an API.
            UsageError: an amount is not above 0.
        """
        provider, name = _api_model(model)
        arguments.words("limits.set", account=account, group=group)
        _check_amounts(amounts)
        if group is not None:
            stored.join_group(self._db, provider, name, group)
        shared = stored.read(self._db).group_of(provider, name)
        stored.set_limits(
            self._db, LimitName(provider, account or EVERY_ACCOUNT, shared), dict(amounts)
        )

    def clear(self, model: str, *, account: str | None = None) -> bool:
        """Forget what was set; False where nothing was.

        A model leaves its group, whose limit stays. With an `account`, only what was set for that
        account.
        """
        provider, name = _api_model(model)
        arguments.words("limits.clear", account=account)
        left = stored.leave_group(self._db, provider, name) if account is None else None
        return bool(stored.clear_limits(self._db, provider, name, account)) or left is not None

    def show(self, model: str | None = None) -> LimitList:
        """Limits that were set or are in use, those of one model or all."""
        book = stored.read(self._db)
        states, live = self._states()
        names = {LimitName(key.provider, key.account, key.group): key for key in states}
        # What holds for every account shows with the accounts that are in use.
        in_use = {(each.provider, each.name) for each in names}
        wanted = set(names) | {
            each for each in book.limits if each.account or (each.provider, each.name) not in in_use
        }
        if model is not None:
            provider, name = _api_model(model)
            shared = book.group_of(provider, name)
            wanted = {each for each in wanted if (each.provider, each.name) == (provider, shared)}
        found = [
            _limit(each, book, states[names[each]] if each in names else None)
            for each in sorted(wanted, key=lambda each: (each.provider, each.name, each.account))
        ]
        return LimitList(found, live)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._db)

    def _states(self) -> tuple[dict[LimitKey, Snapshot], bool]:
        from embedfleet_workers.embedding_errors import StoreAway

        # In a thread: the caller may be inside an event loop of its own.
        with ThreadPoolExecutor(1) as pool:
            try:
                return pool.submit(asyncio.run, self._snapshots()).result(), True
            except StoreAway:
                return {}, False

    async def _snapshots(self) -> dict[LimitKey, Snapshot]:
        from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

        store = RedisStore(self._redis_url)
        try:
            found = {key: await store.snapshot(key) for key in await store.keys()}
        finally:
            await store.close()
        return {key: snapshot for key, snapshot in found.items() if snapshot is not None}


def _limit(name: LimitName, book: stored.LimitBook, state: Snapshot | None) -> Limit:
    quotas = book.quotas(name.provider, name.account, name.name)
    models = sorted(
        f"{provider}/{model}"
        for (provider, model), group in book.groups.items()
        if (provider, group) == (name.provider, name.name)
    )
    title = f"{name.provider}/{name.name}"
    if state is None:
        plain = {each: LimitDimension(quota=amount) for each, amount in sorted(quotas.items())}
        return Limit(title, name.account, plain, models)
    dimensions = {
        each: LimitDimension(quota=quotas.get(each))
        for each in sorted({*quotas, *state.dimensions})
    }
    for each, used in state.dimensions.items():
        dimensions[each] = LimitDimension(
            quotas.get(each),
            used.stated or None,
            used.effective or None,
            used.used,
            used.ahead_s,
            used.foreign,
            None if each in quotas else used.learnt or None,
        )
    return Limit(
        title,
        name.account,
        dimensions,
        models,
        paused_s=state.paused_s,
        paused_why=state.paused_why,
        paused_by=state.paused_by,
        slowed_to=state.slowed_to,
        in_flight=state.in_flight,
        waiting=state.waiting,
        stopped=f"{state.stopped.code}: {state.stopped.reason}" if state.stopped else None,
        stopped_by=state.stopped_by,
        largest_request=state.largest or None,
    )


def _rounded(amount: float | None) -> int:
    """Two digits of it: more was not learnt."""
    return int(float(f"{amount or 0:.2g}")) or 1


def _check_amounts(amounts: Mapping[str, float]) -> None:
    wanted = 'a dict such as {"requests": 500}'
    if not isinstance(amounts, Mapping):
        arguments.wrong_type("limits.set", "amounts", wanted, amounts)
    for dimension, per_minute in amounts.items():
        arguments.choice("limits.set", "amounts", dimension, DIMENSIONS)
        arguments.amount("limits.set", dimension, per_minute, unit="units a minute")
        if not 0 < per_minute < float("inf"):
            raise UsageError(reason="a limit is a number above 0")


def _api_model(model: str) -> tuple[str, str]:
    arguments.text("limits", "model", model)
    provider, name = parse_model(model)
    if provider not in API_PROVIDERS:
        known = ", ".join(API_PROVIDERS)
        reason = f"limits are those of a provider's API ({known}), as in openai/MODEL"
        raise BadModelName(name=model, reason=reason)
    return provider, name


def learnt(db: Database, redis_url: str, provider: str | None = None, model: str = "") -> list[str]:
    """What refusals taught of limits that nobody set or stated: of one model's, or of all."""
    spaces = collections.list_all(db) if provider is None else ()
    providers = {provider, *(each.space.provider for each in spaces)}
    if providers.isdisjoint(API_PROVIDERS):
        return []
    found = Limits(db, redis_url).show(f"{provider}/{model}" if provider else None)
    return [each.advice for each in found.limits if each.advice is not None]
