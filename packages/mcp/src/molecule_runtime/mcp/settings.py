"""What `molecule-mcp` was asked to do: read once from the environment, then passed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import configs_dir, delegation_chain, env
from molecule_runtime.core.identity import short_id
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.core.targets import WorkspaceTarget, resolve_targets, workspaces_file
from molecule_runtime.mcp import push_hosts
from molecule_runtime.mcp.instructions import DEFAULT_POLL_HINT, poll_hint_of
from molecule_runtime.mcp.push_hosts import PushChoice
from molecule_runtime.tools.audit import AuditSettings, load_audit_settings
from molecule_runtime.tools.files import files_root
from molecule_runtime.tools.telemetry import PROCESS, Telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.identity import WorkspaceId

MAX_WAIT = 50.0
"""Seconds; many clients cut calls after 60 (issue 7, point 1)."""

DEFAULT_CONFIG = "# Written by molecule-mcp on its first start.\nrbac:\n  roles:\n    - operator\n"
"""Without a role the gate would fall back to read-only on a laptop (contract `runtime.md` 3.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McpSettings:
    """The settings of one `molecule-mcp` process.

    Attributes:
        targets: the workspaces that are served at the start.
        workspaces_file: the file of workspaces whose changes are followed; None for none.
        state_dir: folder of the inbox file.
        config_dir: folder of config.yaml.
        files_root: folder whose files may be sent to people; None for none.
        audit: where the audit ledger is; None for no ledger.
        telemetry: what traces the calls.
        push: whether and how messages are pushed to the client.
        upload_dir: folder of files that people sent; None for one beside the inbox file.
        poll_hint: seconds that the instructions tell the agent to wait for messages each turn; 0 for not at all.
        max_wait: seconds that one tool call waits; None for as long as it was asked.
        came_through: where a host runs this for one turn, the workspaces through which its task came.
        agent_name: for the agent card; None for the default, which names the workspace.
    """

    targets: tuple[WorkspaceTarget, ...]
    workspaces_file: Path | None = None
    state_dir: Path
    config_dir: Path
    files_root: Path | None = None
    audit: AuditSettings | None = None
    telemetry: Telemetry = PROCESS
    heartbeat: bool = True
    inbox: bool = True
    push: PushChoice = field(default_factory=PushChoice)
    upload_dir: Path | None = None
    poll_hint: int = DEFAULT_POLL_HINT
    delegation_timeout: float = 300.0
    max_wait: float | None = MAX_WAIT
    came_through: tuple[WorkspaceId, ...] = ()
    agent_name: str | None = None
    agent_description: str = ""
    agent_skills: tuple[str, ...] = ()

    def name_of(self, workspace_id: str) -> str:
        """Return the name on a workspace's agent card."""
        return self.agent_name or f"molecule-mcp-{short_id(workspace_id)}"


def load_settings(environ: Mapping[str, str] | None = None) -> McpSettings:
    """Read the settings from the environment.

    Raises:
        TargetError: the workspaces are missing or wrong; every problem is named.
        ConfigurationError: there is no usable folder for state.
    """
    targets = resolve_targets(environ)
    state_dir = configs_dir.resolve(environ)
    named = env.WORKSPACE_CONFIG_PATH.is_set(environ)
    config_dir = expand_home(env.WORKSPACE_CONFIG_PATH.get(environ)) if named else state_dir
    skills = [skill.strip() for skill in env.MOLECULE_AGENT_SKILLS.get(environ).split(",")]
    return McpSettings(
        targets=tuple(targets),
        workspaces_file=workspaces_file(environ),
        state_dir=state_dir,
        config_dir=config_dir,
        files_root=files_root(environ, started_in=_started_in()),
        audit=load_audit_settings(env.current() if environ is None else environ, folder=state_dir),
        heartbeat=not env.MOLECULE_MCP_DISABLE_HEARTBEAT.flag(environ),
        inbox=not env.MOLECULE_MCP_DISABLE_INBOX.flag(environ),
        push=push_hosts.load(environ),
        upload_dir=expand_home(env.MOLECULE_CHAT_UPLOAD_DIR.get(environ))
        if env.MOLECULE_CHAT_UPLOAD_DIR.is_set(environ)
        else None,
        poll_hint=poll_hint_of(environ),
        delegation_timeout=_positive(
            env.DELEGATION_TIMEOUT.get(environ), default=float(env.DELEGATION_TIMEOUT.default)
        ),
        max_wait=_max_wait(env.MOLECULE_MCP_MAX_WAIT_SECS.get(environ)),
        came_through=delegation_chain.of_this_program(environ),
        agent_name=env.MOLECULE_AGENT_NAME.get(environ) or None,
        agent_description=env.MOLECULE_AGENT_DESCRIPTION.get(environ),
        agent_skills=tuple(skill for skill in skills if skill),
    )


def _started_in() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        # Somebody removed it.
        return None


def _max_wait(value: str) -> float | None:
    """Read the limit: 0 is none; what is no number of seconds is the default (the command refuses to start with it)."""
    try:
        seconds = float(value)
    except ValueError:
        return MAX_WAIT
    return (seconds or None) if 0 <= seconds < 86_400 else MAX_WAIT


def _positive(value: str, *, default: float) -> float:
    try:
        number = float(value)
    except ValueError:
        return default
    return number if 0 < number < 86_400 else default
