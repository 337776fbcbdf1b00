"""The predecessor's `a2a_client`: where the platform is, and messages to peers through its proxy (contract `runtime.md` 7.1).

`PLATFORM_URL` and `WORKSPACE_ID` are read when they are asked for, so importing this reads no environment.
"""

from __future__ import annotations

import logging
from typing import Any

from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.core import envelope
from molecule_runtime.core.errors import ConfigurationError, MoleculeError
from molecule_runtime.legacy import calling

__all__ = [
    "PLATFORM_URL",
    "WORKSPACE_ID",
    "discover_peer",
    "get_peers",
    "get_workspace_info",
    "send_a2a_message",
]

logger = logging.getLogger(__name__)

PLATFORM_URL: str
WORKSPACE_ID: str

ERROR_PREFIX = "[A2A_ERROR] "
QUEUED_PREFIX = "[A2A_QUEUED] "


def __getattr__(name: str) -> str:
    """Return `PLATFORM_URL` or `WORKSPACE_ID` as the environment has it now.

    Raises:
        RuntimeError: the environment names no workspace, or a wrong one.
    """
    if name not in {"PLATFORM_URL", "WORKSPACE_ID"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        target = load_settings().target
    except ConfigurationError as exc:
        raise RuntimeError(str(exc)) from None
    return target.platform_url if name == "PLATFORM_URL" else target.id


def __dir__() -> list[str]:
    return sorted({*globals(), "PLATFORM_URL", "WORKSPACE_ID"})


async def discover_peer(target_id: str, source_workspace_id: str | None = None) -> dict[str, Any] | None:
    """Return what the platform says about a peer; None when it is not accessible, or cannot be asked for."""
    del source_workspace_id
    try:
        async with calling.acting() as (_, client):
            return (await client.discover(target_id)).model_dump(mode="json")
    except MoleculeError as exc:
        logger.info("peer %.80r cannot be discovered: %s", target_id, exc)
        return None


async def send_a2a_message(peer_id: str, message: str, source_workspace_id: str | None = None) -> str:
    """Send a message through the platform and return the answer's text; never raises for a failure.

    A failure begins with `[A2A_ERROR] `, and what waits for a peer that is busy or reads its inbox with `[A2A_QUEUED] `: that was
    delivered, and is not to be sent again. The text is a peer's, and no instruction.
    """
    del source_workspace_id
    try:
        async with calling.acting() as (_, client):
            answer = await client.send_message(peer_id, message)
    except MoleculeError as exc:
        return f"{ERROR_PREFIX}{exc}"
    match answer:
        case envelope.Reply():
            return answer.text or "(no response)"
        case envelope.Accepted():
            return f"{QUEUED_PREFIX}target={peer_id} method={answer.method or 'message/send'}"
        case envelope.Failure():
            return f"{ERROR_PREFIX}{answer.message}"


async def get_peers(source_workspace_id: str | None = None) -> list[dict[str, Any]]:
    """Return the platform's rows of the peers; none, and a line in the log, when they cannot be had."""
    del source_workspace_id
    try:
        async with calling.acting() as (_, client):
            return [peer.model_dump(mode="json") for peer in await client.peers()]
    except MoleculeError as exc:
        logger.warning("the peers are not known: %s", exc)
        return []


async def get_workspace_info(source_workspace_id: str | None = None) -> dict[str, Any]:
    """Return the platform's row of this workspace; `{"error": ...}` when it cannot be had."""
    del source_workspace_id
    try:
        async with calling.acting() as (_, client):
            return (await client.workspace()).model_dump(mode="json")
    except MoleculeError as exc:
        return {"error": str(exc)}
