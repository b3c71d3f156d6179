"""Where a webhook may go: nowhere in a private network, unless a setting allows it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from embedfleet_schema.errors import BadWebhook
from embedfleet_schema.plain_http import is_private

MOST_BYTES = 2_048
# What this translates to decides: an IPv4 address in its last 32 bits (RFC 6052).
_NAT64 = ip_network("64:ff9b::/96")


def check_webhook(url: str, *, private: bool) -> SplitResult:
    """The parts of a URL that a webhook may be sent to, as far as its words tell.

    Args:
        private: allow this machine, private networks, and plain http://.

    Raises:
        BadWebhook: it may not, or it is no URL.
    """
    parts, port_is_bad = _split(url)
    host = parts.hostname or ""
    reason = None
    if not (url.isascii() and url.isprintable()) or " " in url or port_is_bad or not host:
        reason = "it is no URL such as https://example.com/path"
    elif len(url) > MOST_BYTES:
        reason = f"it is longer than {MOST_BYTES:,} bytes"
    elif parts.scheme not in ("https", "http"):
        reason = "it must start with https://"
    elif parts.username is not None or parts.password is not None:
        reason = "a login in it would be sent in plain words; the signature proves who sends"
    elif not private and parts.scheme == "http":
        reason = "it must start with https://; EMBEDFLEET_WEBHOOK_PRIVATE=true allows http://"
    elif not private and is_private(host):
        reason = "it is in a private network; EMBEDFLEET_WEBHOOK_PRIVATE=true allows that"
    if reason is not None:
        raise BadWebhook(reason=reason)
    return parts


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, and of one machine."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else None
        found = found.ipv4_mapped or found.sixtofour or inner or found
    return found.is_global and not found.is_multicast


def _split(url: str) -> tuple[SplitResult, bool]:
    """The parts of a URL, and whether its port, or all of it, cannot be read."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit(""), True
    return parts, False
