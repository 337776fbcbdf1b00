"""Binds the pushing of messages to the sessions of the SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types

from molecule_runtime.mcp.push import PushSender

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskGroup
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

    from molecule_runtime.mcp.http_streams import OpenStreams
    from molecule_runtime.mcp.inbox import PolledInbox
    from molecule_runtime.mcp.push_hosts import PushChoice

INITIALIZED = "notifications/initialized"


class _Pushed(types.Notification[dict[str, Any], str]):
    """A notification that the specification does not name."""


class _Stream:
    """The reach of a session over HTTP: its client may open its stream when it likes, and close it."""

    def __init__(self, streams: OpenStreams, session_id: str) -> None:
        self._streams = streams
        self._session_id = session_id

    @property
    def is_open(self) -> bool:
        return self._streams.is_open(self._session_id)

    async def until_open(self) -> None:
        await self._streams.until_open(self._session_id)


def bind(
    server: Server[Any],
    inbox: PolledInbox,
    choice: PushChoice,
    group: TaskGroup,
    streams: OpenStreams | None = None,
) -> None:
    """Push to each client that says that it is initialized, for as long as its session lasts; the stateless era has none, and polls.

    Args:
        server: of the sessions.
        inbox: what is pushed; of several clients that could be, each message goes to one.
        choice: to which clients, and how.
        group: runs the pushes.
        streams: the open streams of sessions over HTTP; None where a session is a stream.
    """
    before = server.get_notification_handler(INITIALIZED)
    begun: set[int] = set()

    async def initialized(ctx: ServerRequestContext[Any, Any], params: types.NotificationParams) -> None:
        if before is not None:
            await before.handler(ctx, params)
        session = ctx.session
        # The SDK hands a handler no public way to what outlives its request.
        connection = session._connection  # pyright: ignore[reportPrivateUsage]
        if id(connection) in begun or (streams is not None and connection.session_id is None):
            return
        begun.add(id(connection))
        connection.exit_stack.callback(begun.discard, id(connection))
        scope = anyio.CancelScope()
        connection.exit_stack.callback(scope.cancel)

        async def send(method: str, content: Mapping[str, Any]) -> None:
            await session.send_notification(_Pushed(method=method, params=dict(content)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the SDK sends any

        client = session.client_params
        reach = None if streams is None else _Stream(streams, connection.session_id or "")
        sender = PushSender(inbox, choice)
        sender.open(send, client.client_info.name if client is not None else "", reach)

        async def push() -> None:
            with scope:
                await sender.run()

        group.start_soon(push)

    server.add_notification_handler(INITIALIZED, types.NotificationParams, initialized)
