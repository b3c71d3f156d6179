"""What a setting may hold: values that are checked where they are read."""

from __future__ import annotations

import re
import shlex
from base64 import b64decode
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, TypeAdapter

from embedfleet_schema.catalogue.model_names import check_name, check_pattern
from embedfleet_schema.redis_url import parse_redis_url

# Of what a webhook is signed with: https://www.standardwebhooks.com
SECRET_PREFIX = "whsec_"  # noqa: S105 - it is public
SHORTEST_SECRET, LONGEST_SECRET = 24, 64
# Redis Cluster hashes what is in the first braces of a key, where there are any.
_PREFIX = re.compile(r"[\w.:-]*(?:\{[\w.:-]+\})?[\w.:-]*", re.ASCII)
LONGEST_PREFIX = 64
_HTTP_URL = TypeAdapter(HttpUrl)


def _absolute(path: Path) -> Path:
    """A worker may run in another folder than the command that started it."""
    return path.expanduser().absolute()


def _sendable(key: SecretStr) -> SecretStr:
    """A key travels in a header, and what cannot stand there comes of a bad copy."""
    stripped = key.get_secret_value().strip()
    if not (stripped.isascii() and stripped.isprintable()) or " " in stripped:
        raise ValueError("it has characters that no API key has, such as a typographic quote")
    return SecretStr(stripped)


def _address(url: str) -> str:
    _HTTP_URL.validate_python(url)
    return url


def _redis(url: SecretStr) -> SecretStr:
    parse_redis_url(url.get_secret_value())
    return url


def _command(command: SecretStr) -> SecretStr:
    try:
        words = shlex.split(command.get_secret_value())
    except ValueError:
        words = []
    if not words:
        raise ValueError("it is no command: a quote is not closed, or there is nothing in it")
    return command


def _prefix(prefix: str) -> str:
    if len(prefix) > LONGEST_PREFIX or not _PREFIX.fullmatch(prefix) or prefix.endswith(":"):
        raise ValueError(
            f"it is at most {LONGEST_PREFIX} letters, digits, - _ . and :, with braces around a "
            "part of it for a sharded server ({embedfleet}), and without a : at the end"
        )
    return prefix


def _priced(prices: dict[str, float]) -> dict[str, float]:
    for name in prices:
        check_name(name)
    return prices


def _signing(secrets: SecretStr) -> SecretStr:
    """Each is 24 to 64 bytes in base64, as Standard Webhooks has them."""
    for word in secrets.get_secret_value().split():
        try:
            key = b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not SHORTEST_SECRET <= len(key) <= LONGEST_SECRET:
            raise ValueError(
                f"a secret is {SECRET_PREFIX} and {SHORTEST_SECRET} to {LONGEST_SECRET} bytes in "
                "base64; make one with: echo whsec_$(openssl rand -base64 32)"
            )
    return secrets


ApiKey = Annotated[SecretStr, AfterValidator(_sendable)]
SigningSecrets = Annotated[SecretStr, AfterValidator(_signing)]
PasswordCommand = Annotated[SecretStr, AfterValidator(_command)]
RedisPrefix = Annotated[str, AfterValidator(_prefix)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
Address = Annotated[str, AfterValidator(_address)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Prices = Annotated[dict[str, Price], AfterValidator(_priced)]
ModelPattern = Annotated[str, AfterValidator(check_pattern)]
Folder = Annotated[Path, AfterValidator(_absolute)]
