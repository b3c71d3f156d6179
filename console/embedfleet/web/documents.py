"""`POST /collections/{name}/documents`: a stream of NDJSON becomes a job."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from embedfleet.api_keys import digest
from embedfleet.web.bodies import limited
from embedfleet.web.web_errors import BadRequest, Conflict, KeyReused, TooBusy
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.rejections import FileRejected
from embedfleet_producer.readers.rows import Rows
from embedfleet_producer.readers.tables import read_jsonl
from embedfleet_schema.store.idempotency import LEASE_S, Former, Once
from embedfleet_schema.types import Document, Rejection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from starlette.requests import Request
    from starlette.responses import Response

    from embedfleet.collection import Collection
    from embedfleet.job import Job
    from embedfleet.web.access import Caller
    from embedfleet.web.console import Console

MOST_BYTES = 4_000_000_000
# Each has a thread, and a transaction per window.
MOST_UPLOADS = 4
MOST_LISTED = 1_000
PARAMETERS = {"source", "tenant", "lane", "replace"}
NAME = "body"
COUNTS = ("documents", "unchanged", "rejected", "chunks", "reused", "awaited", "batches")
# Pieces of a body that are read ahead of the one that is cut.
AHEAD = 4
LOOK_S = 0.5


class DocumentRoutes:
    """Counts the uploads that are under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._uploads = 0

    async def add(self, request: Request) -> Response:
        """Enqueue the documents of a body, once for each idempotency key."""
        console = self._console
        caller = await console.access.caller(request, "documents")
        collection = await console.access.collection(caller, request.path_params["name"])
        options = _options(request)
        if self._uploads >= MOST_UPLOADS:
            raise TooBusy
        self._uploads += 1
        try:
            once = _once(console, caller, request)
            if once is None:
                job, _ = await self._enqueued(collection, request, options)
                return _answer(counts_of(job), job.id, _rejections(job))
            return await self._at_most_once(once, collection, request, options)
        finally:
            self._uploads -= 1

    async def _at_most_once(
        self, once: Once, collection: Collection, request: Request, options: dict[str, Any]
    ) -> Response:
        run = self._console.calls.run
        named = digest(repr((collection.info.id, sorted(options.items()))))
        former = await run(once.begin, named)
        if former is not None:
            return await self._again(former, named, collection, request)
        keeping = asyncio.create_task(self._kept(once))
        try:
            job, body = await self._enqueued(collection, request, options)
            await run(once.finish, body, counts_of(job), job.id)
        except BaseException:
            # What was stored stays; the same request again adds the rest.
            await asyncio.shield(run(once.give_up))
            raise
        finally:
            keeping.cancel()
        return _answer(counts_of(job), job.id, _rejections(job))

    async def _again(
        self, former: Former, named: bytes, collection: Collection, request: Request
    ) -> Response:
        """The answer that was given before, if it is the same request."""
        if former.request != named:
            raise KeyReused
        if former.body is None or former.counts is None or former.job_id is None:
            raise Conflict(reason="A request with this Idempotency-Key is under way.")
        body = hashlib.sha256()
        async for piece in limited(request, MOST_BYTES):
            body.update(piece)
        if body.digest() != former.body:
            raise KeyReused
        job_id = former.job_id
        found = await self._console.calls.run(collection.failures, job_id=job_id, limit=MOST_LISTED)
        rejections = [
            Rejection(each.document or NAME, each.code, each.reason)
            for each in found
            if each.position is None
        ]
        answer = _answer(former.counts, job_id, rejections)
        answer.headers["Idempotency-Replayed"] = "true"
        return answer

    async def _enqueued(
        self, collection: Collection, request: Request, options: dict[str, Any]
    ) -> tuple[Job, bytes]:
        """The job of a body, and the SHA-256 of all that came."""
        upload = Upload()
        feeding = asyncio.create_task(upload.feed(request))
        try:
            job = await collection.aenqueue(_verdicts(upload, options.get("source")), **options)
        finally:
            feeding.cancel()
            upload.stop()
            await asyncio.wait({feeding})
        return job, upload.body.digest()

    async def _kept(self, once: Once) -> None:
        """A long stream keeps its name."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with suppress(Exception):
                await self._console.calls.run(once.extend)


class Upload(io.RawIOBase):
    """A body that comes in an event loop, as a file for the thread that cuts it."""

    def __init__(self) -> None:
        self.body = hashlib.sha256()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(AHEAD)
        self._pieces: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._rest = b""
        self._ended = False

    async def feed(self, request: Request) -> None:
        """Read a body to its end; what goes wrong is raised in the thread."""
        try:
            async for piece in limited(request, MOST_BYTES):
                if piece:
                    await self._room.acquire()
                    self.body.update(piece)
                    self._pieces.put(piece)
            self._pieces.put(b"")
        except Exception as error:  # noqa: BLE001 - see above
            self._pieces.put(error)

    def stop(self) -> None:
        """Wake the thread: nothing more comes."""
        self._pieces.put(asyncio.CancelledError())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if not self._rest and not self._ended:
            self._rest = self._next()
        taken = self._rest[: len(view)]
        self._rest = self._rest[len(taken) :]
        view[: len(taken)] = taken
        return len(taken)

    def _next(self) -> bytes:
        while True:
            try:
                piece = self._pieces.get(timeout=LOOK_S)
                break
            except Empty:
                if self._loop.is_closed():
                    raise asyncio.CancelledError from None
        if isinstance(piece, BaseException):
            raise piece
        self._ended = not piece
        if piece:
            with suppress(RuntimeError):  # the loop was closed: the next look tells
                self._loop.call_soon_threadsafe(self._room.release)
        return piece


def _verdicts(upload: Upload, source: str | None) -> Iterator[Document | Rejection]:
    from embedfleet_schema.types import MAX_DOCUMENT_BYTES

    rows = Rows(NAME, ReadOptions(text_column="text", key_column="key", source=source), "http")
    try:
        for verdict in read_jsonl(io.BufferedReader(upload, 65_536), MAX_DOCUMENT_BYTES, rows):
            if isinstance(verdict, Document | Rejection):
                yield verdict
    except FileRejected as error:
        yield Rejection(NAME, error.code, error.reason)
    except UnicodeDecodeError:
        yield Rejection(NAME, "BAD_ENCODING", rows.bad_encoding)


def _options(request: Request) -> dict[str, Any]:
    """What the query of the URL says about all documents."""
    given = request.query_params
    for name in given:
        if name not in PARAMETERS or len(given.getlist(name)) > 1:
            known = ", ".join(sorted(PARAMETERS))
            raise BadRequest(reason=f"There is no parameter {name[:63]!r}, once. Known: {known}.")
    found: dict[str, Any] = {
        name: given[name] for name in ("source", "tenant", "lane") if name in given
    }
    for name, text in found.items():
        if not text or "\0" in text or len(text) > 1_000:  # noqa: PLR2004
            raise BadRequest(reason=f"{name} must be a text of up to 1,000 characters.")
    if "replace" in given:
        if given["replace"] not in ("true", "false"):
            raise BadRequest(reason="replace must be true or false.")
        found["replace"] = given["replace"] == "true"
    return found


def _once(console: Console, caller: Caller, request: Request) -> Once | None:
    name = request.headers.get("idempotency-key")
    if name is None:
        return None
    if not 0 < len(name) <= 255:  # noqa: PLR2004 - as Stripe's
        raise BadRequest(reason="Idempotency-Key must have 1 to 255 characters.")
    return Once(console.fleet.db, caller.key.id, digest(name))


def counts_of(job: Job) -> dict[str, int]:
    """What enqueueing did, in numbers."""
    found = asdict(job.enqueued) if job.enqueued is not None else {}
    return {name: found.get(name, 0) for name in COUNTS}


def _rejections(job: Job) -> list[Rejection]:
    return job.enqueued.rejections if job.enqueued is not None else []


def _answer(counts: dict[str, Any], job_id: int, rejections: list[Rejection]) -> Response:
    from starlette.responses import JSONResponse

    listed = [
        {"key": each.key, "code": each.code, "reason": each.reason}
        for each in rejections[:MOST_LISTED]
    ]
    where = {"Location": f"/jobs/{job_id}"}
    return JSONResponse({"job": job_id, **counts, "rejections": listed}, 202, where)
