"""One MCP session over stdin and stdout, and the work of every workspace beside it."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.mcp.ending import CLOSING_SECONDS, leave_within, stop_signals
from molecule_runtime.mcp.opening import open_process
from molecule_runtime.mcp.push_session import bind
from molecule_runtime.mcp.server import create_server
from molecule_runtime.mcp.transport import session_streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.mcp.launch import Begun
    from molecule_runtime.mcp.settings import McpSettings
    from molecule_runtime.mcp.supervisor import Supervisor

logger = logging.getLogger(__name__)

HEAD_START_SECONDS = 0.25
"""For the first answer, before the work of the workspaces begins: it would compete for the interpreter while the client waits."""

TELEMETRY_SECONDS = 0.7
"""For the last spans and metrics; within `CLOSING_SECONDS`."""


async def serve_stdio(
    settings: McpSettings, environ: Mapping[str, str] | None = None, begun: Begun | None = None
) -> None:
    """Serve one MCP session over stdin and stdout, and every target beside it, until stdin ends or a signal comes.

    When that takes longer than `CLOSING_SECONDS`, the process ends here.

    Args:
        settings: of this process.
        environ: of this process.
        begun: the session that answered before this was loaded; None to begin one.
    """
    async with open_process(settings, environ) as opened, anyio.create_task_group() as background:
        background.start_soon(_stop_on_signal, background.cancel_scope)
        server = create_server(settings, opened)
        experimental: dict[str, dict[str, Any]] | None = None
        if opened.inbox is not None:
            bind(server, opened.inbox, settings.push, background)
            experimental = settings.push.capabilities
        options = server.create_initialization_options(experimental_capabilities=experimental)
        streams = session_streams() if begun is None else session_streams(begun.intake, begun.replay())
        async with streams as (incoming, answers):
            background.start_soon(_supervise, opened.supervisor, answers.first)
            await server.run(incoming, answers, options)
        leave_within(CLOSING_SECONDS)
        background.cancel_scope.cancel()
    if settings.telemetry.is_on():
        await anyio.to_thread.run_sync(settings.telemetry.shutdown, TELEMETRY_SECONDS)


async def _supervise(supervisor: Supervisor, first_answer: anyio.Event) -> None:
    with anyio.move_on_after(HEAD_START_SECONDS):
        await first_answer.wait()
    await supervisor.run()


async def _stop_on_signal(session: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(*stop_signals()) as signals:
        async for number in signals:
            logger.info("stopping on %s", signal.Signals(number).name)
            leave_within(CLOSING_SECONDS)
            session.cancel()
            break
