"""`GET /jobs/{id}`: where a job stands, once or until it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from embedfleet.cli.output import status_json
from embedfleet.web.refusals import answer_to
from embedfleet.web.web_errors import NotFound, TooBusy
from embedfleet_schema.types import LARGEST_ID

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from embedfleet.job import Job
    from embedfleet.web.console import Console

# Of a stream: between two looks, and between two signs of life.
LOOK_S, ALIVE_S = 1.0, 15.0
MOST_STREAMS = 64
HIDDEN = {"reason", "resume"}


class JobRoutes:
    """Counts the streams that are open."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._streams = 0

    async def job(self, request: Request) -> Response:
        """A job as JSON, or its progress as server-sent events."""
        from starlette.responses import JSONResponse, StreamingResponse

        console = self._console
        caller = await console.access.caller(request, "documents")
        number = request.path_params["id"]
        if not number.isdecimal() or not number.isascii() or not 0 < int(number[:20]) <= LARGEST_ID:
            raise NotFound(what="job", name=number[:20])
        job = await console.access.job(caller, int(number))
        if "text/event-stream" not in request.headers.get("accept", ""):
            return JSONResponse(await console.calls.run(shown, job))
        if self._streams >= MOST_STREAMS:
            raise TooBusy
        return StreamingResponse(self._progress(job), media_type="text/event-stream")

    async def _progress(self, job: Job) -> AsyncIterator[str]:
        """Each change of a job, until it has ended; whoever leaves ends it, too."""
        self._streams += 1
        try:
            last, told_at = "", 0.0
            loop = asyncio.get_running_loop()
            while True:
                status = await self._console.calls.run(shown, job)
                said = json.dumps(status)
                if status["finished"]:
                    yield f"event: end\ndata: {said}\n\n"
                    return
                if said != last:
                    last, told_at = said, loop.time()
                    yield f"event: progress\ndata: {said}\n\n"
                elif loop.time() - told_at > ALIVE_S:
                    told_at = loop.time()
                    yield ": still here\n\n"
                await asyncio.sleep(LOOK_S)
        except Exception as error:  # noqa: BLE001 - the answer has begun, so it ends with the error
            yield f"event: error\ndata: {bytes(answer_to(error).body).decode()}\n\n"
        finally:
            self._streams -= 1


def shown(job: Job) -> dict[str, Any]:
    """A job as `--json` shows it, but for what speaks to who runs the fleet."""
    status = {name: each for name, each in status_json(job.status).items() if name not in HIDDEN}
    plain: dict[str, Any] = json.loads(json.dumps(status, default=str))
    return plain
