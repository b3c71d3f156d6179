"""How a provider is reached from here: by which proxy, trusting whom, with which headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from embedfleet_schema.access_types import ALL
from embedfleet_schema.settings import Settings
from embedfleet_workers.tls import tls_context

if TYPE_CHECKING:
    import ssl

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Access:
    """What the settings say of one provider. Two that are equal share a client.

    `repr` says nothing of it: headers and the URL of a proxy hold secrets.
    """

    headers: tuple[tuple[str, str], ...] = ()
    proxy: str = ""
    ca_file: Path | None = None

    def __repr__(self) -> str:
        return "Access(...)"

    @property
    def context(self) -> ssl.SSLContext:
        """Raises BadSettings where the file of certificates cannot be read."""
        return tls_context(self.ca_file)

    def options(self) -> dict[str, Any]:
        """What a client of httpx2 is made with. Where no proxy is set, the environment's counts."""
        options: dict[str, Any] = {"verify": self.context, "headers": dict(self.headers)}
        if self.proxy:
            import httpx2

            # Its own certificate is the machine's business, and not the provider's.
            context = self.context if self.proxy.startswith("https:") else None
            options["proxy"] = httpx2.Proxy(self.proxy, ssl_context=context)
        return options


def access_to(provider: str, base_url: str, settings: Settings) -> Access:
    """How `base_url` of a provider is reached. NO_PROXY wins over the proxy of the settings."""
    headers = {
        name: value.get_secret_value()
        for each in (ALL, provider)
        for name, value in settings.api_headers.get(each, {}).items()
    }
    proxy = _chosen(settings.api_proxies, provider)
    host = urlsplit(base_url).netloc.rpartition("@")[2]
    used = proxy is not None and not (host and proxy_bypass(host))
    return Access(
        tuple(headers.items()),
        proxy.get_secret_value() if proxy is not None and used else "",
        _chosen(settings.api_ca_files, provider),
    )


def _chosen(by_provider: Mapping[str, _V], provider: str) -> _V | None:
    return by_provider.get(provider, by_provider.get(ALL))
