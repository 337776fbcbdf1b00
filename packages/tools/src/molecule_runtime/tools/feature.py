"""Tools for an adapter's setup: what this wheel announces under `molecule_runtime.features`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import env, registry
from molecule_runtime.core.adapter.team import build_team_routing_payload
from molecule_runtime.core.adapter.tool import Tool, ToolOutput
from molecule_runtime.core.config import load_config
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.tools.approvals import ApprovalGate
from molecule_runtime.tools.audit import AuditTrail, open_trail
from molecule_runtime.tools.context import DELEGATION_TIMEOUT, RuntimeIdentity, ToolContext, tier_of
from molecule_runtime.tools.dispatcher import available_tools, dispatch
from molecule_runtime.tools.files import files_root
from molecule_runtime.tools.journal import Journal
from molecule_runtime.tools.permissions import Permissions
from molecule_runtime.tools.sandbox import Sandbox
from molecule_runtime.tools.telemetry_sdk import configure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from molecule_runtime.core.adapter import AdapterConfig
    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry import ToolSpec

logger = logging.getLogger(__name__)

ROUTE_TOOL = "route_task_to_team"
"""Contract `workspace-host.md` 16."""

_ROUTE_SCHEMA = {
    "type": "object",
    "properties": {
        "task": {"type": "string", "minLength": 1, "description": "What is to be done."},
        "preferred_member_id": {
            "type": "string",
            "description": "Workspace id of the member that should do it; leave it out to see who could.",
        },
    },
    "required": ["task"],
    "additionalProperties": False,
}


def tools(config: AdapterConfig, *, children: Sequence[wire.Peer] = ()) -> list[Tool]:
    """Return the tools of this workspace; none where there is no platform to act on.

    Those of the inbox are left out: the host delivers messages itself. A workspace with children also gets `route_task_to_team`.
    """
    platform = config.platform
    if platform is None:
        return []
    context = context_of(config, platform)
    found = tools_of(context)
    if children:
        found.append(_route_tool(platform, context, {child.id for child in children}))
    return found


def context_of(config: AdapterConfig, platform: PlatformClient) -> ToolContext:
    """Return what the tools of a workspace work with, by its configuration. Reads files, so call it on a thread from async code.

    Without a readable configuration the tools only read.
    """
    read = _configuration(config)
    state_dir = Path(config.state_dir) if config.state_dir else None
    return ToolContext(
        clients={platform.workspace_id: platform},
        permissions=Permissions.read_only() if read is None else Permissions.from_config(read.rbac),
        identity=RuntimeIdentity(model=config.model, workspace_id=config.workspace_id),
        delegation_timeout=_delegation_timeout(read),
        tier=tier_of(read),
        state_dir=state_dir,
        journal=Journal(state_dir),
        files_root=files_root(),
        audit=_audit(config),
        sandbox=None if read is None else Sandbox.from_config(read.sandbox),
        telemetry=configure(env.current(), service="molecule-runtime"),
    )


def tools_of(context: ToolContext) -> list[Tool]:
    """Return every tool of this build over a context, which may serve several workspaces; those of the inbox where it has one."""
    implemented = available_tools()
    return [
        _tool(spec, context)
        for spec in registry.TOOLS
        if spec.name in implemented and (spec.section != registry.INBOX_SECTION or context.inbox is not None)
    ]


def approval_gate(config: AdapterConfig) -> ApprovalGate:
    """Return who asks people for approval on behalf of this workspace, by the rules of its `hitl` block.

    Without a readable configuration nobody is let through without being asked.

    Raises:
        ConfigurationError: there is no platform, and so nobody to ask, or `hitl.channels` names a channel that nobody delivers to.
    """
    if config.platform is None:
        raise ConfigurationError(
            "an approval needs a platform, where a person decides: set WORKSPACE_ID and PLATFORM_URL"
        )
    journal = Journal(Path(config.state_dir) if config.state_dir else None)
    read = _configuration(config)
    traces, audit = configure(env.current(), service="molecule-runtime"), _audit(config)
    if read is None:
        return ApprovalGate(config.platform, journal, telemetry=traces, audit=audit)
    _check_channels(read)
    return ApprovalGate(
        config.platform,
        journal,
        timeout=read.hitl.default_timeout,
        roles=read.rbac.roles,
        bypass_roles=read.hitl.bypass_roles,
        telemetry=traces,
        audit=audit,
    )


def _check_channels(config: WorkspaceConfig) -> None:
    """Refuse a channel on which nobody would ever be asked: the platform shows requests on its page, and has no route to another."""
    for number, channel in enumerate(config.hitl.channels):
        if channel.type != "dashboard":
            raise ConfigurationError(
                f"hitl.channels[{number}].type is {channel.type!r}: people are asked by the platform, on its page (dashboard), and nothing"
                f" here sends to {channel.type}. Remove the channel; what the platform forwards to {channel.type} is set up there"
            )


def _delegation_timeout(config: WorkspaceConfig | None) -> float:
    """Return what the configuration or `DELEGATION_TIMEOUT` says; else the tools' own, which is longer than that of the schema."""
    if config is not None and "timeout" in config.delegation.model_fields_set:
        return config.delegation.timeout
    return DELEGATION_TIMEOUT


