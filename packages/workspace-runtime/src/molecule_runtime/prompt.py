"""The predecessor's `prompt`: the system prompt is assembled in `molecule_runtime.core.adapter.prompt`."""

from __future__ import annotations

from typing import Any

from molecule_runtime.core.adapter.platform_brief import ask_platform
from molecule_runtime.core.adapter.prompt import build_system_prompt
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.legacy import calling

__all__ = ["build_system_prompt", "get_peer_capabilities", "get_platform_instructions"]


async def get_peer_capabilities(platform_url: str = "", workspace_id: str = "") -> list[dict[str, Any]]:
    """Return the platform's rows of the peers of this process's workspace; none when they cannot be had.

    Args:
        platform_url: not used: a credential goes to the platform of its own workspace only.
        workspace_id: likewise.
    """
    del platform_url, workspace_id
    try:
        async with calling.acting() as (config, _):
            return [peer.model_dump(mode="json") for peer in (await ask_platform(config)).peers]
    except ConfigurationError:
        return []


async def get_platform_instructions(platform_url: str = "", workspace_id: str = "") -> str:
    """Return the platform's rules for this process's workspace: those of last time, or a word of caution, when they cannot be had.

    Args:
        platform_url: not used: a credential goes to the platform of its own workspace only.
        workspace_id: likewise.
    """
    del platform_url, workspace_id
    try:
        async with calling.acting() as (config, _):
            return (await ask_platform(config)).instructions
    except ConfigurationError:
        return ""
