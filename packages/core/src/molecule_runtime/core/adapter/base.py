"""`BaseAdapter`: every method that a template may override, with its default.

What a method needs only when it is called is imported there, so that an adapter module stays cheap to import.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core.adapter.types import MAX_SNAPSHOT_LINES, AdapterConfig, RuntimeCapabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from molecule_runtime.core.adapter.types import SetupResult
    from molecule_runtime.core.plugins import InstallResult, Plugin


class BaseAdapter(ABC):
    """One kind of agent. A template subclasses it, names the subclass `Adapter`, and sets `ADAPTER_MODULE`.

    Subclasses need not call `super().__init__()`: state is on the class or made when it is asked for.
    """

    _executor: Any = None
    _snapshot_session_id: str | None = None
    _snapshot_transcript: list[Any] | None = None
    _event_log: Any = None

    # --- who it is --------------------------------------------------------------------------------------------------------

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

    # --- life -------------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def setup(self, config: AdapterConfig) -> None:
        """Check and prepare everything the executor needs.

        Raises:
            RuntimeError: with a reason for people; the workspace then stays reachable and says that it is not configured.
        """

    @abstractmethod
    async def create_executor(self, config: AdapterConfig) -> Any:
        """Return the `a2a.server.agent_execution.AgentExecutor` that runs the turns; by convention also in `_executor`."""

    async def _common_setup(self, config: AdapterConfig) -> SetupResult:
        """Collect what the installed wheels bring (plugins, skills, tools, the team) and assemble the system prompt.

        The prompt is also left on `config.system_prompt`. What is not installed is named in `SetupResult.absent`, what could
        not be used in `SetupResult.problems`; neither raises.

        Raises:
            PrivilegedPluginInstallError: the platform's management plugin could not be installed.
        """
        from molecule_runtime.core.adapter.setup import common_setup

        return await common_setup(self, config)

    async def reload(self, config: AdapterConfig) -> None:
        """Take a changed prompt or changed skills over while the workspace runs.

        `config` is the object that `setup` and `create_executor` were given; its `prompt_files`, `tools` and `workspace_config`
        are new, or the text of a prompt file is. The default assembles the system prompt anew where setup did, and gives it to an
        executor that keeps it in an attribute `system_prompt`. One that keeps it elsewhere overrides this method.
        """
        if config.system_prompt is None:
            return
        from molecule_runtime.core.adapter.setup import collect_again

        result = await collect_again(self, config)
        if hasattr(self._executor, "system_prompt"):
            self._executor.system_prompt = result.system_prompt

    @property
    def event_log(self) -> Any:
        """Where this adapter records events; it drops them until somebody sets another."""
        if self._event_log is None:
            from molecule_runtime.core.adapter.events import DisabledEventLog

            self._event_log = DisabledEventLog()
        return self._event_log

    @event_log.setter
    def event_log(self, value: Any) -> None:
        self._event_log = value

    # --- memory, persona, transcript --------------------------------------------------------------------------------------

    def memory_filename(self) -> str:
        """Return the name of the file that the agent reads as its long-lived memory."""
        return "CLAUDE.md"

    def append_to_memory_hook(self, config: AdapterConfig, filename: str, content: str) -> None:
        """Append `content` to a memory file unless its first line is there already (contract `workspace-host.md` 8.2).

        Raises:
            ConfigurationError: `filename` leads out of the folder of config.yaml.
        """
        from molecule_runtime.core.adapter.memory import append_once

        append_once(config.config_path, filename, content)

    def materialize_persona(self, config: AdapterConfig) -> Path | None:
        """Write the persona of `prompt_files` where the runtime reads its identity; None when there is no persona.

        The default is `<config_path>/system-prompt.md`, which is left alone when a person wrote it. Best effort: it never raises.
        """
        from molecule_runtime.core.adapter.memory import materialize_persona

        return materialize_persona(config.config_path, config.prompt_files)

    async def transcript_lines(self, since: int = 0, limit: int = 100) -> dict[str, Any]:
        """Return a page of the agent's transcript; the default says that there is none."""
        return {"runtime": self.name(), "supported": False, "lines": [], "cursor": since, "more": False, "source": None}

    def pre_stop_state(self) -> dict[str, Any]:
        """Return what a restart should restore, as a JSON object.

        The session id is the executor's, else the one restored at the last start: a workspace that is stopped before its first
        turn must not lose it. The transcript is there only where `transcript_lines` is overridden synchronously.
        """
        state: dict[str, Any] = {}
        session = getattr(self._executor, "_session_id", None)
        if not (isinstance(session, str) and session):
            session = self._snapshot_session_id
        if session:
            state["session_id"] = session
        lines: Any = self.transcript_lines
        if not inspect.iscoroutinefunction(lines):
            state["transcript_lines"] = list(lines(limit=MAX_SNAPSHOT_LINES).get("lines", []))[-MAX_SNAPSHOT_LINES:]
        return state

    def restore_state(self, snapshot: Mapping[str, Any]) -> None:
        """Take back what `pre_stop_state` returned before the restart.

        Takes the snapshot as it is written, with the adapter's state under `adapter`, and the bare state (contract
        `workspace-host.md` 23.4: the predecessor wrote the one and read the other).
        """
        nested: object = snapshot.get("adapter")
        states: list[Mapping[str, Any]] = [snapshot]
        if isinstance(nested, dict):
            states.insert(0, cast("dict[str, Any]", nested))
        sessions = [state.get("session_id") for state in states]
        self._snapshot_session_id = next((one for one in sessions if isinstance(one, str) and one), None)
        transcripts: list[object] = [state.get(key) for state in states for key in ("transcript_lines", "transcript")]
        kept = (list(cast("list[object]", one)) for one in transcripts if isinstance(one, list))
        self._snapshot_transcript = next(kept, None)

    # --- sessions ---------------------------------------------------------------------------------------------------------

    async def session_current(self) -> dict[str, Any]:
        """Return the session that turns run in: `{runtime, supported, session}`; `session` is None before the first turn.

        `supported` says whether sessions can be started and resumed. The default knows one session and says so.
        """
        return {"runtime": self.name(), "supported": False, "session": self._session()}

    async def session_list(self) -> dict[str, Any]:
        """Return every session: `{runtime, supported, sessions}`."""
        session = self._session()
        return {"runtime": self.name(), "supported": False, "sessions": [session] if session else []}

    async def session_start(self, label: str | None = None) -> dict[str, Any]:
        """Start a session and make it the current one: `{runtime, supported, started, session, reason}`."""
        return {
            "runtime": self.name(),
            "supported": False,
            "started": False,
            "session": self._session(),
            "reason": f"{self.name()} has one session and cannot start another",
        }

    async def session_resume(self, session_id: str) -> dict[str, Any]:
        """Make another session the current one: `{runtime, supported, resumed, session, reason}`."""
        session = self._session()
        current = session is not None and session["id"] == session_id
        return {
            "runtime": self.name(),
            "supported": False,
            # True only for what is already so.
            "resumed": current,
            "session": session,
            "reason": None if current else f"{self.name()} has one session and cannot resume {session_id!r:.80}",
        }

    def _session(self) -> dict[str, Any] | None:
        identifier = getattr(self._executor, "_session_id", None) or self._snapshot_session_id
        return (
            {"id": identifier, "label": None, "current": True} if isinstance(identifier, str) and identifier else None
        )

    # --- plugins ----------------------------------------------------------------------------------------------------------

    def register_tool_hook(self, name: str, fn: Callable[..., Any]) -> None:  # noqa: B027 - optional by contract
        """Take a tool that a plugin brings; the default has no place for it."""

    def register_subagent_hook(self, name: str, spec: Mapping[str, Any]) -> None:  # noqa: B027 - optional by contract
        """Take a sub-agent that a plugin brings; the default has no place for it."""

    async def install_plugins_via_registry(
        self, config: AdapterConfig, plugins: Sequence[Plugin] | Any
    ) -> list[InstallResult]:
        """Install each plugin through the hooks of this adapter. Takes plugins, or what `load_plugins` returns.

        A plugin that fails is logged and recorded in its result.

        Raises:
            PrivilegedPluginInstallError: the platform's management plugin could not be installed.
        """
        from molecule_runtime.core.adapter.setup import install_plugins

        return await install_plugins(self, config, plugins)

    async def inject_plugins(self, config: AdapterConfig, plugins: Sequence[Plugin] | Any) -> list[InstallResult]:
        """Install the plugins at setup; the older name of `install_plugins_via_registry`, which it calls."""
        return await self.install_plugins_via_registry(config, plugins)

    # --- MCP servers ------------------------------------------------------------------------------------------------------
    # The port through which a plugin's MCP server reaches the engine that runs here. There is no default file: an engine that
    # nobody knows raises, since a server written where the engine does not look is a server that silently is not there.

    def mcp_settings_path(self, config: AdapterConfig) -> str:
        """Return the file from which this runtime reads its MCP servers.

        Raises:
            UnsupportedRuntimeError: nobody knows how this runtime is told about an MCP server.
            MissingFeatureError: the wheel that knows is not installed.
        """
        from molecule_runtime.core.adapter import mcp_port

        return str(mcp_port.client_for(self.name()).settings_path(config.config_path))

    def register_mcp_server_hook(self, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
        """Add or replace one MCP server in that file: `{command, args?, env?}` or `{url}`. Idempotent byte for byte.

        Raises:
            UnsupportedRuntimeError: nobody knows how this runtime is told about an MCP server.
            MissingFeatureError: the wheel that knows is not installed.
            ConfigurationError: the spec cannot be used, or holds a secret.
            MoleculeError: the file cannot be changed without losing something in it.
        """
        from molecule_runtime.core.adapter import mcp_port

        mcp_port.register(self.name(), config.config_path, name, spec)

    def unregister_mcp_server_hook(self, config: AdapterConfig, name: str) -> bool:
        """Remove one MCP server from that file, as when its plugin is uninstalled; False when it was not there.

        Raises:
            UnsupportedRuntimeError: nobody knows how this runtime is told about an MCP server.
            MissingFeatureError: the wheel that knows is not installed.
            MoleculeError: the file cannot be changed without losing something in it.
        """
        from molecule_runtime.core.adapter import mcp_port

        return mcp_port.client_for(self.name()).remove(config.config_path, name)

    def management_mcp_present(self, config: AdapterConfig) -> bool:
        """Tell whether the management server is declared in the file that this runtime reads. False on any doubt; never raises."""
        from molecule_runtime.core.adapter import mcp_port

        return mcp_port.management_present(self.name(), config.config_path)

    async def enumerate_loaded_mcp_tools(self, config: AdapterConfig) -> list[str] | None:
        """Start the declared servers, ask each for its tools, and return their ids, `mcp__<server>__<tool>`.

        None when nothing could be observed (nothing declared, or no server answered), `[]` when servers answered and have no
        tools. Bounded in time; never raises.
        """
        from molecule_runtime.core.adapter import mcp_port

        return await mcp_port.loaded_tools(self.name(), config.config_path, self.mcp_launch_env(config))

    def mcp_launch_env(self, config: AdapterConfig) -> dict[str, str]:
        """Return variables for the MCP servers of this runtime, over the process's own and under those of a server's spec."""
        return {}
