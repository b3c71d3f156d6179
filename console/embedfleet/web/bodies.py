"""Bodies of requests: never larger, slower or deeper than is good for the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NoReturn

from embedfleet.web.web_errors import BadRequest, TooLarge, TooSlow

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_JSON_BYTES = 8_000_000
# All of a JSON body comes within this; a stream goes on as long as something comes.
JSON_S = 20.0
STALL_S = 30.0
# A stream may trickle for a minute, then it brings so much on average.
TRICKLE_S, BYTES_PER_S = 60.0, 100


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        BadRequest, TooLarge, TooSlow: there is none.
    """
    taken = bytearray()
    try:
        async with asyncio.timeout(JSON_S):
            async for piece in limited(request, MOST_JSON_BYTES):
                taken += piece
    except TimeoutError:
        raise TooSlow from None
    try:
        found = json.loads(taken.decode(), parse_constant=_no_number)
        # What has no UTF-8, as half of a surrogate pair, is text for nobody.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        kind = "nested too deeply" if isinstance(error, RecursionError) else "no valid JSON"
        raise BadRequest(reason=f"The body is {kind}.") from error
    if not isinstance(found, dict):
        raise BadRequest(reason="The body must be a JSON object.")
    return found


async def limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """A body in pieces.

    Raises:
        TooLarge, TooSlow: it is not read on.
        ClientDisconnect: it broke off.
    """
    if int(request.headers.get("content-length") or 0) > most:
        raise TooLarge(most=most)
    loop = asyncio.get_running_loop()
    began, size = loop.time(), 0
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise TooSlow from None
        if piece is None:
            return
        size += len(piece)
        if size > most:
            raise TooLarge(most=most)
        waited_s = loop.time() - began
        if waited_s > TRICKLE_S and size < waited_s * BYTES_PER_S:
            raise TooSlow
        yield piece


def only(body: dict[str, Any], known: set[str]) -> None:
    """Raise BadRequest about fields that mean nothing here: they may be mistyped."""
    if unknown := sorted(body.keys() - known):
        raise BadRequest(
            reason=f"There is no field {unknown[0][:63]!r} here. Known: {', '.join(sorted(known))}."
        )


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
