"""Who is who: workspace ids, platform URLs, origins and display names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NewType
from urllib.parse import urlsplit

from molecule_runtime.core.errors import ConfigurationError, InvalidWorkspaceIdError
from molecule_runtime.core.redaction import redact_text

WorkspaceId = NewType("WorkspaceId", str)
"""An id that passed `validate_workspace_id`, so it may enter a URL path or a header."""

MAX_ID_LENGTH = 128
"""Characters; contract `runtime.md` 2.2."""

MAX_NAME_LENGTH = 64
"""Characters of a display name; contract `runtime.md` 5.4."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}", re.ASCII)
_NAME_UNSAFE = re.compile(r"[^A-Za-z0-9 _.\-/+:@()]+", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?=.{1,254}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)
"""A name or an IPv6 address. A header and the resolver take nothing else, so an international name comes in its `xn--` form."""

_MAX_SHOWN_ID = 40


def validate_workspace_id(value: str) -> WorkspaceId:
    """Return the stripped id when it is safe to put into a URL path or header.

    The rule is that of contract `runtime.md` 2.2: a lowercase letter or digit, then up to 127 more of lowercase letters,
    digits and hyphens.

    Raises:
        InvalidWorkspaceIdError: the id is empty or breaks the rule.
    """
    stripped = value.strip()
    if not stripped:
        raise InvalidWorkspaceIdError("workspace id is empty; copy it from the platform's Connect dialog")
    if not _ID.fullmatch(stripped):
        raise InvalidWorkspaceIdError(
            f"workspace id {_shown_id(stripped)} is not valid: use 1 to {MAX_ID_LENGTH} lowercase letters, digits and hyphens,"
            " beginning with a letter or digit"
        )
    return WorkspaceId(stripped)


def short_id(workspace_id: str) -> str:
    """Return the first 8 characters, for people only: never a key, since two ids may share them."""
    return workspace_id[:8]


def validate_platform_url(value: str) -> str:
    """Return the URL without a trailing slash when a client can use it.

    Raises:
        ConfigurationError: not http(s), no host, a bad port, credentials, a query or a fragment.
    """
    url = value.strip()
    if "@" in url:
        # First of all, so that no other message repeats a password.
        raise ConfigurationError(
            "platform_url must not contain a user name or password (or any '@'); put the token in 'token' or 'token_file'"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"platform_url {_shown_url(url)} is not a URL: check its host and port") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ConfigurationError(f"platform_url {_shown_url(url)} must begin with http:// or https://")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ConfigurationError(f"platform_url {_shown_url(url)} names no host; use a name in ASCII or an address")
    if not all(33 <= ord(character) <= 126 for character in url):
        raise ConfigurationError(
            f"platform_url {_shown_url(url)} must be printable ASCII without spaces; percent-encode the rest"
        )
    if "?" in url or "#" in url:
        raise ConfigurationError(
            f"platform_url {_shown_url(url)} must end after the host (and path): remove the query or fragment"
        )
    return url.rstrip("/")


@lru_cache(maxsize=1024)
def origin_of(url: str) -> str:
    """Return `scheme://host[:port]` in the form of RFC 6454: lowercase, without a default port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    port = parts.port
    suffix = "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme.lower()}://{host}{suffix}"


def is_loopback(host: str) -> bool:
    """Tell whether a host, as it stands in a URL or a `Host` header without its port, is this machine."""
    # Late: what a process needs in order to start needs no addresses.
    import ipaddress

    name = host.rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def display_name(value: object) -> str | None:
    """Make a name that a peer chose safe to show beside instructions, or None when nothing is left.

    Anything outside ASCII letters, digits, space and `_ . - / + : @ ( )` becomes a space, runs of space are squeezed and the
    result is cut to 64 characters (contract `runtime.md` 5.4: a newline and a bracket could forge an instruction line).
    """
    if not isinstance(value, str):
        return None
    # The cut before the substitution bounds the work for a hostile name of megabytes.
    cleaned = " ".join(_NAME_UNSAFE.sub(" ", value[: MAX_NAME_LENGTH * 16]).split())
    if len(cleaned) > MAX_NAME_LENGTH:
        cleaned = cleaned[: MAX_NAME_LENGTH - 1] + "…"
    return cleaned or None


def _shown_id(value: str) -> str:
    """Quote an id for an error. Anything longer than a UUID may be a token in the wrong place, so only its beginning is shown."""
    shown = redact_text(value)
    return repr(shown) if len(shown) <= _MAX_SHOWN_ID else f"{shown[:8]!r}... ({len(value)} characters)"


def _shown_url(value: str) -> str:
    """Quote a URL for an error, without its query, where people paste tokens."""
    shown = redact_text(value.partition("?")[0].partition("#")[0])
    return repr(shown if len(shown) <= 80 else shown[:77] + "...")
