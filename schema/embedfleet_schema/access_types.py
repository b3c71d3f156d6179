"""How providers are reached, as settings say it: headers, certificates and proxies by provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from embedfleet_schema.catalogue.api_models import API_PROVIDERS

ALL = "*"
_HEADER = re.compile(r"[A-Za-z0-9!#%$&'*+.^_`|~-]{1,100}", re.ASCII)
# What the client of a request writes itself: another value would break the request.
_OWN_HEADERS = frozenset({"content-length", "content-type", "host", "transfer-encoding"})


def _known(provider: str) -> str:
    if provider != ALL and provider not in API_PROVIDERS:
        known = ", ".join((*API_PROVIDERS, f"{ALL} for all"))
        raise ValueError(f"{provider!r} is no provider with an API; there are {known}")
    return provider


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name) or name.lower() in _OWN_HEADERS:
        raise ValueError(f"{name[:100]!r} cannot be an extra header")
    return name


def _header_value(value: SecretStr) -> SecretStr:
    said = value.get_secret_value()
    if not (said.isascii() and said.isprintable()) or said != said.strip():
        raise ValueError("the value of a header is printable ASCII, without spaces around it")
    return value


def _proxy(url: SecretStr) -> SecretStr:
    said = url.get_secret_value()
    try:
        parts = urlsplit(said)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not said.isascii() or not said.isprintable() or parts.path not in ("", "/"):
        raise ValueError("a proxy is http://host:port, or https://user:password@host:port")
    return url


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


Provider = Annotated[str, AfterValidator(_known)]
HeaderName = Annotated[str, AfterValidator(_header)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
ExtraHeaders = dict[Provider, dict[HeaderName, HeaderValue]]
Proxies = dict[Provider, Annotated[SecretStr, AfterValidator(_proxy)]]
CaFiles = dict[Provider, Annotated[Path, AfterValidator(_absolute)]]
