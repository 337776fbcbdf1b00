"""Where push notifications may go: a caller names the target, so it must not become a way into this machine or its network."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio
import httpx

from molecule_runtime.a2a.errors import PushTargetError
from molecule_runtime.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
_Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

MAX_URL = 2048
"""Characters; what proxies and browsers take."""

_RESOLVE_SECONDS = 5.0

_DEFAULT_PORTS = {"http": 80, "https": 443}

_MACHINERY = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public in form, but the metadata service of a cloud (Azure's wire server)."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")

_UNREACHABLE = (
    "must lead to a public address; the operator of this agent can allow others with a2a.push_targets in config.yaml"
)
# The same words for a name that does not resolve: they must not tell a caller which names exist in this network.


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTargets:
    """The rule for targets.

    Attributes:
        hosts: that are allowed whatever their addresses are, in lower case.
        networks: whose addresses are allowed.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[_Network, ...] = ()

    @classmethod
    def of(cls, allowed: Sequence[str]) -> PushTargets:
        """Read `a2a.push_targets`.

        Raises:
            ConfigurationError: an entry is neither a host nor a network.
        """
        hosts: set[str] = set()
        networks: list[_Network] = []
        for entry in allowed:
            text = entry.strip().lower().strip("[]")
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                if not text or "/" in text or any(character.isspace() for character in text):
                    raise ConfigurationError(
                        f"a2a.push_targets: {entry!r:.80} is neither a host such as hooks.example.com nor a network such as 10.0.0.0/8"
                    ) from None
                hosts.add(text)
        return cls(hosts=frozenset(hosts), networks=tuple(networks))

    async def addresses(self, url: str) -> tuple[httpx.URL, tuple[str, ...]]:
        """Return a target and the addresses to reach it at; whoever connects uses these, and asks no resolver again.

        Raises:
            PushTargetError: it may not be told anything.
        """
        target = parse_target(url)
        port = target.port or _DEFAULT_PORTS[target.scheme]
        found: list[str] = []
        try:
            with anyio.fail_after(_RESOLVE_SECONDS):
                answers = await anyio.getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            raise PushTargetError(_UNREACHABLE) from None
        for *_, where in answers:
            text = str(where[0]).partition("%")[0]
            if not self._allows(target.host, ipaddress.ip_address(text)):
                raise PushTargetError(_UNREACHABLE)
            if text not in found:
                found.append(text)
        if not found:
            raise PushTargetError(_UNREACHABLE)
        return target, tuple(found)

    def _allows(self, host: str, address: _Address) -> bool:
        if host.lower() in self.hosts or any(address in network for network in self.networks):
            return True
        return is_public(address) and not _is_ours(address)


def parse_target(url: str) -> httpx.URL:
    """Read the URL of a target.

    Raises:
        PushTargetError: it is no http or https URL, or carries a user name or password.
    """
    if len(url) > MAX_URL:
        raise PushTargetError(f"must have at most {MAX_URL} characters")
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise PushTargetError("is not a URL") from None
    if target.scheme not in _DEFAULT_PORTS or not target.host:
        raise PushTargetError("must begin with https:// or http:// and a host")
    if target.userinfo:
        raise PushTargetError("must not contain a user name or password; use authentication")
    return target


def is_public(address: _Address) -> bool:
    """Tell whether anybody on the internet has this address, also when an IPv4 address is wrapped in one of IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _LOCAL_NAT64:
            return False
        wrapped = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(wrapped)
    return address.is_global and not address.is_multicast and address not in _MACHINERY


def _is_ours(address: _Address) -> bool:
    """Tell whether this machine has the address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
