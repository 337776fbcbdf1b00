"""The predecessor's `coordinator`: the team of a workspace; importing it reads nothing and raises nothing."""

from __future__ import annotations

import logging
from typing import Any

from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.core.adapter.prompt import build_children_description
from molecule_runtime.core.errors import ConfigurationError, PlatformError
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools

__all__ = ["build_children_description", "get_children"]

logger = logging.getLogger(__name__)


async def get_children() -> list[dict[str, Any]]:
    """Return the platform's rows of this workspace's children; none, and a line in the log, when they cannot be had."""
    try:
        target = load_settings().target
        async with ConnectionPools() as pools, PlatformClient(target, pools) as client:
            peers = await client.peers()
    except (ConfigurationError, PlatformError) as exc:
        logger.warning("the team is not known: %s", exc)
        return []
    return [peer.model_dump() for peer in peers if peer.parent_id == target.id]
