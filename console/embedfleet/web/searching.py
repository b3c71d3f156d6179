"""`POST /collections/{name}/search`: by a text or a vector, with a filter, and with words."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from embedfleet import arguments
from embedfleet.web.bodies import json_object, only
from embedfleet.web.embeddings import MOST_CHARACTERS, unless_gone
from embedfleet.web.web_errors import BadRequest
from embedfleet_schema.store import related
from embedfleet_schema.visible_text import has_text

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from embedfleet.collection import Collection
    from embedfleet.web.console import Console
    from embedfleet_schema.hits import Hit

FIELDS = {"query", "vector", "k", "filter", "min_score", "hybrid"}
MOST_HITS = 1_000
# Of a vector: pgvector's most, and what float32 holds.
MOST_NUMBERS, LARGEST = 16_000, 3.4e38
HYBRID: dict[str, object] = {
    "language": None,
    "text_weight": 1.0,
    "vector_weight": 1.0,
    "constant": 60,
}


async def search(console: Console, request: Request) -> Response:
    """Hits, best first."""
    from starlette.responses import JSONResponse

    caller = await console.access.caller(request, "search")
    collection = await console.access.collection(caller, request.path_params["name"])
    body = await json_object(request)
    _check(body)
    query = body.get("query")
    if query is not None:
        asked = console.vectors.of(collection.info, [query], "query")
        (answer,) = await unless_gone(request, asked)
        vector: Any = answer.array
    else:
        vector = arguments.vector(collection.info.space.name, body["vector"])
    hits = await console.calls.run(_hits, console, collection, body, vector)
    return JSONResponse({"hits": [asdict(hit) for hit in hits]})


def _check(body: dict[str, Any]) -> None:
    only(body, FIELDS)
    query, vector = body.get("query"), body.get("vector")
    if (query is None) == (vector is None):
        raise BadRequest(reason="Give either query, a text, or vector, a list of numbers.")
    if query is not None:
        if not isinstance(query, str) or "\0" in query or len(query) > MOST_CHARACTERS:
            raise BadRequest(
                reason=f"query must be a text of up to {MOST_CHARACTERS:,} characters."
            )
        if not has_text(query):
            raise BadRequest(reason="query has no visible text.")
    if vector is not None and not _is_vector(vector):
        raise BadRequest(reason=f"vector must be a list of up to {MOST_NUMBERS:,} finite numbers.")
    arguments.whole("search", "k", body.get("k", 10), most=MOST_HITS)
    arguments.where(body.get("filter"))
    arguments.score("search", "min_score", body.get("min_score"))
    hybrid = body.get("hybrid", False)
    if not isinstance(hybrid, bool) or (hybrid and query is None):
        raise BadRequest(reason="hybrid must be true or false, and needs query.")


def _is_vector(given: object) -> bool:
    return (
        isinstance(given, list)
        and 0 < len(given) <= MOST_NUMBERS
        and all(type(each) in {int, float} and abs(each) < LARGEST for each in given)
    )


def _hits(
    console: Console,
    collection: Collection,
    body: dict[str, Any],
    vector: Any,  # noqa: ANN401
) -> list[Hit]:
    k, where, least = body.get("k", 10), body.get("filter"), body.get("min_score")
    if not body.get("hybrid"):
        return collection.search(vector, k=k, where=where, min_score=least)
    options = HYBRID | {"k": k}
    found = related.hybrid_search(
        console.fleet.db, collection.info, body["query"], vector, where=where, options=options
    )
    return [hit for hit in found if least is None or hit.score >= least]