def _audit(config: AdapterConfig) -> AuditTrail | None:
    try:
        return open_trail(env.current(), folder=Path(config.state_dir) if config.state_dir else None)
    except ConfigurationError as exc:
        logger.error("there is no audit ledger: %s", exc)  # noqa: TRY400 - the message says it all
        return None


def _configuration(config: AdapterConfig) -> WorkspaceConfig | None:
    try:
        return config.workspace_config or load_config(config.config_path)
    except ConfigurationError:
        return None


def _tool(spec: ToolSpec, context: ToolContext) -> Tool:
    async def run(arguments: Mapping[str, Any]) -> ToolOutput:
        result = await dispatch(spec.name, arguments, context)
        return ToolOutput(text=result.text, structured=result.structured, is_error=result.is_error)

    return Tool(name=spec.name, description=spec.short, input_schema=spec.input_schema, run=run)


def _route_tool(platform: PlatformClient, context: ToolContext, team: set[str]) -> Tool:
    async def run(arguments: Mapping[str, Any]) -> ToolOutput:
        task = arguments.get("task")
        preferred = arguments.get("preferred_member_id") or ""
        if not isinstance(task, str) or not task.strip() or not isinstance(preferred, str):
            text = f"{ROUTE_TOOL}: 'task' must be text, and 'preferred_member_id' text where it is given"
            return ToolOutput(text=text, structured={"success": False, "error": text}, is_error=True)
        if preferred:
            decision = build_team_routing_payload([{"id": member} for member in team], task, preferred)
            if not decision["success"]:
                return ToolOutput(text=decision["error"], structured=decision, is_error=True)
            result = await dispatch("delegate_task", {"workspace_id": preferred, "task": task}, context)
            return ToolOutput(text=result.text, structured=result.structured, is_error=result.is_error)
        # Asked again: who is there changes.
        listed = await dispatch("list_peers", {}, context)
        peers: list[dict[str, Any]] = list(listed.structured.get("peers", []))
        members = [{**peer, "agent_card": {"skills": peer.get("skills")}} for peer in peers if peer["id"] in team]
        decision = build_team_routing_payload(members, task)
        if listed.is_error:
            decision["error"] = listed.text
        return ToolOutput(
            text=json.dumps(decision, ensure_ascii=False), structured=decision, is_error=not decision["success"]
        )

    return Tool(
        name=ROUTE_TOOL,
        description="Find the member of your team for a task, or hand it to the member you name. Returns the candidates or the answer.",
        input_schema=_ROUTE_SCHEMA,
        run=run,
    )
