"""The demo's team: who is on it, their workspaces on the platform and the folders they are configured in."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from molecule_runtime.core import env
from molecule_runtime.core.platform import wire
from molecule_runtime.core.secretfile import write_private
from molecule_runtime.core.tokens import TOKEN_FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SYSTEMROOT",
    "VIRTUAL_ENV",
    "PYTHONWARNINGS",
    "COVERAGE_PROCESS_START",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One agent of the team.

    Attributes:
        runtime: the installed adapter that runs it, or `external` for an agent that lives elsewhere.
        parent: name of the member above it.
    """

    name: str
    role: str
    runtime: str
    parent: str | None = None
    runtime_config: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def external(self) -> bool:
        """Whether it connects with `molecule-mcp` instead of being hosted."""
        return self.runtime == "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A member's place: its workspace on the platform and its folder on this machine."""

    member: Member
    workspace_id: str
    folder: Path
    port: int = 0

    @property
    def token_file(self) -> Path:
        """The file that holds its token, 0600."""
        return self.folder / TOKEN_FILE_NAME

    @property
    def log(self) -> Path:
        """What its process writes to stderr."""
        return self.folder / "process.log"


def members(csv: Path | None) -> list[Member]:
    """Return the team: a lead, two specialists and an agent from elsewhere."""
    return [
        Member(name="lead", role="Splits a request and gives each part to the agent that fits", runtime="lead"),
        Member(name="calc", role="Evaluates arithmetic", runtime="calculator", parent="lead"),
        Member(
            name="atlas",
            role="Answers questions about a table",
            runtime="table",
            parent="lead",
            runtime_config={"csv": str(csv)} if csv else {},
        ),
        Member(name="scout", role="Works from elsewhere, through molecule-mcp", runtime="external", parent="lead"),
    ]


async def seat(team: list[Member], *, platform_url: str, admin_token: str, root: Path) -> dict[str, Seat]:
    """Create the members' workspaces on the platform and write their folders; returns the seats by name."""
    seats: dict[str, Seat] = {}
    headers = {"Authorization": f"Bearer {admin_token}"}
    async with httpx.AsyncClient(base_url=platform_url, headers=headers, timeout=10, trust_env=False) as admin:
        for member in team:
            request = wire.CreateWorkspaceRequest(
                name=member.name,
                role=member.role,
                runtime=member.runtime,
                external=member.external,
                parent_id=seats[member.parent].workspace_id if member.parent else None,
                delivery_mode="poll" if member.external else "push",
            )
            created = wire.CreateWorkspaceResponse.model_validate(await _post(admin, "/workspaces", request.body()))
            if created.connection is not None:
                token = created.connection.auth_token
            else:
                minted = await _post(admin, f"/workspaces/{created.id}/tokens", {})
                token = wire.TokenResponse.model_validate(minted).auth_token
            folder = root / member.name
            place = Seat(
                member=member, workspace_id=created.id, folder=folder, port=0 if member.external else _free_port()
            )
            # In a file of its own: a token in the environment or in the arguments would be visible to other processes.
            write_private(place.token_file, token)
            if not member.external:
                write_private(
                    folder / "config.yaml", yaml.safe_dump(_config(place), sort_keys=False, allow_unicode=True)
                )
            seats[member.name] = place
    return seats


def environment(place: Seat, *, platform_url: str) -> dict[str, str]:
    """Return the environment of a member's process: what it needs and nothing else of ours."""
    current = env.current()
    passed_on = {name: current[name] for name in _PASSED_ON if name in current}
    return {
        **passed_on,
        "HOME": str(place.folder),
        env.WORKSPACE_ID.name: place.workspace_id,
        env.PLATFORM_URL.name: platform_url,
        env.CONFIGS_DIR.name: str(place.folder),
        env.WORKSPACE_CONFIG_PATH.name: str(place.folder),
        env.MOLECULE_BIND_HOST.name: "127.0.0.1",
        env.MOLECULE_AGENT_NAME.name: place.member.name,
        env.MOLECULE_AGENT_DESCRIPTION.name: place.member.role,
        "PYTHONUNBUFFERED": "1",
    }


def host_command() -> list[str]:
    """Return the command of a workspace host: the same Python as ours, so the same installed wheels."""
    return [sys.executable, "-m", "molecule_runtime.a2a"]


def driver_command() -> list[str]:
    """Return the command that drives `molecule-mcp` through the official MCP client."""
    return [sys.executable, "-m", "molecule_runtime.mcp.drive"]


async def _post(admin: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> object:
    response = await admin.post(path, json=body)
    response.raise_for_status()
    return response.json()


def _config(place: Seat) -> dict[str, Any]:
    member = place.member
    config: dict[str, Any] = {
        "name": member.name,
        "description": member.role,
        "role": member.role,
        "runtime": member.runtime,
        "a2a": {"port": place.port},
    }
    if member.runtime_config:
        config["runtime_config"] = dict(member.runtime_config)
    return config


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def script(name: str) -> list[str]:
    """Return the console script beside this Python, or the module that it runs."""
    path = os.path.join(os.path.dirname(sys.executable), name)  # noqa: PTH118, PTH120 - keeps a symlinked venv's own path
    return [path] if os.access(path, os.X_OK) else [sys.executable, "-m", "molecule_runtime.mcp"]
