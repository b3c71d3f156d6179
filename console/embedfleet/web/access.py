"""How a request of the API is let in: a key with scopes, as `Authorization: Bearer KEY`."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from embedfleet.api_keys import digest
from embedfleet.collection import Collection
from embedfleet.web.calls import Calls
from embedfleet.web.rates import Rates
from embedfleet.web.web_errors import NotFound, NotSignedIn, ScopeMissing
from embedfleet_schema.errors import UnknownCollection, UnknownJob
from embedfleet_schema.store import api_keys, collections
from embedfleet_schema.store.api_keys import ApiKeyInfo, Scope

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from embedfleet.fleet import Fleet
    from embedfleet.job import Job
    from embedfleet_schema.types import CollectionInfo

# A key that is revoked is let in no longer than this, and a collection that is new is seen by then.
KEPT_S = 2.0
MOST_KEPT = 1_024
_KEY = re.compile(r"ef_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """What was looked up a moment ago."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def get(self, key: Key) -> tuple[bool, Value | None]:
        """Whether it is known, and what."""
        until, value = self._kept.get(key, (0.0, None))
        return until > time.monotonic(), value

    def put(self, key: Key, value: Value) -> None:
        self._kept[key] = (time.monotonic() + KEPT_S, value)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what that key may do."""

    key: ApiKeyInfo

    def may_see(self, collection: str) -> bool:
        return self.key.collections is None or collection in self.key.collections


class Access:
    """The keys of a fleet, and the collections that each may see."""

    def __init__(self, fleet: Fleet, calls: Calls) -> None:
        self._fleet = fleet
        self._calls = calls
        self._rates = Rates()
        self._keys: Recent[bytes, ApiKeyInfo | None] = Recent()
        self._infos: Recent[str, CollectionInfo | None] = Recent()
        self._all: Recent[None, list[CollectionInfo]] = Recent()

    async def caller(self, request: HTTPConnection, scope: Scope) -> Caller:
        """Who asks; the request is counted.

        Raises:
            NotSignedIn: no key, or none that holds.
            ScopeMissing: the key may not do this.
            TooMany: it did it too often.
        """
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not _KEY.fullmatch(key := key.strip()):
            raise NotSignedIn
        sha256 = digest(key)
        known, found = self._keys.get(sha256)
        if not known:
            # The index finds a hash of 256 random bits, which nobody can approach step by step.
            found = await self._calls.run(api_keys.find, self._fleet.db, sha256)
            self._keys.put(sha256, found)
        if found is None:
            raise NotSignedIn
        self._rates.take(found.id, found.per_minute)
        if scope not in found.scopes:
            raise ScopeMissing(scope=scope)
        return Caller(found)

    async def collection(self, caller: Caller, name: str) -> Collection:
        """A collection that the caller may see.

        Raises:
            NotFound: there is none of this name, or it is none of the caller's.
        """
        if _NAME.fullmatch(name) and caller.may_see(name):
            known, info = self._infos.get(name)
            if not known:
                info = await self._calls.run(self._find, name)
                self._infos.put(name, info)
            if info is not None:
                return Collection(self._fleet, info)
        raise NotFound(what="collection", name=name[:63])

    async def collections(self, caller: Caller) -> list[CollectionInfo]:
        """All that the caller may see, the oldest first."""
        known, infos = self._all.get(None)
        if not known or infos is None:
            infos = await self._calls.run(collections.list_all, self._fleet.db)
            self._all.put(None, infos)
        return sorted((each for each in infos if caller.may_see(each.name)), key=lambda c: c.id)

    async def job(self, caller: Caller, job_id: int) -> Job:
        """A job on a collection that the caller may see.

        Raises:
            NotFound: there is none of this number, or it is none of the caller's.
        """
        try:
            job = await self._calls.run(self._fleet.job, job_id)
            status = await self._calls.run(lambda: job.status)
        except UnknownJob:
            raise NotFound(what="job", name=job_id) from None
        if not caller.may_see(status.collection):
            raise NotFound(what="job", name=job_id)
        return job

    def _find(self, name: str) -> CollectionInfo | None:
        try:
            return collections.find(self._fleet.db, name)
        except UnknownCollection:
            return None
