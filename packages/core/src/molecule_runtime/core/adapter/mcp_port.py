"""How an MCP server reaches the engine that runs here: the client of a runtime, found by entry point.

A client knows one engine's file. Clients are announced in the entry-point group `molecule_runtime.mcp_clients` under the runtime's
name (lower case, `_` for `-`), so a new engine needs no change here. There is no fallback to another engine's file: that was the
predecessor's #3159 (contract `runtime.md` 20.1, items 1 and 13).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from molecule_runtime.core import features
from molecule_runtime.core.adapter.mcp_spec import (
    MANAGEMENT_MCP_NAME,
    checked_spec,
    management_environment,
    reference_environment,
)
from molecule_runtime.core.adapter.types import UnsupportedRuntimeError
from molecule_runtime.core.errors import MissingFeatureError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

MCP_CLIENTS = "molecule_runtime.mcp_clients"
"""The entry-point group."""

DISTRIBUTION = "molecule-runtime-mcp"
KNOWN_RUNTIMES = ("claude_code", "codex", "gemini_cli", "hermes", "openclaw")
"""Runtimes whose client is in that wheel."""


class McpClient(Protocol):
    """One engine that reads MCP servers from a file of its own."""

    def settings_path(self, config_path: str) -> Path:
        """Return that file; HOME and the engine's own variable are read on each call."""
        ...

    def register(self, config_path: str, name: str, spec: Mapping[str, Any]) -> Path:
        """Add or replace one server and return the file; nothing is written when it is there already."""
        ...

    def remove(self, config_path: str, name: str) -> bool:
        """Remove one server; False when it was not there."""
        ...

    def servers(self, config_path: str) -> dict[str, dict[str, Any]]:
        """Return the declared servers by name; none where there is no file.

        Raises:
            MoleculeError: the file cannot be read.
        """
        ...

    async def list_tools(
        self, specs: Mapping[str, Mapping[str, Any]], *, launch_env: Mapping[str, str]
    ) -> list[str] | None:
        """Start these servers and return the ids of their tools; None when none of them answered."""
        ...


def normalize_runtime(name: str) -> str:
    """Return the key of a runtime: lower case, `_` for `-`."""
    return name.strip().lower().replace("-", "_")


def client_for(runtime: str) -> McpClient:
    """Return the client of a runtime.

    Raises:
        MissingFeatureError: it is in a wheel that is not installed.
        UnsupportedRuntimeError: no wheel is known to have one.
    """
    key = normalize_runtime(runtime)
    announced = features.names(MCP_CLIENTS)
    for name in announced:
        if normalize_runtime(name) == key:
            return cast("McpClient", features.load(MCP_CLIENTS, name))
    if key in KNOWN_RUNTIMES:
        raise MissingFeatureError(f"delivery of MCP servers to {runtime!r}", distribution=DISTRIBUTION)
    raise UnsupportedRuntimeError(runtime, supported=announced)


def register(runtime: str, config_path: str, name: str, spec: Mapping[str, Any]) -> Path:
    """Check a server's spec and write it where the runtime reads it."""
    client = client_for(runtime)
    checked = checked_spec(name, spec, config_path=config_path)
    path = client.register(config_path, name, checked)
    logger.debug("MCP server %s is declared in %s", name, path)
    return path


def management_present(runtime: str, config_path: str) -> bool:
    """Tell whether the management server is declared with something to start or to call."""
    try:
        spec = client_for(runtime).servers(config_path).get(MANAGEMENT_MCP_NAME)
    except Exception:
        # Asked with every heartbeat, so this is not worth more than a debug line (contract `runtime.md` 20.1, item 15).
        logger.debug("cannot tell whether %s is declared", MANAGEMENT_MCP_NAME, exc_info=True)
        return False
    return isinstance(spec, dict) and any(isinstance(spec.get(key), str) and spec[key] for key in ("command", "url"))


async def loaded_tools(runtime: str, config_path: str, launch_env: Mapping[str, str]) -> list[str] | None:
    """Ask the servers that the runtime's own file declares for their tools. Never raises, except for cancellation."""
    try:
        client = client_for(runtime)
        specs = {
            name: {**spec, "env": _launch_environment(name, spec)} for name, spec in client.servers(config_path).items()
        }
        if not specs:
            return None
        return await client.list_tools(specs, launch_env=launch_env)
    except UnsupportedRuntimeError as exc:
        logger.debug("no MCP tools to observe: %s", exc)
        return None
    except Exception as exc:  # a probe fails closed and never raises
        logger.warning("the MCP servers of %s could not be asked for their tools: %s", runtime, exc)
        return None


def _launch_environment(name: str, spec: Mapping[str, Any]) -> dict[str, str]:
    """Return what the engine would give the server: what the spec refers to, and for the management server its credentials."""
    environment = reference_environment(spec)
    if name == MANAGEMENT_MCP_NAME:
        return {**management_environment(), **environment}
    return environment
