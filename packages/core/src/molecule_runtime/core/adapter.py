"""The adapter interface: what a template implements to put an agent on the team (contract `workspace-host.md` 8).

Free of any SDK: `create_executor` returns an `a2a.server.agent_execution.AgentExecutor`, which is named here for type checkers only.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from molecule_runtime.core.platform.client import PlatformClient

MAX_SNAPSHOT_LINES = 200
"""Transcript lines in a pre-stop snapshot; contract `runtime.md` 12.3."""


class PrivilegedPluginInstallError(RuntimeError):
    """The platform's own management plugin could not be installed; boot stops rather than run without it."""


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

    def to_dict(self) -> dict[str, bool]:
        """Return the flags under their wire keys (contract `platform-api.md` 4.2.1)."""
        return {
            "heartbeat": self.provides_native_heartbeat,
            "scheduler": self.provides_native_scheduler,
            "session": self.provides_native_session,
            "status_mgmt": self.provides_native_status_mgmt,
            "retry": self.provides_native_retry,
            "activity_decoration": self.provides_activity_decoration,
            "channel_dispatch": self.provides_channel_dispatch,
        }


@dataclass(slots=True)
class AdapterConfig:
    """What the host gives an adapter. Mutable: adapters write `system_prompt`.

    Attributes:
        model: `provider:model`.
        runtime_config: the `runtime_config` block of config.yaml, a plain dict.
        config_path: folder of config.yaml.
        a2a_port: port of this workspace's A2A server.
        heartbeat: opaque; pass it to `set_current_task`-style helpers.
        platform: the client of this workspace, to list peers and talk to them; None where there is no platform.
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


class BaseAdapter(ABC):
    """One kind of agent. A template subclasses it, names the subclass `Adapter`, and sets `ADAPTER_MODULE`.

    Subclasses need not call `super().__init__()`: nothing here depends on it.
    """

    _executor: Any = None
    _snapshot_session_id: str | None = None
    _snapshot_transcript: list[Any] | None = None

    @staticmethod
    @abstractmethod
    def name() -> str:
        """Return the runtime key, for example `claude-code`; by convention equal to `runtime` in config.yaml."""

    @staticmethod
    @abstractmethod
    def display_name() -> str:
        """Return the name for people."""

    @staticmethod
    @abstractmethod
    def description() -> str:
        """Return one sentence on what this agent does."""

    @abstractmethod
    async def setup(self, config: AdapterConfig) -> None:
        """Check and prepare everything the executor needs.

        Raises:
            RuntimeError: with a reason for people; the workspace then stays reachable and says that it is not configured.
        """

    @abstractmethod
    async def create_executor(self, config: AdapterConfig) -> Any:
        """Return the `a2a.server.agent_execution.AgentExecutor` that runs the turns."""

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """Return the JSON Schema of `runtime_config`; empty when it takes none."""
        return {}

    def skills(self) -> list[Mapping[str, Any]]:
        """Return the skills for the agent card (`id`, `name`, `description`, `tags`); none by default."""
        return []

    def capabilities(self) -> RuntimeCapabilities:
        """Return what this adapter does itself."""
        return RuntimeCapabilities()

    def idle_timeout_override(self) -> int | None:
        """Return the A2A idle timeout in seconds, or None for the platform's own (300 s)."""
        return None

    def memory_filename(self) -> str:
        """Return the name of the file that the agent reads as its long-lived memory."""
        return "CLAUDE.md"

    def register_tool_hook(self, name: str, fn: Callable[..., Any]) -> None:  # noqa: B027 - optional by contract
        """Take a tool that a plugin brings; the default has no place for it."""

    def register_subagent_hook(self, name: str, spec: Mapping[str, Any]) -> None:  # noqa: B027 - optional by contract
        """Take a sub-agent that a plugin brings; the default has no place for it."""

    def append_to_memory_hook(self, config: AdapterConfig, filename: str, content: str) -> None:
        """Append `content` to a memory file unless its first line is there already (contract `workspace-host.md` 8.2)."""
        path = Path(config.config_path) / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        present = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        first = content.strip().partition("\n")[0].strip()
        if not first or first in present:
            return
        separator = "" if not present or present.endswith("\n\n") else "\n" if present.endswith("\n") else "\n\n"
        with path.open("a", encoding="utf-8") as handle:
            handle.write(f"{separator}{content.rstrip()}\n")

    async def transcript_lines(self, since: int = 0, limit: int = 100) -> dict[str, Any]:
        """Return a page of the agent's transcript; the default says that there is none."""
        return {"runtime": self.name(), "supported": False, "lines": [], "cursor": since, "more": False, "source": None}

    def pre_stop_state(self) -> dict[str, Any]:
        """Return what a restart should restore, as a JSON object."""
        state: dict[str, Any] = {}
        session = getattr(self._executor, "_session_id", None)
        if isinstance(session, str) and session:
            state["session_id"] = session
        # An adapter may override it synchronously; only then can it be asked here.
        lines: Any = self.transcript_lines
        if not inspect.iscoroutinefunction(lines):
            state["transcript"] = list(lines(limit=MAX_SNAPSHOT_LINES).get("lines", []))[-MAX_SNAPSHOT_LINES:]
        return state

    def restore_state(self, snapshot: Mapping[str, Any]) -> None:
        """Take back what `pre_stop_state` returned before the restart."""
        session = snapshot.get("session_id")
        self._snapshot_session_id = session if isinstance(session, str) else None
        transcript: Any = snapshot.get("transcript")
        self._snapshot_transcript = [*transcript] if isinstance(transcript, list) else None
