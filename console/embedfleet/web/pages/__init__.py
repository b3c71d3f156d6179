"""The page: what a fleet does and holds, for a browser. HTML is made here, and renews itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from embedfleet.web.console import Console


def routes(console: Console) -> list[BaseRoute]:
    """Every path of the page. `console.sessions` says who may look."""
    from embedfleet.web.pages.routing import routes_of

    return routes_of(console)
