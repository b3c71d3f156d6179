"""The application: the routes of the API, and those of the page where it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from embedfleet.web import api
from embedfleet.web.console import Console
from embedfleet.web.guards import Guard
from embedfleet.web.refusals import of_starlette

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute


def create_app(console: Console, *, hosts: frozenset[str] | None = None) -> Starlette:
    """The ASGI application of a console, which ends with it.

    Args:
        hosts: the names that a request may have been sent to; None for any.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await console.close()

    return Starlette(
        routes=[*api.routes(console), *_page_routes(console)],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: of_starlette},
        lifespan=lifespan,
    )


def _page_routes(console: Console) -> list[BaseRoute]:
    if console.sessions is None or find_spec("embedfleet.web.pages") is None:
        return []
    found: list[BaseRoute] = import_module("embedfleet.web.pages").routes(console)
    return found
