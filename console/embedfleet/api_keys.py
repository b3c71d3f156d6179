"""Keys of the HTTP API, as people make them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import get_args

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet_schema.database import Database
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.http_errors import BadApiKey
from embedfleet_schema.store import api_keys, collections
from embedfleet_schema.store.api_keys import PER_MINUTE, ApiKeyInfo, Scope

PREFIX = "ef_"
LONGEST_NAME = 100
MOST_PER_MINUTE = 1_000_000
_TIME = re.compile(r"([1-9][0-9]{0,4})([dhm])")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60}


def digest(secret: str) -> bytes:
    """What is kept of a secret of 256 random bits: nobody finds it from its SHA-256."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


@translate_errors
class ApiKeys:
    """Make, list and revoke keys."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        collections: Sequence[str] | None = None,
        expires: str | None = None,
        per_minute: int = PER_MINUTE,
    ) -> tuple[str, ApiKeyInfo]:
        """A new key, which is nowhere else, and what is noted of it.

        Args:
            scopes: `embeddings`, `search`, `documents`.
            collections: the only ones that it sees. Default: all, also later ones.
            expires: in how long it ends: "90d", "12h", "30m". Default: never.
            per_minute: most requests a minute, at each process of the console.

        Raises:
            ApiKeyExists: the name is taken.
            BadApiKey, UnknownCollection: it cannot be made so.
        """
        arguments.text("create", "name", name)
        arguments.whole("create", "per_minute", per_minute, most=MOST_PER_MINUTE)
        if not 0 < len(name.strip()) <= LONGEST_NAME:
            raise BadApiKey(reason=f"a name has 1 to {LONGEST_NAME} characters")
        key = PREFIX + secrets.token_urlsafe(32)
        made = api_keys.create(
            self._db,
            name,
            digest(key),
            scopes=_scopes(scopes),
            collections=self._known(collections),
            per_minute=per_minute,
            expires_s=_seconds(expires),
        )
        return key, made

    def show(self) -> list[ApiKeyInfo]:
        """All keys by name, revoked ones too."""
        return api_keys.listed(self._db)

    def revoke(self, name: str) -> None:
        """End a key for good.

        Raises:
            UnknownApiKey: there is none of this name.
        """
        arguments.text("revoke", "name", name)
        api_keys.revoke(self._db, name)

    def _known(self, names: Sequence[str] | None) -> list[str] | None:
        if names is None:
            return None
        wanted = arguments.texts("create", "collections", names, '["docs"]')
        return [collections.find(self._db, name).name for name in dict.fromkeys(wanted)]

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._db)


class HasApiKeys:
    """The part of `Fleet` that says who may call it over HTTP."""

    db: Database

    @property
    def api_keys(self) -> ApiKeys:
        """Keys of the HTTP API: make them, list and revoke them."""
        return ApiKeys(self.db)


def _scopes(given: Sequence[str]) -> list[Scope]:
    known: tuple[Scope, ...] = get_args(Scope)
    wanted = set(arguments.texts("create", "scopes", given, '["search"]'))
    if not wanted or wanted - set(known):
        words = ", ".join(sorted(wanted - set(known))) or "none"
        raise BadApiKey(reason=f"its scopes are some of {', '.join(known)}, not {words}")
    return [scope for scope in known if scope in wanted]


def _seconds(expires: str | None) -> float | None:
    if expires is None:
        return None
    found = _TIME.fullmatch(expires)
    if found is None:
        raise BadApiKey(reason=f"it expires in a time such as 90d, 12h or 30m, not {expires!r}")
    return float(int(found[1]) * _SECONDS[found[2]])
