"""The routes of the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from embedfleet.web.documents import DocumentRoutes
from embedfleet.web.embeddings import embeddings, models
from embedfleet.web.jobs import JobRoutes
from embedfleet.web.openapi import description
from embedfleet.web.searching import search

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from embedfleet.web.console import Console

Endpoint = Callable[["Console", "Request"], Awaitable["Response"]]


def routes(console: Console) -> list[BaseRoute]:
    """Each path of the API."""
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    def of(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            return await endpoint(console, request)

        return answered

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def openapi(_request: Request) -> Response:
        return JSONResponse(description())

    return [
        Route("/healthz", healthz),
        Route("/openapi.json", openapi),
        Route("/v1/embeddings", of(embeddings), methods=["POST"]),
        Route("/v1/models", of(models)),
        Route("/collections/{name}/documents", DocumentRoutes(console).add, methods=["POST"]),
        Route("/collections/{name}/search", of(search), methods=["POST"]),
        Route("/jobs/{id}", JobRoutes(console).job),
    ]
