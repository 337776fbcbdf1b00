"""Which URLs the platform may call (contract 20): the guard against agents that name somebody else's machine as their own.

The rule `local` is for one machine: it admits loopback, and otherwise refuses what `strict` refuses; `private` also admits private
networks, for agents in containers and on neighbouring machines. A name is looked up each time it
is used; that the name may resolve otherwise a moment later is known and accepted here, since only literal addresses are usual locally.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable

UrlRule: TypeAlias = Literal["local", "private", "strict"]

MAX_URL_CHARS = 2048
_LOOKUP_SECONDS = 5.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BLOCKED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "64:ff9b::/96",
        "100::/64",
        "2001:db8::/32",
        "2002::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


_PRIVATE = tuple(
    ipaddress.ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


async def problem_of(url: str, rule: UrlRule) -> str | None:
    """Say why the platform may not call a URL, or None when it may."""
    if len(url) > MAX_URL_CHARS or any(character.isspace() or not character.isprintable() for character in url):
        return "not a URL"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in {"http", "https"}:
        return "the scheme must be http or https"
    if parts.username is not None or parts.password is not None:
        return "it must not contain a user name or password"
    host = parts.hostname
    if not host:
        return "it names no host"
    if port == 0:
        return "port 0 cannot be called"
    try:
        addresses: Iterable[Address] = [ipaddress.ip_address(host)]
    except ValueError:
        addresses = await _lookup(host, port or (443 if parts.scheme == "https" else 80))
    if not addresses:
        return f"host {host!r} does not resolve"
    for address in addresses:
        if not _admitted(address, rule):
            return f"address {address} may not be called"
    return None


def is_address(host: str) -> bool:
    """Tell whether a host is a literal address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _admitted(address: Address, rule: UrlRule) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return rule != "strict"
    if rule == "private" and _within(address, _PRIVATE):
        return True
    return not _within(address, _BLOCKED)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


async def _lookup(host: str, port: int) -> list[Address]:
    try:
        with anyio.fail_after(_LOOKUP_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    # A zone index (fe80::1%eth0) is not part of the address.
    return [ipaddress.ip_address(str(entry[4][0]).split("%", 1)[0]) for entry in found]
