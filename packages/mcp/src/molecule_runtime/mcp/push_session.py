"""Binds the pushing of messages to a session of the SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mcp_types as types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

    from molecule_runtime.mcp.push import PushSender

INITIALIZED = "notifications/initialized"


class _Pushed(types.Notification[dict[str, Any], str]):
    """A notification that the specification does not name."""


def bind(server: Server[Any], sender: PushSender) -> None:
    """Begin to push when the client says that it is initialized; clients of the stateless era never do, and poll."""
    before = server.get_notification_handler(INITIALIZED)

    async def initialized(ctx: ServerRequestContext[Any, Any], params: types.NotificationParams) -> None:
        if before is not None:
            await before.handler(ctx, params)
        session = ctx.session

        async def send(method: str, content: Mapping[str, Any]) -> None:
            await session.send_notification(_Pushed(method=method, params=dict(content)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the SDK sends any

        client = session.client_params
        sender.open(send, client.client_info.name if client is not None else "")

    server.add_notification_handler(INITIALIZED, types.NotificationParams, initialized)
