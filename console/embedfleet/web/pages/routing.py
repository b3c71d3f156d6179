"""Which handler answers which path."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from embedfleet.web.console import Console
from embedfleet.web.pages import (
    collection_pages,
    document_pages,
    fleet_pages,
    job_pages,
    search_pages,
    visits,
)
from embedfleet.web.pages.rendering import HEADERS, ROOT, at, static
from embedfleet.web.pages.visits import Handler

LOOKS: dict[str, Handler] = {
    "/overview": fleet_pages.overview,
    "/workers": fleet_pages.workers,
    "/limits": fleet_pages.limits,
    "/money": fleet_pages.money,
    "/jobs": job_pages.jobs,
    "/jobs/{job:int}": job_pages.job,
    "/failures": collection_pages.failing,
    "/find": document_pages.find,
    "/collections": collection_pages.collections,
    "/collections/{name}": collection_pages.collection,
    "/collections/{name}/documents": collection_pages.documents,
    "/collections/{name}/document": document_pages.document,
    "/collections/{name}/failures": collection_pages.failures,
    "/collections/{name}/search": search_pages.search,
    "/collections/{name}/duplicates": search_pages.duplicates,
    "/collections/{name}/map": search_pages.drawn_map,
}
ACTIONS: dict[str, Handler] = {
    "/jobs/{job:int}/pause": job_pages.pause,
    "/jobs/{job:int}/resume": job_pages.resume,
    "/jobs/{job:int}/cancel": job_pages.cancel,
    "/models/resume": fleet_pages.resume_model,
    "/collections/{name}/retry": collection_pages.retry,
}


def routes_of(console: Console) -> list[BaseRoute]:
    """Every path of the page."""
    looks = [
        Route(ROOT + path, visits.page(console, handler), methods=["GET"])
        for path, handler in LOOKS.items()
    ]
    actions = [
        Route(ROOT + path, visits.action(console, handler), methods=["POST"])
        for path, handler in ACTIONS.items()
    ]
    return [
        Route("/", _to_overview, methods=["GET"]),
        Route(ROOT, _to_overview, methods=["GET"]),
        Route(f"{ROOT}/", _to_overview, methods=["GET"]),
        Route(at("login"), visits.login(console), methods=["GET", "POST"]),
        Route(at("logout"), visits.logout(console), methods=["POST"]),
        Route(f"{ROOT}/static/{{name}}", _static, methods=["GET"]),
        *looks,
        *actions,
    ]


async def _to_overview(_request: Request) -> Response:
    return RedirectResponse(at("overview"), 303, HEADERS)


async def _static(request: Request) -> Response:
    return static(request.path_params["name"])
