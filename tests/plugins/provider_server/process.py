"""The provider from the side of whoever starts it: a test or a benchmark."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]


class ProviderServer:
    """A provider process on a port of its own. Options are those of `provider.Options`."""

    def __init__(self, **options: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "plugins.provider_server", json.dumps(options)],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        """The base URL for clients of OpenAI."""
        return f"http://127.0.0.1:{self.port}/v1"

    def set(self, **options: object) -> dict[str, Any]:
        """Change options; returns the account as it was at that moment."""
        found: dict[str, Any] = self._ask("/set", options)
        return found

    def account(self) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("/account")
        return found

    def reset_account(self) -> dict[str, Any]:
        """Count from here on; returns the account as it was."""
        found: dict[str, Any] = self._ask("/account/reset")
        return found

    def paid(self, digests: Iterable[bytes]) -> tuple[int, int]:
        """How many of the texts with these SHA-256 were paid for, and in how many requests."""
        requests, texts = self._ask("/paid", [each.hex() for each in digests])
        return requests, texts

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _ask(self, path: str, given: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, json.dumps(given))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            return json.loads(response.read())
        finally:
            connection.close()
