"""`POST /v1/embeddings` in OpenAI's dialect, and `GET /v1/models`."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embedfleet.web.bodies import json_object
from embedfleet.web.web_errors import BadRequest, NotFound, TextTooLong
from embedfleet_schema.visible_text import has_text

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from embedfleet.web.access import Caller
    from embedfleet.web.console import Console
    from embedfleet_schema.store.text_requests import Answer
    from embedfleet_schema.types import CollectionInfo, Kind

# OpenAI takes as many.
MOST_TEXTS = 2_048
MOST_CHARACTERS = 200_000
TOKENS = (
    "is an array of tokens, and nothing says of which tokenizer. Send the text itself"
    " (LangChain does with check_embedding_ctx_length=False)."
)
# Vectors that are written out at once.
FEW = 8
Result = TypeVar("Result")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for."""

    model: str
    texts: list[str]
    kind: Kind
    as_base64: bool
    dimensions: int | None
    truncate: bool


def read(body: dict[str, Any]) -> Wanted:
    """What a body asks for. Fields that it does not name (`user`) are left to other servers.

    Raises:
        BadRequest: a field is wrong.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest(reason="model must be the name of a collection, or of its model.")
    form = _choice(body, "encoding_format", ("float", "base64"))
    kind = _choice(body, "input_type", ("query", "document"))
    dimensions = body.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        raise BadRequest(reason="dimensions must be a whole number above 0.")
    truncate = body.get("truncate")
    if truncate is not None and not isinstance(truncate, bool):
        raise BadRequest(reason="truncate must be true or false.")
    return Wanted(
        model=model,
        texts=_texts(body.get("input")),
        kind="document" if kind == "document" else "query",
        as_base64=form == "base64",
        dimensions=dimensions,
        truncate=bool(truncate),
    )


def _choice(body: dict[str, Any], name: str, words: tuple[str, str]) -> str:
    found = body.get(name)
    if found is None:
        return words[0]
    if found not in words:
        raise BadRequest(reason=f"{name} must be {words[0]} or {words[1]}.")
    return str(found)


def _texts(given: object) -> list[str]:
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise BadRequest(reason="input must be a text, or a list of texts that is not empty.")
    if len(given) > MOST_TEXTS:
        raise BadRequest(reason=f"input has {len(given):,} texts; at most {MOST_TEXTS:,} at once.")
    for place, each in enumerate(given):
        if isinstance(each, int | list) and not isinstance(each, bool):
            raise BadRequest(reason=f"input[{place}] {TOKENS}")
        if not isinstance(each, str):
            raise BadRequest(reason=f"input[{place}] is no text.")
        if not has_text(each):
            raise BadRequest(reason=f"input[{place}] has no visible text.")
        if "\0" in each:
            raise BadRequest(reason=f"input[{place}] has the character NUL, which is no text.")
        if len(each) > MOST_CHARACTERS:
            reason = f"has more than {MOST_CHARACTERS:,} characters"
            raise BadRequest(reason=f"input[{place}] {reason}.")
    return given


async def model_of(console: Console, caller: Caller, name: str) -> CollectionInfo:
    """The collection that a client names, or one of the model that it names.

    Raises:
        NotFound: there is neither.
        BadRequest: several differ: only the name of a collection tells.
    """
    try:
        return (await console.access.collection(caller, name)).info
    except NotFound:
        infos = await console.access.collections(caller)
    found = [each for each in infos if name in (each.space.name, each.space.model)]
    if not found:
        raise NotFound(what="collection or model", name=name[:100])
    if len({each.space_id for each in found}) > 1:
        names = ", ".join(each.name for each in found[:5])
        raise BadRequest(
            reason=f"{name[:100]} has several spaces here. Name a collection: {names}."
        )
    return found[0]


async def embeddings(console: Console, request: Request) -> Response:
    """The vectors of texts, from the workers."""
    from starlette.responses import Response

    caller = await console.access.caller(request, "embeddings")
    wanted = read(await json_object(request))
    info = await model_of(console, caller, wanted.model)
    space = info.space
    if wanted.dimensions not in {None, space.dimensions}:
        raise BadRequest(
            reason=f"The vectors of {wanted.model} have {space.dimensions} dimensions, not"
            f" {wanted.dimensions}: they are stored so."
        )
    asked = console.vectors.of(info, wanted.texts, wanted.kind)
    answers = await unless_gone(request, asked)
    if not wanted.truncate:
        check_lengths(answers, space.max_tokens)
    if len(answers) <= FEW:
        content = rendered(wanted, answers)
    else:
        content = await console.calls.run(rendered, wanted, answers)
    return Response(content, media_type="application/json")


def rendered(wanted: Wanted, answers: Sequence[Answer]) -> bytes:
    """The answer, as JSON: of many vectors it takes long."""
    tokens = sum(each.tokens or 0 for each in answers)
    found = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": n, "embedding": shown(each, wanted.as_base64)}
            for n, each in enumerate(answers)
        ],
        "model": wanted.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def check_lengths(answers: Sequence[Answer], most: int) -> None:
    """Raise TextTooLong where a vector stands for the beginning of its text alone."""
    longest = max(each.tokens or 0 for each in answers)
    if most and longest > most:
        raise TextTooLong(tokens=longest, most=most)


def shown(answer: Answer, as_base64: bool) -> str | list[float]:
    """A vector as numbers, or as float32 of the least byte first in base64."""
    if as_base64:
        return base64.b64encode(answer.array.astype(np.dtype("<f4")).tobytes()).decode()
    # The shortest decimals that are read back as the same float32.
    return [float(str(each)) for each in answer.array]


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """What comes of the work, which ends where the client leaves.

    Raises:
        ClientGone: it left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def models(console: Console, request: Request) -> Response:
    """The collections that may be named as the model."""
    from starlette.responses import JSONResponse

    caller = await console.access.caller(request, "embeddings")
    infos = await console.access.collections(caller)
    return JSONResponse(
        {
            "object": "list",
            "data": [
                {
                    "id": each.name,
                    "object": "model",
                    "created": int(each.created_at.timestamp()),
                    "owned_by": each.space.name,
                    "dimensions": each.space.dimensions,
                    "max_tokens": each.space.max_tokens,
                }
                for each in infos
            ],
        }
    )
