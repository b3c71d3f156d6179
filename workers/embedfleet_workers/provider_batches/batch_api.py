"""OpenAI's Batch API through the official client: files, batches, and what is said of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, TypeVar

from embedfleet_schema.accounts import account_of
from embedfleet_schema.catalogue.provider_batch_prices import PROVIDER, has_batch_api
from embedfleet_schema.errors import ExtraMissing, KeyMissing
from embedfleet_schema.settings import Settings
from embedfleet_workers.embedders.api.access import Access, access_to
from embedfleet_workers.embedders.api.providers.adapter import Faulty, Reply
from embedfleet_workers.embedders.api.providers.error_replies import complaint, error_reply
from embedfleet_workers.embedders.api.providers.openai_api import NO_KEY, OPENAI
from embedfleet_workers.embedding_errors import BatchApiError

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

log = logging.getLogger(__name__)

# What a batch carries, so that it is found again when its id was lost with the process.
MARK = "embedfleet_file"
# A file of 200 MB over a slow line, and the time that the provider then takes to answer.
TRANSFER_S = 600.0
# Clocks of the provider and of the database differ by less.
SKEW = timedelta(hours=1)
# Batches that are looked through for one of ours.
MOST_LISTED = 2_000
# An answer of 3,072 numbers is 70 KB at the most.
LONGEST_LINE = 4_000_000
_PIECE = 1 << 16

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Fault:
    """What the provider said of a whole batch; `message` may quote a text."""

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as the provider describes it."""

    id: str
    status: str
    input_file_id: str | None
    output_file_id: str | None
    error_file_id: str | None
    faults: tuple[Fault, ...] = ()

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "expired", "cancelled")

    @property
    def answer_files(self) -> list[str]:
        return [each for each in (self.output_file_id, self.error_file_id) if each]


class NotDone(BatchApiError):
    """The batch API of {provider} reported an error: {reason}."""

    def __init__(self, reply: Reply, fault: Fault, status: int | None = None) -> None:
        self.reply = reply
        self.fault = fault
        answered = f"it answered {status}" + (f" ({fault.code})" if fault.code else "")
        reason = reply.reason if isinstance(reply, Faulty) and status is None else answered
        super().__init__(provider=PROVIDER, reason=reason)


