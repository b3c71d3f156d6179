#!/usr/bin/env python3
"""Run a command with the secrets that its environment names as files.

    OPENAI_API_KEY_FILE=/run/secrets/openai_api_key     becomes OPENAI_API_KEY
    EMBEDFLEET_DATABASE_PASSWORD_FILE=/run/secrets/...  goes into EMBEDFLEET_DATABASE_URL, quoted:
                                                        a URL, or key=value words of libpq

Only files in the folder of secrets count: SSL_CERT_FILE and its like stay what they are.
The standard library alone: this runs in images that hold nothing of ours.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

SECRETS = Path("/run/secrets")
FILE = "_FILE"
PASSWORD_FILE = "_PASSWORD_FILE"  # noqa: S105  the end of a variable's name
MAY_BE_EMPTY = "_API_KEY_FILE"
EXAMPLE = "postgresql://user@host:5432/name, host=... user=... dbname=..., or redis://host:6379/0"
URL = re.compile(r"[A-Za-z][\w+.-]*://")
# A parameter as libpq reads it: https://www.postgresql.org/docs/current/libpq-connect.html
WORD = re.compile(
    r"\s*(?P<name>\w+)\s*=\s*('(\\.|[^'\\])*'|(?!')(\\.|[^\s\\])*)\s*", re.ASCII | re.DOTALL
)
HELP = "deploy/secrets/README.md says how to make it."


def read(name: str, path: Path) -> str:
    """Return the secret, or end the program: a missing password protects nothing."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        sys.exit(f"{name}: can not read {path} ({error.strerror}). {HELP}")
    if not secret and not name.endswith(MAY_BE_EMPTY):
        sys.exit(f"{name}: {path} is empty. {HELP}")
    return secret


def with_password(address: str, password: str) -> str:
    """Put the password into a URL or into `key=value` words; nothing else changes.

    It takes the place of one that is there. Raises ValueError, which quotes nothing, for what is
    neither.
    """
    if URL.match(address):
        parts = urlsplit(address)
        user_and_password, _, hosts = parts.netloc.rpartition("@")
        user = user_and_password.partition(":")[0]
        return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{hosts}").geturl()
    words = list(WORD.finditer(address))
    if not words or "".join(word[0] for word in words) != address:
        raise ValueError(f"it is neither a URL nor key=value words; write it as {EXAMPLE}")
    kept = [word[0].strip() for word in words if word["name"] != "password"]
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    return " ".join([*kept, f"password='{escaped}'"])


def expand(environment: Mapping[str, str], secrets: Path = SECRETS) -> dict[str, str]:
    """Return the environment with the content of each named file in its place."""
    expanded = dict(environment)
    for name, value in environment.items():
        if not name.endswith(FILE) or Path(value).parent != secrets:
            continue
        del expanded[name]
        secret = read(name, Path(value))
        if name.endswith(PASSWORD_FILE):
            url = name.removesuffix(PASSWORD_FILE) + "_URL"
            try:
                expanded[url] = with_password(environment.get(url, ""), secret)
            except ValueError as error:
                sys.exit(f"{url}: {error}")
        elif secret:
            expanded[name.removesuffix(FILE)] = secret
    return expanded


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit("usage: with-secrets COMMAND [ARGUMENT...]")
    os.execvpe(sys.argv[1], sys.argv[1:], expand(os.environ))  # noqa: S606  no shell is wanted
