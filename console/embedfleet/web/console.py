"""What the routes of the API and of the page share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedfleet.web.access import Access
from embedfleet.web.calls import Calls
from embedfleet.web.sessions import Sessions

if TYPE_CHECKING:
    from embedfleet.fleet import Fleet


@dataclass(frozen=True)
class Console:
    """A fleet as one HTTP process shows it."""

    fleet: Fleet
    # Whom the page lets in; None serves the API alone.
    sessions: Sessions | None
    # Whom the API lets in.
    access: Access
    # Whether the page may do more than show.
    allow_actions: bool = False
    # Whether it is reached by HTTPS: cookies go nowhere else then.
    secure: bool = False
    # Every call of the fleet goes through this: it blocks, and the loop must not.
    calls: Calls = field(default_factory=Calls)
