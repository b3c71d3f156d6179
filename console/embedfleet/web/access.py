"""How a request of the API is let in: a key with scopes, as `Authorization: Bearer KEY`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedfleet.web.web_errors import NotSignedIn

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from embedfleet.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what that key may do."""

    name: str
    scopes: frozenset[str]
    # None: all collections.
    collections: frozenset[str] | None


class Access:
    """The keys of a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def caller(self, _request: HTTPConnection) -> Caller:
        """Who asks.

        Raises:
            NotSignedIn: no key, or none that is valid.
        """
        raise NotSignedIn
