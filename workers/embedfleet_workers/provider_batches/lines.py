"""The lines of the files that go to and fro: one request each, and one answer each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from embedfleet_schema.types import Space
from embedfleet_workers.embedders.api.providers.adapter import Faulty, Reply
from embedfleet_workers.embedders.api.providers.error_replies import complaint, error_reply
from embedfleet_workers.embedders.api.providers.http_api import answer, openai_form
from embedfleet_workers.embedders.api.providers.openai_api import options_of
from embedfleet_workers.rate_limits.quota import Reading

_CUSTOM_ID = re.compile(r"(\d{1,18})-(\d{1,9})-(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """Whose line it is: a batch, the attempt that filed it, the place among the batch's texts."""

    batch: int
    attempt: int
    index: int

    def __str__(self) -> str:
        return f"{self.batch}-{self.attempt}-{self.index}"


@dataclass(frozen=True, slots=True)
class Line:
    """An answer. `code` is the provider's word for what went wrong."""

    address: Address
    reply: Reply
    code: str = ""


def request_line(address: Address, space: Space, text: str) -> bytes:
    """What is asked for one text, read as a document."""
    line = {
        "custom_id": str(address),
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {
            "model": space.model,
            "input": space.document_prompt + text,
            "encoding_format": "base64",
            **options_of(space),
        },
    }
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def read_line(raw: bytes, key: str) -> Line | None:
    """An answer, from the file of outputs or of errors; None where it is nobody's."""
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    found = read if isinstance(read, dict) else {}
    matched = _CUSTOM_ID.fullmatch(str(found.get("custom_id")))
    if matched is None:
        return None
    address = Address(*map(int, matched.groups()))
    response = found.get("response")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        body = json.dumps(response.get("body")).encode()
        return _answered(address, response["status_code"], body, key)
    code = complaint(json.dumps({"error": found.get("error")}).encode()).code
    return Line(address, Faulty("it was not processed"), code)


def _answered(address: Address, status: int, body: bytes, key: str) -> Line:
    if status == HTTPStatus.OK:
        return Line(address, answer(body, openai_form, Reading()))
    reply = error_reply(status, {}, body, key=key)
    return Line(address, reply, complaint(body).code or f"http_{status}")


def only_item(items: Sequence[tuple[object, object]]) -> list[tuple[object, Any]]:
    """The items of an answer to a single text, whose index some servers number otherwise."""
    return [(0, vector) for _, vector in items]
