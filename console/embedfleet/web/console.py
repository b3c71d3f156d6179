"""What the routes of the API and of the page share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedfleet.web.access import Access
from embedfleet.web.calls import Calls
from embedfleet.web.sessions import Sessions
from embedfleet.web.vectors import TextVectors

if TYPE_CHECKING:
    from embedfleet.fleet import Fleet


class Console:
    """A fleet as one HTTP process shows it."""

    def __init__(
        self,
        fleet: Fleet,
        sessions: Sessions | None = None,
        *,
        allow_actions: bool = False,
        secure: bool = False,
    ) -> None:
        """`sessions`: whom the page lets in; None serves the API alone. `allow_actions`: whether
        the page may do more than show. `secure`: it is reached by HTTPS, and cookies go nowhere
        else.
        """
        self.fleet = fleet
        self.sessions = sessions
        self.allow_actions = allow_actions
        self.secure = secure
        # Every call of the fleet goes through this: it blocks, and the loop must not.
        self.calls = Calls()
        self.access = Access(fleet, self.calls)
        self.vectors = TextVectors(fleet.db)

    async def close(self) -> None:
        """Give back threads and connections of its own; the fleet stays open."""
        await self.vectors.close()
        self.calls.close()
