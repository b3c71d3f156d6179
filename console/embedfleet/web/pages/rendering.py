"""From what a page knows to HTML: everything that is put in is escaped, and nothing is inline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from embedfleet.progress import duration
from embedfleet_schema.amounts import quantity, volume
from embedfleet_schema.money import money

# All pages are below it, beside the API.
ROOT = "/console"
# A page runs no script and shows no picture but ours, and sends its forms nowhere else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not less: without a referrer, a browser does not say where a form comes from either.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".txt": "text/plain",
    ".svg": "image/svg+xml",
}

# So much of a text is shown in a list.
EXCERPT = 300


@dataclass(frozen=True, slots=True)
class Page:
    """A page to be shown: its template, and what that is told."""

    template: str
    told: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Redirect:
    """To be sent on to another page."""

    to: str


def at(*parts: object, **query: object) -> str:
    """The address of a page; parts are names and numbers, and what may be anything is a query."""
    path = "/".join([ROOT, *map(str, parts)])
    named = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(named, errors='surrogatepass')}" if named else path


def rendered(page: Page, common: Mapping[str, Any]) -> Response:
    content = _environment().get_template(page.template).render(**common, **page.told)
    return Response(
        content.encode(errors="replace"),
        page.status,
        {**HEADERS, "Cache-Control": "no-store"},
        "text/html",
    )


def static(name: str) -> Response:
    """A style, a script, or the licence of one."""
    if name not in _static():
        return Response("There is no such file.", 404, HEADERS, "text/plain")
    suffix = "." + name.rpartition(".")[2]
    kept = {"Cache-Control": "public, max-age=86400"}
    return Response(_static()[name], 200, {**HEADERS, **kept}, _TYPES[suffix])


def address_of_static(name: str) -> str:
    """With a digest of the file, so that a browser does not keep a former one."""
    return at("static", name, v=sha256(_static()[name]).hexdigest()[:12])


def excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT].rstrip()} ..."


@cache
def _static() -> Mapping[str, bytes]:
    ours = files("embedfleet.web.pages") / "static"
    found = [*ours.iterdir(), *(ours / "vendor").iterdir()]
    return {each.name: each.read_bytes() for each in found if each.is_file()}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("embedfleet.web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(at=at, number=_number, quantity=quantity, static=address_of_static)
    made.filters.update(
        count=lambda number: f"{number:,}",
        duration=duration,
        excerpt=excerpt,
        json=lambda value: json.dumps(value, ensure_ascii=False),
        money=money,
        volume=volume,
        when=_when,
    )
    return made


def _number(amount: float | None) -> str:
    return "" if not amount else f"{amount:,.0f}"


def _when(at_time: datetime) -> str:
    return f"{at_time.astimezone():%Y-%m-%d %H:%M:%S}"
