"""Bearer credentials of a request that reaches us: read and compared as bytes, since a header may hold any."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the bearer credential of raw ASGI headers, or None when there is none.

    The scheme word counts in any case (RFC 9110 11.1). Another scheme is the same as none, and so are several `Authorization`
    headers: which of them counts would depend on who reads them.
    """
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, credential = values[0].strip().partition(b" ")
    credential = credential.strip()
    return credential if scheme.lower() == b"bearer" and credential else None


def bearer_matches(expected: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request carries the expected secret. Without an expected secret nobody is let in.

    Never raises, whatever bytes the header holds, and takes the same time wherever the first difference is: hashes are compared, so
    not even the length shows.
    """
    given = bearer_of(headers)
    if not expected or given is None:
        return False
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected.encode()).digest())
