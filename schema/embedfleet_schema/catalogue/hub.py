"""The Hugging Face hub, asked briefly: a machine without a network must not wait for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TypeVar

from embedfleet_schema.breaker import Breaker
from embedfleet_schema.errors import ModelNotFound

ANSWER_SECONDS = 5.0
REMEMBERED_SECONDS = 60.0
# Exports for other engines, often larger than the model itself.
_ELSEWHERE = ("onnx/*", "openvino/*")
_LISTING_FORMAT = 1
# Of the model that was asked for first: an outage is told to those that come after, too.
_URL = re.compile(r"(?:,? ?(?:for url|url):? )?['\"(]?https?://[^\s'\")]+['\")]?")
_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")

T = TypeVar("T")


def is_hub_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def listing(snapshot: Path) -> dict[str, str] | None:
    """Path and SHA-256 of all files that the hub has of a snapshot; small files have no hash.

    Read from what the client keeps beside the snapshot, in a format of its own (its public function
    leaves the hashes out). None where that is missing or in another format.
    """
    path = snapshot.parent.parent / "trees" / f"{snapshot.name}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("format_version") != _LISTING_FORMAT:
        return None
    return {
        name: str(entry.get("lfs_sha256") or "") for name, entry in kept.get("files", {}).items()
    }


class Hub:
    """Snapshots of repositories, from the cache or the network.

    An unreachable hub is remembered for a minute, so that a process pays for it once and a
    long-lived one still recovers.
    """

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self._outage = ""
        self._breaker = Breaker(REMEMBERED_SECONDS)

    def cached(self, repository: str, patterns: Sequence[str]) -> Path | None:
        """The cached snapshot; None where there is none, or one known to lack files."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(
                snapshot_download(
                    repository,
                    local_files_only=True,
                    allow_patterns=list(patterns),
                    ignore_patterns=list(_ELSEWHERE),
                )
            )
        except LocalEntryNotFoundError:
            return None

    @staticmethod
    def is_offline() -> bool:
        """Whether the client is told to ask nobody."""
        from huggingface_hub import constants

        return bool(constants.HF_HUB_OFFLINE)

    def download(self, repository: str, patterns: Sequence[str]) -> Path:
        """Bring the snapshot into the cache.

        Raises:
            ModelNotFound: the hub cannot be reached, or does not give the repository.
        """
        from httpx2 import HTTPError
        from huggingface_hub import snapshot_download

        self._greet(repository)
        try:
            return Path(
                snapshot_download(
                    repository,
                    allow_patterns=list(patterns),
                    ignore_patterns=list(_ELSEWHERE),
                )
            )
        except (HTTPError, OSError) as error:
            reason = f"the download from the hub was interrupted: {_brief(error)}"
            raise ModelNotFound(model=repository, reason=reason) from error

    def _greet(self, repository: str) -> None:
        """Learn quickly whether the hub answers: a download by itself waits without a limit."""
        from httpx2 import HTTPError
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        if not self._breaker.admits():
            raise ModelNotFound(model=repository, reason=self._outage)
        wait = self._answer_seconds
        try:
            _within(wait, lambda: HfApi().model_info(repository, timeout=wait))
        except RepositoryNotFoundError as error:
            self._breaker.close()
            reason = f"the hub has no public model {repository}; for a private one, set HF_TOKEN"
            raise ModelNotFound(model=repository, reason=reason) from error
        except (HTTPError, OSError) as error:
            self._outage = f"the hub cannot be reached ({_brief(error)})"
            self._breaker.open()
            raise ModelNotFound(model=repository, reason=self._outage) from error
        self._breaker.close()


def _brief(error: Exception) -> str:
    lines = _URL.sub("", str(error)).strip().splitlines()
    said = " ".join(lines[0].rstrip(".").split()) if lines else ""
    return said or f"no answer: {type(error).__name__}"


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """The answer of `ask`, or TimeoutError: looking up a host name has no timeout of its own."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # noqa: BLE001 - raised again where the answer is awaited
            answer.set_exception(error)

    Thread(target=run, name="embedfleet-hub", daemon=True).start()
    return answer.result(seconds + 1)
