"""What one `molecule-mcp` process works with: the clients, the inbox, the permissions and the supervisor of its workspaces."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
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
    from contextlib import AbstractContextManager
    from pathlib import Path

    from molecule_runtime.mcp.settings import McpSettings

logger = logging.getLogger(__name__)

DISTRIBUTION = "molecule-runtime-mcp"
INBOX_FILE = "molecule-mcp.db"

READS_INBOX = frozenset({"wait_for_message", "inbox_peek"})
"""An agent that calls these is not at work on the message that it has."""


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

    def at_work(self, tool: str) -> AbstractContextManager[None]:
        """Note, for as long as a call of this tool lasts, that the agent works on the messages that it has."""
        if self.inbox is None or tool in READS_INBOX:
            return nullcontext()
        return self.inbox.working()


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
        configured = await anyio.to_thread.run_sync(load_configured, settings.config_dir, environ)
        context = ToolContext(
            clients=served,
            journal=journal,
            permissions=configured.permissions,
            inbox=inbox,
            identity=_identity(settings, environ),
            delegation_timeout=settings.delegation_timeout,
            max_wait=settings.max_wait,
            background=background,
            came_through=settings.came_through,
            tier=configured.tier,
            state_dir=settings.state_dir,
            files_root=settings.files_root,
            audit=audit,
            sandbox=configured.sandbox,
            telemetry=settings.telemetry,
            served_status=supervisor.summary,
        )
        yield Opened(context=context, supervisor=supervisor, inbox=inbox, changes=changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What `config.yaml` says about the tools.

    Attributes:
        permissions: read-only where it cannot be read: the gate fails closed.
        tier: of the workspace, else that of the environment.
        sandbox: None where it cannot be read.
    """

    permissions: Permissions
    tier: int
    sandbox: Sandbox | None


def load_configured(folder: Path, environ: Mapping[str, str] | None = None) -> Configured:
    """Read `config.yaml`, written with the role `operator` where there is none yet. What is wrong with it is logged."""
    path = folder / FILE_NAME
    try:
        if not path.exists():
            write_private(path, DEFAULT_CONFIG)
        config = load_config(folder, environ)
    except (ConfigurationError, OSError) as exc:
        logger.warning("the tools are read-only, since the roles of this workspace are not readable: %s", exc)
        return Configured(permissions=Permissions.read_only(), tier=tier_of(None, environ), sandbox=None)
    return Configured(
        permissions=Permissions.from_config(config.rbac),
        tier=tier_of(config, environ),
        sandbox=Sandbox.from_config(config.sandbox, environ),
    )


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
