"""The configuration of a workspace as the platform keeps it (contract 11.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.platform.wire import StatusResponse
from molecule_runtime.core.platform.wire import boot as wire
from molecule_runtime.localplatform import web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import configuration
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform

MAX_BYTES = 256 * 1024
"""Of one workspace's configuration as JSON."""


async def get(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/config`."""
    own = await require_own(platform, request)
    return web.answer({"data": await platform.store.read(configuration.get, own.id)})


async def patch(platform: Platform, request: Request) -> Response:
    """`PATCH /workspaces/:id/config`: each top-level key replaces the one that is there; null is a value."""
    own = await require_own(platform, request)
    changes = await web.read_object(request, limit=MAX_BYTES)

    def merge(connection: sqlite3.Connection) -> None:
        merged = web.dump({**configuration.get(connection, own.id), **changes})
        if len(merged) > MAX_BYTES:
            raise Refusal(413, "the configuration would be too large", max_bytes=MAX_BYTES)
        configuration.put(connection, own.id, merged.decode(), platform.now())

    await platform.store.write(merge)
    return web.answer({"status": "updated"})


ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/config", handler=get, section="11.8", access="workspace",
        summary="Its configuration as the platform keeps it.", answers={200: wire.ConfigResponse},
        test="test_boot.py::test_the_configuration_is_merged_key_by_key",
    ),
    Route(
        method="PATCH", path="/workspaces/{id}/config", handler=patch, section="11.8", access="workspace",
        summary="Replace some of its top-level keys.", body=wire.ConfigPatch, answers={200: StatusResponse},
        test="test_boot.py::test_the_configuration_is_merged_key_by_key",
    ),
)  # fmt: skip
