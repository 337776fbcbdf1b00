"""What the bindings have in common: the version that a request asks for, the call it becomes, and its answer as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from a2a.extensions.common import get_requested_extensions
from a2a.server.context import ServerCallContext
from a2a.utils.errors import VersionNotSupportedError
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

V1_0, V0_3 = "1.0", "0.3"

VERSION = "version"
"""In the state of a call: the version of A2A that its caller speaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Why a host cannot serve.

    Attributes:
        message: in a few words that never change.
        detail: what is missing, redacted.
        retry_after: seconds after which it may be worth another try; None where time alone mends nothing.
    """

    message: str
    detail: str = ""
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What is said beside the body."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


_EXTENSIONS = ("a2a-extensions", "x-a2a-extensions")
"""The second is its name in 0.3."""

_MAX_VERSION = 40


def version_of(request: Request) -> str:
    """Return the version whose semantics a request asks for (A2A 1.0, 3.6): `A2A-Version` as a header or a parameter.

    Raises:
        VersionNotSupportedError: it is neither of ours.
    """
    asked = _asked(request) or V0_3
    # Patch versions do not matter (3.6.2).
    version = ".".join(asked.strip().split(".")[:2])
    if version not in {V1_0, V0_3}:
        raise VersionNotSupportedError(f"A2A {asked[:_MAX_VERSION]!r} is not spoken here; send A2A-Version 1.0 or 0.3")
    return version


def says_version(request: Request) -> bool:
    """Tell whether a request says which version it is of."""
    return bool(_asked(request))


def _asked(request: Request) -> str:
    return request.headers.get("a2a-version") or request.query_params.get("A2A-Version") or ""


def call_of(request: Request, *, tenant: str = "") -> ServerCallContext:
    """Return the call that a request becomes."""
    asked = [value for name in _EXTENSIONS for value in request.headers.getlist(name)]
    return ServerCallContext(
        state={"headers": dict(request.headers), VERSION: version_of(request)},
        tenant=tenant,
        requested_extensions=get_requested_extensions(asked) if asked else set(),
    )


def to_json(value: object) -> bytes:
    """Write JSON; half a surrogate pair, which JSON can carry and UTF-8 cannot, is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def json_response(
    value: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """Return JSON as an answer."""
    return Response(to_json(value), status, headers=headers, media_type=media_type)
