"""One session of the MCP SDK over stdin and stdout. Importing this loads the SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.mcp.push_session import bind
from molecule_runtime.mcp.server import create_server
from molecule_runtime.mcp.transport import session_streams

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from molecule_runtime.mcp.early_calls import EarlyCalls
    from molecule_runtime.mcp.launch import Begun
    from molecule_runtime.mcp.opening import Opened
    from molecule_runtime.mcp.settings import McpSettings
    from molecule_runtime.mcp.supervisor import Supervisor

HEAD_START_SECONDS = 0.25
"""For the first answer, before the work of the workspaces begins: it would compete for the interpreter while the client waits."""


async def serve_session(
    settings: McpSettings,
    opened: Opened,
    background: TaskGroup,
    begun: Begun | None = None,
    early: EarlyCalls | None = None,
) -> None:
    """Serve until stdin ends.

    Args:
        settings: of this process.
        opened: what it works with.
        background: runs what outlives the session.
        begun: the session that answered before this was loaded; None to begin one.
        early: the calls that it answers itself.
    """
    server = create_server(settings, opened)
    experimental: dict[str, dict[str, Any]] | None = None
    if opened.inbox is not None:
        bind(server, opened.inbox, settings.push, background)
        experimental = settings.push.capabilities
    options = server.create_initialization_options(experimental_capabilities=experimental)
    streams = session_streams() if begun is None else session_streams(begun.intake, begun.replay(), early)
    async with streams as (incoming, answers):
        background.start_soon(_supervise, opened.supervisor, answers.first)
        await server.run(incoming, answers, options)


async def _supervise(supervisor: Supervisor, first_answer: anyio.Event) -> None:
    with anyio.move_on_after(HEAD_START_SECONDS):
        await first_answer.wait()
    await supervisor.run()
