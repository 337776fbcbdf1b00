"""One MCP session over stdin and stdout, and the work of every workspace beside it."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.mcp.early_calls import EarlyCalls
from molecule_runtime.mcp.ending import CLOSING_SECONDS, leave_within, stop_signals
from molecule_runtime.mcp.loading import load_session
from molecule_runtime.mcp.opening import open_process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.mcp.launch import Begun
    from molecule_runtime.mcp.settings import McpSettings

logger = logging.getLogger(__name__)

EARLY_SECONDS = 1.0
"""How long the first calls may put off the SDK, and with it the work of the workspaces, while nothing else is asked."""

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
        early: EarlyCalls | None = None
        # With telemetry on, the SDK's middleware takes part in every call.
        if begun is not None and not settings.telemetry.is_on():
            early = EarlyCalls(begun, opened, background)
            with anyio.move_on_after(EARLY_SECONDS):
                await early.run()
        load_session()
        # Late: `load_session` has loaded the SDK, and quicker than this would.
        from molecule_runtime.mcp.session import serve_session

        await serve_session(settings, opened, background, begun, early)
        leave_within(CLOSING_SECONDS)
        background.cancel_scope.cancel()
    if settings.telemetry.is_on():
        await anyio.to_thread.run_sync(settings.telemetry.shutdown, TELEMETRY_SECONDS)


async def _stop_on_signal(session: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(*stop_signals()) as signals:
        async for number in signals:
            logger.info("stopping on %s", signal.Signals(number).name)
            leave_within(CLOSING_SECONDS)
            session.cancel()
            break
