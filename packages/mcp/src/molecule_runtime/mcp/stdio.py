"""One MCP session over stdin and stdout, and the work of every workspace beside it."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, NoReturn

import anyio

from molecule_runtime.mcp.opening import open_process
from molecule_runtime.mcp.push import PushSender
from molecule_runtime.mcp.push_session import bind
from molecule_runtime.mcp.server import create_server
from molecule_runtime.mcp.transport import session_streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.mcp.settings import McpSettings

logger = logging.getLogger(__name__)

_SHUTDOWN_SECONDS = 5.0


async def serve_stdio(settings: McpSettings, environ: Mapping[str, str] | None = None) -> None:
    """Serve one MCP session over stdin and stdout, and every target beside it, until stdin ends or a signal comes.

    Returns only when stdin ended. On SIGTERM, on SIGINT and when nobody reads stdout any more the process ends here.
    """
    async with open_process(settings, environ) as opened, anyio.create_task_group() as background:
        background.start_soon(opened.supervisor.run)
        background.start_soon(_stop_on_signal, background)
        server = create_server(settings, opened)
        if opened.inbox is not None:
            push = PushSender(opened.inbox, settings.push)
            bind(server, push)
            background.start_soon(push.run)
        async with session_streams() as (incoming, answers):
            experimental = settings.push.capabilities if opened.inbox is not None else None
            options = server.create_initialization_options(experimental_capabilities=experimental)
            try:
                await server.run(incoming, answers, options)
            except anyio.get_cancelled_exc_class():
                # By a signal, or by the transport when stdout is closed. The SDK reads stdin in a thread that no cancellation
                # reaches: to close in order would mean to wait for the client's next line.
                _leave()
        background.cancel_scope.cancel()


async def _stop_on_signal(background: anyio.abc.TaskGroup) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            logger.info("stopping on %s", signal.Signals(number).name)
            break
        background.cancel_scope.cancel()
        # The session leaves first; this is for one that cannot.
        with anyio.CancelScope(shield=True):
            await anyio.sleep(_SHUTDOWN_SECONDS)
        _leave()


def _leave() -> NoReturn:
    """End the process at once; the inbox is on disk at every moment."""
    logging.shutdown()
    os._exit(0)
