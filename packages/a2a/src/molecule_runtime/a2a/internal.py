"""The host's routes beside A2A that ask for a credential. The gate has checked it by the time a request is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from molecule_runtime.a2a import file_read, transcript, uploads
from molecule_runtime.a2a.gate import FILE_PATH, TRANSCRIPT_PATH, UPLOAD_PATH
from molecule_runtime.a2a.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.a2a.server import HostState


def routes(state: HostState) -> list[Route]:
    """Return the routes of a host."""

    async def tell(request: Request) -> Response:
        return await transcript.transcript(request, state.adapter)

    async def ingest(request: Request) -> Response:
        return await uploads.ingest(request, state.folders)

    async def read(request: Request) -> Response:
        return await file_read.read(request, state.folders, state.secrets)

    return [
        Route(TRANSCRIPT_PATH, _refusing(tell), methods=["GET"]),
        Route(UPLOAD_PATH, _refusing(ingest), methods=["POST"]),
        Route(FILE_PATH, _refusing(read), methods=["GET"]),
    ]


def _refusing(serve: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def served(request: Request) -> Response:
        try:
            return await serve(request)
        except Refusal as refusal:
            return refusal.response()

    return served
