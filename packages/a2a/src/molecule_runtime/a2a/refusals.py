"""How a request is refused on the host's own routes: a status, what is wrong, and what to do about it, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

CLOSE = {"Connection": "close"}
"""For a request whose body was not read to its end: what follows on the connection is not a request."""


class Refusal(Exception):  # noqa: N818 - a control-flow signal of the routes, which is how a request ends
    """A request that is not served.

    Attributes:
        status: of the answer.
        error: what is wrong, in a few words that never change.
        hint: what to do about it.
        more: further fields of the answer.
        headers: of the answer.
    """

    def __init__(
        self, status: int, error: str, *, hint: str = "", headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.hint = hint
        self.more = more
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        body = {"error": self.error, **self.more}
        if self.hint:
            body["hint"] = self.hint
        return JSONResponse(body, self.status, headers={"Cache-Control": "no-store", **self.headers})
