"""What one `molecule-mcp` process works with: the clients, the inbox, the permissions and the supervisor of its workspaces."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.core import env
from molecule_runtime.core.config import FILE_NAME, load_config
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.secretfile import write_private
from molecule_runtime.core.version import version_of
from molecule_runtime.mcp.changes import ResourceChanges
from molecule_runtime.mcp.inbox import PolledInbox, mailbox_of
from molecule_runtime.mcp.served import ServedClients
from molecule_runtime.mcp.settings import DEFAULT_CONFIG
from molecule_runtime.mcp.store import InboxStore
from molecule_runtime.mcp.supervisor import Supervisor
from molecule_runtime.tools import Background, Journal, Permissions, RuntimeIdentity, ToolContext
from molecule_runtime.tools.audit import AuditTrail
from molecule_runtime.tools.context import tier_of
from molecule_runtime.tools.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from molecule_runtime.mcp.settings import McpSettings

logger = logging.getLogger(__name__)

DISTRIBUTION = "molecule-runtime-mcp"
INBOX_FILE = "molecule-mcp.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The parts of one process.

    Attributes:
        context: what the tools work with.
        supervisor: keeps the workspaces alive once it runs.
        inbox: None where this process does not poll.
        changes: says which resources changed.
    """

    context: ToolContext
    supervisor: Supervisor
    inbox: PolledInbox | None
    changes: ResourceChanges


@asynccontextmanager
async def open_process(settings: McpSettings, environ: Mapping[str, str] | None = None) -> AsyncGenerator[Opened]:
    """Open the clients and the inbox of the configured workspaces; the supervisor is not yet running."""
    async with AsyncExitStack() as stack:
        pools = await stack.enter_async_context(ConnectionPools())
        served = await stack.enter_async_context(
            ServedClients(pools, user_agent=f"molecule-mcp/{version_of(DISTRIBUTION)}")
        )
        for target in settings.targets:
            served.open(target)
        changes = ResourceChanges()
        store: InboxStore | None = None
        inbox: PolledInbox | None = None
        if settings.inbox:
            store = await anyio.to_thread.run_sync(InboxStore, settings.state_dir / INBOX_FILE)
            stack.callback(store.close)
            inbox = PolledInbox(
                store,
                {target.id: mailbox_of(target) for target in settings.targets},
                changes,
                files=settings.upload_dir,
            )
        audit: AuditTrail | None = None
        if settings.audit is not None:
            audit = AuditTrail(settings.audit)
            stack.callback(audit.close)
        journal = Journal(settings.state_dir)
        stack.callback(journal.close)
        # After all that its work needs, so that it ends before that.
        background = await stack.enter_async_context(Background())
        supervisor = Supervisor(settings, served, store=store, inbox=inbox, changes=changes, environ=environ)
        context = ToolContext(
            clients=served,
            journal=journal,
            permissions=await anyio.to_thread.run_sync(load_permissions, settings.config_dir, environ),
            inbox=inbox,
            identity=_identity(settings, environ),
            delegation_timeout=settings.delegation_timeout,
            max_wait=settings.max_wait,
            background=background,
            came_through=settings.came_through,
            tier=await anyio.to_thread.run_sync(load_tier, settings.config_dir, environ),
            state_dir=settings.state_dir,
            files_root=settings.files_root,
            audit=audit,
            sandbox=await anyio.to_thread.run_sync(load_sandbox, settings.config_dir, environ),
            telemetry=settings.telemetry,
            served_status=supervisor.summary,
        )
        yield Opened(context=context, supervisor=supervisor, inbox=inbox, changes=changes)


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


def _identity(settings: McpSettings, environ: Mapping[str, str] | None) -> RuntimeIdentity:
    return RuntimeIdentity(
        model=env.MODEL.get(environ),
        model_provider=env.MODEL_PROVIDER.get(environ),
        molecule_model=env.MOLECULE_MODEL.get(environ),
        anthropic_base_url=env.ANTHROPIC_BASE_URL.get(environ),
        tier=env.TIER.get(environ),
        workspace_id=settings.targets[0].id if settings.targets else "",
        runtime=env.ADAPTER_MODULE.get(environ),
    )
