"""What a collection finds: the nearest chunks with their SQL, duplicates, a map."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.cli.parameters import parse_filter
from embedfleet.collection import Collection
from embedfleet.query_texts import check_visible
from embedfleet.vector_map.projection import placed
from embedfleet.web.pages.rendering import Page
from embedfleet.web.pages.visits import Visit
from embedfleet_schema.errors import EmbedfleetError, NotAnswered, UsageError
from embedfleet_schema.hits import Hit
from embedfleet_schema.store import query_requests, samples
from embedfleet_schema.store.samples import Point

HITS, MOST_HITS = 10, 100
THRESHOLD = 0.95
# Each vector's neighbours are looked for: those of so many take seconds.
MOST_VECTORS, MOST_PAIRS = 20_000, 200
POINTS, BEGINNING = 1_000, 120
MAP_WIDTH, MAP_HEIGHT, MARGIN = 600, 420, 10
# Colours that a person can tell apart; what has another value is grey.
COLOURS, NONE = 6, "(none)"
LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, and the statement that gives the same rows."""

    hits: Sequence[Hit]
    sql: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Dot:
    """A chunk on the map; `colour` is the number of its group, None for grey."""

    x: float
    y: float
    point: Point
    colour: int | None


def search(visit: Visit) -> Page:
    """The chunks nearest to a text, their scores, and the SQL of what was asked."""
    collection = visit.fleet.collection(visit.parts["name"])
    text, where = visit.text("q"), visit.text("where")
    told: dict[str, Any] = {
        "info": collection.info,
        "q": text,
        "where": where,
        "k": visit.text("k") or HITS,
        "found": None,
        "problem": "",
    }
    if not text:
        return Page("search.html", told)
    try:
        k = visit.number("k", HITS, most=MOST_HITS) or HITS
        told["found"] = _searched(visit, collection, text, k, where)
    except (UsageError, NotAnswered) as error:
        told["problem"] = str(error)
        return Page("search.html", told, 400 if isinstance(error, UsageError) else 503)
    return Page("search.html", told)


def duplicates(visit: Visit) -> Page:
    """Pairs of chunks that are nearly the same, once they are asked for."""
    collection = visit.fleet.collection(visit.parts["name"])
    typed = visit.text("threshold")
    told: dict[str, Any] = {
        "info": collection.info,
        "threshold": typed or THRESHOLD,
        "pairs": None,
        "left_out": 0,
        "too_many": 0,
        "most": MOST_VECTORS,
        "problem": "",
    }
    if not typed:
        return Page("duplicates.html", told)
    try:
        told["threshold"] = threshold = _threshold(typed)
        vectors = collection.counts().vectors
        if vectors > MOST_VECTORS:
            return Page("duplicates.html", told | {"too_many": vectors})
        found = collection.duplicates(threshold)
    except UsageError as error:
        return Page("duplicates.html", told | {"problem": str(error)}, 400)
    told |= {"pairs": found[:MOST_PAIRS], "left_out": max(0, len(found) - MOST_PAIRS)}
    return Page("duplicates.html", told)


def drawn_map(visit: Visit) -> Page:
    """Some chunks as points on a plane: near ones mean much the same."""
    collection = visit.fleet.collection(visit.parts["name"])
    field = visit.text("color")
    told: dict[str, Any] = {
        "info": collection.info,
        "color": field,
        "dots": [],
        "legend": [],
        "total": 0,
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
        "problem": "",
    }
    try:
        points, vectors, total = samples.points(
            visit.fleet.db, collection.info, field=field, limit=POINTS, characters=BEGINNING
        )
    except UsageError as error:
        return Page("map.html", told | {"problem": str(error)}, 400)
    if points:
        legend = _legend(points) if field else []
        told |= {"dots": _dots(points, vectors, legend), "legend": legend, "total": total}
    return Page("map.html", told)


def _searched(visit: Visit, collection: Collection, text: str, k: int, where: str) -> Found:
    wanted = parse_filter((), where or None)
    began = time.monotonic()
    vector = _vector(visit, collection, text)
    hits = collection.search(vector, k=k, where=wanted)
    taken = 1_000 * (time.monotonic() - began)
    return Found(hits, collection.search_script(vector, k=k, where=wanted), taken)


def _vector(visit: Visit, collection: Collection, text: str) -> NDArray[np.float32]:
    """The vector of a text, from a worker where the model is one that has to be loaded: this
    process loads none.

    Raises:
        NotAnswered: no worker serves the model.
        UnreadableQuery: the text is blank, or the model knows none of its words.
    """
    if collection.info.space.provider != "local":
        try:
            return collection.embed_query(text)
        except (NotAnswered, UsageError):
            raise
        except EmbedfleetError as error:
            raise NotAnswered(reason=str(error).rstrip(".")) from error
    check_visible(text)
    return query_requests.vector_of(visit.fleet.db, collection.info, text)


def _threshold(typed: str) -> float:
    try:
        return float(typed)
    except ValueError:
        raise UsageError(reason="a threshold is a number, such as 0.95") from None


def _legend(points: Sequence[Point]) -> list[str]:
    """The values that occur most, the most frequent first."""
    counted = Counter(name for point in points if (name := _name(point)) != NONE)
    return [name for name, _ in counted.most_common(COLOURS)]


def _name(point: Point) -> str:
    if point.value is None:
        return NONE
    name = str(point.value)
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."


def _dots(points: Sequence[Point], vectors: NDArray[np.float32], legend: list[str]) -> list[Dot]:
    places = placed(vectors, "pca")
    places = places - places.min(axis=0)
    room = np.array([MAP_WIDTH, MAP_HEIGHT]) - 2 * MARGIN
    taken = np.maximum(places.max(axis=0), np.finfo(np.float32).tiny)
    scaled = places * (room / taken).min()
    # In the middle of the longer side.
    scaled += MARGIN + (room - scaled.max(axis=0)) / 2
    return [
        Dot(
            round(float(x), 1),
            round(float(y), 1),
            point,
            legend.index(_name(point)) if _name(point) in legend else None,
        )
        for point, (x, y) in zip(points, scaled, strict=True)
    ]
