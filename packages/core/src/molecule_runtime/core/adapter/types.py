"""What passes between the host and an adapter, and the errors of the adapter interface.

PrivilegedPluginInstallError (MoleculeError, RuntimeError)
UnsupportedRuntimeError (MoleculeError, NotImplementedError)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.errors import MoleculeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molecule_runtime.core.adapter.skill import LoadedSkill
    from molecule_runtime.core.adapter.tool import Tool
    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.platform.client import PlatformClient

MAX_SNAPSHOT_LINES = 200
"""Transcript lines in a pre-stop snapshot; contract `runtime.md` 12.3."""


class PrivilegedPluginInstallError(MoleculeError, RuntimeError):
    """The platform's own management plugin could not be installed; boot stops rather than run without it."""


class UnsupportedRuntimeError(MoleculeError, NotImplementedError):
    """Nobody knows how this runtime is told about an MCP server, and writing another runtime's file would hide that.

    Attributes:
        runtime: the name that the adapter gave.
    """

    def __init__(self, runtime: str, *, supported: Sequence[str] = ()) -> None:
        known = f" (supported: {', '.join(supported)})" if supported else ""
        super().__init__(
            f"MCP servers cannot be delivered to runtime {runtime!r}{known}: override register_mcp_server_hook, "
            "unregister_mcp_server_hook, mcp_settings_path, management_mcp_present and enumerate_loaded_mcp_tools in its "
            "adapter, or announce a client for it in the entry-point group molecule_runtime.mcp_clients"
        )
        self.runtime = runtime


@dataclass(frozen=True, slots=True)
class RuntimeCapabilities:
    """What an adapter does itself, so that the platform switches its substitute off. All False by default."""

    provides_native_heartbeat: bool = False
    provides_native_scheduler: bool = False
    provides_native_session: bool = False
    provides_native_status_mgmt: bool = False
    provides_native_retry: bool = False
    provides_activity_decoration: bool = False
    provides_channel_dispatch: bool = False
    provides_native_session_lifecycle: bool = False
    """It starts, lists and resumes sessions itself (`BaseAdapter.session_start` and its siblings)."""

    def to_dict(self) -> dict[str, bool]:
        """Return the flags under their wire keys (contract `platform-api.md` 4.2.1).

        `session_lifecycle` is stated only when it is on: the seven others are the exact set that a platform of the seed knows.
        """
        flags = {
            "heartbeat": self.provides_native_heartbeat,
            "scheduler": self.provides_native_scheduler,
            "session": self.provides_native_session,
            "status_mgmt": self.provides_native_status_mgmt,
            "retry": self.provides_native_retry,
            "activity_decoration": self.provides_activity_decoration,
            "channel_dispatch": self.provides_channel_dispatch,
        }
        if self.provides_native_session_lifecycle:
            flags["session_lifecycle"] = True
        return flags


@dataclass
class AdapterConfig:
    """What the host gives an adapter. Mutable: `_common_setup` and adapters write `system_prompt`.

    Attributes:
        model: `provider:model`.
        tools: the names of the workspace's skills, which earlier versions passed under this name.
        runtime_config: the `runtime_config` block of config.yaml, a plain dict.
        config_path: folder of config.yaml.
        prompt_files: files in that folder, in order; `system-prompt.md` when there are none.
        a2a_port: port of this workspace's A2A server.
        heartbeat: opaque; pass it to `set_current_task`-style helpers.
        platform: the client of this workspace, to list peers and talk to them; None where there is no platform.
        workspace_config: config.yaml as the host read it, so that nobody reads it again; None where it was not read.
        state_dir: folder for what is to outlive the process, such as the token; `""` where there is none.
    """

    model: str
    system_prompt: str | None = None
    tools: list[Any] = field(default_factory=list[Any])
    runtime_config: dict[str, Any] = field(default_factory=dict[str, Any])
    config_path: str = "/configs"
    workspace_id: str = ""
    prompt_files: list[str] = field(default_factory=list[str])
    a2a_port: int = 8000
    heartbeat: Any = None
    platform: PlatformClient | None = None
    workspace_config: WorkspaceConfig | None = None
    state_dir: str = ""


@dataclass
class SetupResult:
    """What `BaseAdapter._common_setup` found.

    Attributes:
        system_prompt: also on the config that was passed.
        loaded_skills: the workspace's, then those of its plugins.
        tools: neutral; `to_langchain()`, `to_openai()` and `to_mcp()` of each give the shape that an engine wants.
        is_coordinator: this workspace has children to delegate to.
        children: their rows on the platform.
        absent: features that no installed wheel brings, each with the line that installs it.
        problems: what was left out and why, one line each; none of it stops the boot.
    """

    system_prompt: str
    loaded_skills: list[LoadedSkill] = field(default_factory=list["LoadedSkill"])
    tools: list[Tool] = field(default_factory=list["Tool"])
    is_coordinator: bool = False
    children: list[wire.Peer] = field(default_factory=list["wire.Peer"])
    absent: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    _langchain: list[Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def langchain_tools(self) -> list[Any]:
        """The tools as LangChain's `BaseTool`, for runtimes that are built on it; made on first use.

        Raises:
            MissingFeatureError: langchain-core is not installed.
        """
        if self._langchain is None:
            self._langchain = [tool.to_langchain() for tool in self.tools]
        return self._langchain
