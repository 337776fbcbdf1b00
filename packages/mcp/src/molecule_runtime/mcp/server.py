"""The MCP server: every tool of the registry over the official SDK."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from mcp import types
from mcp.server import Server

from molecule_runtime.core import env, registry
from molecule_runtime.core.config import FILE_NAME, load_config
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.secretfile import write_private
from molecule_runtime.core.version import version_of
from molecule_runtime.mcp.inbox import PolledInbox, mailbox_of
from molecule_runtime.mcp.instructions import instructions
from molecule_runtime.mcp.settings import DEFAULT_CONFIG
from molecule_runtime.mcp.store import InboxStore
from molecule_runtime.mcp.supervisor import Supervisor
from molecule_runtime.mcp.transport import session_streams
from molecule_runtime.tools import Journal, Permissions, RuntimeIdentity, ToolContext, dispatch
from molecule_runtime.tools.audit import AuditTrail
from molecule_runtime.tools.context import tier_of
from molecule_runtime.tools.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from mcp.server.context import ServerRequestContext

    from molecule_runtime.core.registry import ToolSpec
    from molecule_runtime.mcp.settings import McpSettings

logger = logging.getLogger(__name__)

SERVER_NAME = "molecule"
"""Contract `runtime.md` 5.3."""

DISTRIBUTION = "molecule-runtime-mcp"
INBOX_FILE = "molecule-mcp.db"
_SHUTDOWN_SECONDS = 5.0


def create_server(settings: McpSettings, context: ToolContext) -> Server[Any]:
    """Return the MCP server over the registry; it owns nothing and starts nothing."""
    tools = [_tool(spec) for spec in registry.TOOLS]

    async def list_tools(
        ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(
        ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        step = 0

        async def progress(text: str) -> None:
            nonlocal step
            step += 1
            await ctx.session.report_progress(step, None, text)

        began = time.monotonic()
        result = await dispatch(params.name, params.arguments, context, progress=progress)
        context.telemetry.mcp_call(params.name, time.monotonic() - began, result)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=result.text)],
            structured_content=dict(result.structured),
            is_error=result.is_error,
        )

    return Server(
        SERVER_NAME,
        version=version_of(DISTRIBUTION),
        title="Molecule",
        instructions=instructions(
            poll_hint=settings.poll_hint,
            workspace_ids=[target.id for target in settings.targets],
            inbox=context.inbox is not None,
        ),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


@asynccontextmanager
async def open_context(
    settings: McpSettings, environ: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[ToolContext, Supervisor]]:
    """Open the clients and the inbox of the configured workspaces; the supervisor is not yet running."""
    async with AsyncExitStack() as stack:
        pools = await stack.enter_async_context(ConnectionPools())
        clients: dict[str, PlatformClient] = {
            target.id: await stack.enter_async_context(
                PlatformClient(target, pools, user_agent=f"molecule-mcp/{version_of(DISTRIBUTION)}")
            )
            for target in settings.targets
        }
        store: InboxStore | None = None
        inbox: PolledInbox | None = None
        if settings.inbox:
            store = await anyio.to_thread.run_sync(InboxStore, settings.state_dir / INBOX_FILE)
            stack.callback(store.close)
            await anyio.to_thread.run_sync(store.release_dead_leases)
            inbox = PolledInbox(store, {target.id: mailbox_of(target) for target in settings.targets})
        audit: AuditTrail | None = None
        if settings.audit is not None:
            audit = AuditTrail(settings.audit)
            stack.callback(audit.close)
        journal = Journal(settings.state_dir)
        stack.callback(journal.close)
        context = ToolContext(
            clients=clients,
            journal=journal,
            permissions=await anyio.to_thread.run_sync(load_permissions, settings.config_dir, environ),
            inbox=inbox,
            identity=_identity(settings, environ),
            delegation_timeout=settings.delegation_timeout,
            tier=await anyio.to_thread.run_sync(load_tier, settings.config_dir, environ),
            state_dir=settings.state_dir,
            files_root=settings.files_root,
            audit=audit,
            sandbox=await anyio.to_thread.run_sync(load_sandbox, settings.config_dir, environ),
            telemetry=settings.telemetry,
        )
        yield context, Supervisor(settings, clients, store, inbox)


async def serve_stdio(settings: McpSettings, environ: Mapping[str, str] | None = None) -> None:
    """Serve one MCP session over stdin and stdout, and every target beside it, until stdin ends or a signal comes.

    Returns only when stdin ended. On SIGTERM, on SIGINT and when nobody reads stdout any more the process ends here.
    """
    async with open_context(settings, environ) as (context, supervisor), anyio.create_task_group() as background:
        background.start_soon(supervisor.run)
        background.start_soon(_stop_on_signal, background)
        server = create_server(settings, context)
        async with session_streams() as (incoming, answers):
            try:
                await server.run(incoming, answers, server.create_initialization_options())
            except anyio.get_cancelled_exc_class():
                # By a signal, or by the transport when stdout is closed. The SDK reads stdin in a thread that no cancellation
                # reaches: to close in order would mean to wait for the client's next line.
                _leave()
        background.cancel_scope.cancel()


def load_permissions(folder: Path, environ: Mapping[str, str] | None = None) -> Permissions:
    """Return the permissions of `config.yaml`, written with the role `operator` where there is none yet.

    A configuration that cannot be read gives read-only permissions and a warning: the gate fails closed.
    """
    path = folder / FILE_NAME
    try:
        if not path.exists():
            write_private(path, DEFAULT_CONFIG)
        return Permissions.from_config(load_config(folder, environ).rbac)
    except (ConfigurationError, OSError) as exc:
        logger.warning("the tools are read-only, since the roles of this workspace are not readable: %s", exc)
        return Permissions.read_only()


def load_tier(folder: Path, environ: Mapping[str, str] | None = None) -> int:
    """Return the tier of `config.yaml`, else that of the environment."""
    try:
        return tier_of(load_config(folder, environ), environ)
    except ConfigurationError:
        # load_permissions has said so already.
        return tier_of(None, environ)


def load_sandbox(folder: Path, environ: Mapping[str, str] | None = None) -> Sandbox | None:
    """Return the sandbox of `config.yaml`; None where that cannot be read."""
    try:
        return Sandbox.from_config(load_config(folder, environ).sandbox, environ)
    except ConfigurationError:
        # load_permissions has said so already.
        return None


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


def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        title=spec.title,
        description=spec.short,
        input_schema=spec.input_schema,
        annotations=types.ToolAnnotations(
            read_only_hint=spec.annotations.read_only,
            destructive_hint=spec.annotations.destructive,
            idempotent_hint=spec.annotations.idempotent,
            open_world_hint=spec.annotations.open_world,
        ),
    )


def _identity(settings: McpSettings, environ: Mapping[str, str] | None) -> RuntimeIdentity:
    return RuntimeIdentity(
        model=env.MODEL.get(environ),
        model_provider=env.MODEL_PROVIDER.get(environ),
        molecule_model=env.MOLECULE_MODEL.get(environ),
        anthropic_base_url=env.ANTHROPIC_BASE_URL.get(environ),
        tier=env.TIER.get(environ),
        workspace_id=settings.targets[0].id,
        runtime=env.ADAPTER_MODULE.get(environ),
    )
