"""The routes of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from embedfleet.web.console import Console


def routes(console: Console) -> list[BaseRoute]:  # noqa: ARG001
    """Each path of the API."""
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [Route("/healthz", healthz)]
