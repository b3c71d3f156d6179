"""Which hosts plain http:// may go to: this machine and private networks, by what is written alone.

Nothing is resolved: a name that leads to a private address today may lead elsewhere tomorrow.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from pydantic import HttpUrl, TypeAdapter

EXPOSED = (
    "texts and keys would go to a public host over plain http://; write https://, or set "
    "EMBEDFLEET_INSECURE=true"
)
# Ends of names that no public server has: RFC 6761, 6762 and 8375, what ICANN keeps for private
# networks, and services of Kubernetes.
PRIVATE_ENDS = (".localhost", ".local", ".internal", ".home.arpa", ".svc")
_URL = TypeAdapter(HttpUrl)
# Carriers and overlay networks.
_SHARED = ip_network("100.64.0.0/10")


def is_exposed(url: str | None) -> bool:
    """Whether what is sent to a URL could be read on its way."""
    parsed = None if url is None else _URL.validate_python(url)
    return parsed is not None and parsed.scheme == "http" and not is_private(parsed.host or "")


def is_private(host: str) -> bool:
    """Whether a host is this machine, or can only be in a private network.

    Args:
        host: as a URL parser gives it, so that 134744072 is 8.8.8.8 already.
    """
    name = host.strip("[]").lower()
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return name.removesuffix(".").endswith(PRIVATE_ENDS) or "." not in name
    if isinstance(address, IPv6Address):
        # What such an address leads to decides; Python 3.13 calls all of 6to4 private.
        address = address.ipv4_mapped or address.sixtofour or address
    return (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or (address.version == _SHARED.version and address in _SHARED)
    )
