"""Calls of tools as the workspace of this process, whose environment names it: what the predecessor's functions are made of.

Each call opens a client of its own, since such a function may be called in any event loop; what must be one in a process, the
journal and the audit ledger, is kept.
"""

from __future__ import annotations

import atexit
import functools
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from molecule_runtime.a2a.adapter_config import adapter_config_of
from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.core import env, registry
from molecule_runtime.core.adapter import AdapterConfig
from molecule_runtime.core.config import load_config
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.tools import Journal, ToolResult, dispatch
from molecule_runtime.tools.audit import AuditSettings, AuditTrail, load_audit_settings
from molecule_runtime.tools.feature import context_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from molecule_runtime.tools import ToolContext

__all__ = ["acting", "call", "call_text", "close"]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def acting() -> AsyncGenerator[tuple[AdapterConfig, PlatformClient]]:
    """Open a client of this workspace, with its configuration.

    Raises:
        ConfigurationError: the environment names no workspace.
    """
    settings = await anyio.to_thread.run_sync(load_settings)
    async with ConnectionPools() as pools, PlatformClient(settings.target, pools) as client:
        try:
            read = await anyio.to_thread.run_sync(load_config, settings.config_path)
        except ConfigurationError as exc:
            # The tools only read then.
            logger.warning("the configuration of this workspace is not used: %s", exc)
            yield (
                AdapterConfig(
                    model="",
                    config_path=str(settings.config_path),
                    workspace_id=settings.target.id,
                    platform=client,
                    state_dir=str(settings.configs_dir),
                ),
                client,
            )
        else:
            yield adapter_config_of(settings, read, client), client


async def call(name: str, arguments: Mapping[str, Any] | None) -> ToolResult:
    """Call a tool with the permissions of this workspace, in its ledger; arguments that it does not have are left out.

    Raises:
        ConfigurationError: the environment names no workspace.
    """
    given = dict(arguments or {})
    if name in registry.tool_names():
        known = registry.by_name(name).input_schema.get("properties", {})
        if unknown := [key for key in given if key not in known]:
            logger.debug("%s has no argument %s", name, ", ".join(unknown))
        given = {key: value for key, value in given.items() if key in known and value is not None}
    async with acting() as (config, client):
        context = await anyio.to_thread.run_sync(_context, config, client)
        return await dispatch(name, given, context)


async def call_text(name: str, arguments: Mapping[str, Any] | None) -> str:
    """Return what a tool says, also why it could not be called."""
    try:
        return (await call(name, arguments)).text
    except ConfigurationError as exc:
        return f"Error: {name} was not called: {exc}"


def close() -> None:
    """Close the journals and the ledgers of this process; the next call opens them again. Blocking."""
    for journal in _journals:
        journal.close()
    for trail in _trails:
        trail.close()
    _journals.clear()
    _trails.clear()
    _journal.cache_clear()
    _trail.cache_clear()


def _context(config: AdapterConfig, client: PlatformClient) -> ToolContext:
    context = context_of(config, client)
    folder = Path(config.state_dir or "")
    audit = None
    if context.audit is not None and (settings := load_audit_settings(env.current(), folder=folder)) is not None:
        audit = _trail(settings)
    return replace(context, journal=_journal(folder), audit=audit)


_journals: list[Journal] = []
_trails: list[AuditTrail] = []


@functools.lru_cache(maxsize=8)
def _journal(folder: Path) -> Journal:
    _close_at_exit()
    _journals.append(Journal(folder))
    return _journals[-1]


@functools.lru_cache(maxsize=8)
def _trail(settings: AuditSettings) -> AuditTrail:
    _close_at_exit()
    _trails.append(AuditTrail(settings))
    return _trails[-1]


@functools.lru_cache(maxsize=1)
def _close_at_exit() -> None:
    atexit.register(close)