class BatchApi:
    """One account at OpenAI, or at a server that speaks its protocol. For one thread.

    Every call raises NotDone with what the provider said.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is sent before the first call.

        Raises:
            KeyMissing: this process was given no key.
            ExtraMissing: the official client is not installed.
        """
        base_url = settings.openai_base_url or OPENAI
        given = settings.openai_api_key
        self.key = given.get_secret_value() if given is not None else ""
        self.account = account_of(self.key, base_url)
        if not self.key and base_url == OPENAI:
            raise KeyMissing(
                provider=PROVIDER, model="provider batches", variable="EMBEDFLEET_OPENAI_API_KEY"
            )
        access = access_to(PROVIDER, base_url, settings)
        self._client = _official_client(
            self.key or NO_KEY, base_url, settings.api_timeout_s, access
        )
        self._settings = settings

    def close(self) -> None:
        self._client.close()

    def may_know(self, account: str | None) -> bool:
        """Whether "not found" means anything of what was filed with `account`."""
        return account in (None, self.account)

    def serves(self, model: str) -> bool:
        """Whether there may be a batch API for `provider/model`."""
        return has_batch_api(model, self._settings)

    def upload(self, name: str, file: IO[bytes]) -> str:
        """Send a file, piece by piece; returns the provider's id of it."""
        client = self._client.with_options(timeout=TRANSFER_S)
        made = self._ask(lambda: client.files.create(file=(name, file), purpose="batch"))
        return str(_field(made, "id"))

    def create(self, input_file_id: str, token: str) -> RemoteBatch:
        made = self._ask(
            lambda: self._client.batches.create(
                input_file_id=input_file_id,
                endpoint="/v1/embeddings",
                completion_window="24h",
                metadata={MARK: token},
            )
        )
        return _remote(made)

    def retrieve(self, remote_batch_id: str) -> RemoteBatch:
        return _remote(self._ask(lambda: self._client.batches.retrieve(remote_batch_id)))

    def find(self, token: str, since: datetime) -> RemoteBatch | None:
        """The batch that carries `token`, if one was made since then."""
        return self._ask(lambda: self._found(token, (since - SKEW).timestamp()))

    def cancel(self, remote_batch_id: str) -> None:
        self._ask(lambda: self._client.batches.cancel(remote_batch_id))

    def lines(self, file_id: str) -> Iterator[bytes]:
        """The lines of a file as they arrive, without their ends."""
        import httpx2
        import openai

        client = self._client.with_options(timeout=TRANSFER_S)
        try:
            with client.files.with_streaming_response.content(file_id) as answer:
                yield from _split(answer.iter_bytes(_PIECE))
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise self._not_done(error) from error

    def delete(self, file_id: str) -> None:
        self._ask(lambda: self._client.files.delete(file_id))

    def forget(self, *file_ids: str | None) -> None:
        """Delete what is not needed any more, as far as the provider lets us."""
        for file_id in filter(None, file_ids):
            try:
                self.delete(file_id)
            except BatchApiError as error:
                log.info("file %s stays at the provider: %s", file_id, error)

    def forget_named(self, name: str) -> None:
        """Delete one of the newest files by its name: its id was lost with the process."""
        with contextlib.suppress(BatchApiError):
            newest = self._ask(lambda: self._client.files.list(purpose="batch", limit=100).data)
            self.forget(*(each.id for each in newest if each.filename == name))

    def _found(self, token: str, since: float) -> RemoteBatch | None:
        for number, batch in enumerate(self._client.batches.list(limit=100)):
            if batch.created_at < since or number >= MOST_LISTED:
                return None
            if (batch.metadata or {}).get(MARK) == token:
                return _remote(batch)
        return None

    def _ask(self, call: Callable[[], Result]) -> Result:
        import openai

        try:
            return call()
        except openai.OpenAIError as error:
            raise self._not_done(error) from error

    def _not_done(self, error: Exception) -> NotDone:
        import openai

        if not isinstance(error, openai.APIStatusError):
            cause = error.__cause__ or error
            return NotDone(Faulty(f"the connection failed ({type(cause).__name__})"), Fault(""))
        refused = error.response
        with contextlib.suppress(Exception):
            # Of a streamed answer the body is still to be read.
            refused.read()
            said = complaint(refused.content)
            reply = error_reply(refused.status_code, refused.headers, refused.content, key=self.key)
            return NotDone(reply, Fault(said.code, said.message), refused.status_code)
        return NotDone(Faulty(f"it answered {refused.status_code}"), Fault(""), refused.status_code)


def _official_client(key: str, base_url: str, timeout_s: float, access: Access) -> OpenAI:
    try:
        import httpx2
        from openai import OpenAI
    except ImportError as error:
        raise ExtraMissing(feature="its provider's batch API", extra="api") from error
    # The client of its own would follow redirects, with the file.
    client = httpx2.Client(follow_redirects=False, timeout=timeout_s, **access.options())
    return OpenAI(
        api_key=key, base_url=base_url, max_retries=0, timeout=timeout_s, http_client=client
    )


def _remote(batch: Batch) -> RemoteBatch:
    errors = getattr(batch, "errors", None)
    return RemoteBatch(
        id=str(_field(batch, "id")),
        status=str(_field(batch, "status")),
        input_file_id=getattr(batch, "input_file_id", None),
        output_file_id=getattr(batch, "output_file_id", None),
        error_file_id=getattr(batch, "error_file_id", None),
        faults=tuple(
            Fault(each.code or "", each.message or "") for each in (errors and errors.data) or ()
        ),
    )


def _field(answer: Any, name: str) -> Any:  # noqa: ANN401 - servers answer what they like
    """A field that must be there; a page of HTML with status 200 has none."""
    found = getattr(answer, name, None)
    if not found:
        raise NotDone(Faulty(f"its answer has no {name}"), Fault(""))
    return found


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    r"""Lines by their `\n` alone: a text may hold other characters that end lines."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise NotDone(Faulty("a line of its file has no end"), Fault(""))
        yield from filter(None, whole)
    if rest:
        yield rest
