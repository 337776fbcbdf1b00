"""The workspace of this process, as its environment has it: the predecessor's helpers are called without one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.core.adapter import AdapterConfig
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.legacy import calling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.a2a.executors import Attachments

__all__ = ["attachments", "call_tool"]

logger = logging.getLogger(__name__)

TOOL_SECONDS = 5.0
"""For one call of a tool, which the predecessor made in the middle of a turn (contract `workspace-host.md` 10)."""


def attachments() -> Attachments | None:
    """Return the files of this workspace; None where the environment names no workspace."""
    from molecule_runtime.a2a.executors import attachments_of

    try:
        settings = load_settings()
    except ConfigurationError:
        return None
    config = AdapterConfig(
        model="",
        config_path=str(settings.config_path),
        workspace_id=settings.target.id,
        state_dir=str(settings.configs_dir),
    )
    return attachments_of(config)


async def call_tool(name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Call one of the workspace's tools, with its permissions and its ledger.

    Returns:
        `text` and what the tool says beside it; None, and a line in the log, when it cannot be called or fails.
    """
    with anyio.move_on_after(TOOL_SECONDS):
        try:
            result = await calling.call(name, arguments)
        except ConfigurationError as exc:
            logger.info("%s is not called: %s", name, exc)
            return None
        if result.is_error:
            logger.warning("%s failed: %s", name, result.text)
            return None
        return {**result.structured, "text": result.text}
    logger.warning("%s failed: it took longer than %.0f s", name, TOOL_SECONDS)
    return None
