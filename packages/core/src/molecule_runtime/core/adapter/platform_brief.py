"""What the platform tells an agent before it starts: its rules, its peers, and the files that its parent shares.

The rules must not vanish because one request failed: the last that were read are kept (0600) and used until the platform answers
again, and an agent that never had them is told to be careful. Peers and files only make an agent better informed: what cannot be had
is left out, and named as a problem.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import anyio.to_thread

from molecule_runtime.core.errors import NotFoundError, PlatformError
from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from molecule_runtime.core.adapter.types import AdapterConfig
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

CACHE_FILE_NAME = ".platform_instructions.json"

BRIEF_SECONDS = 10.0
"""For all answers together, which are asked for at once (contract `workspace-host.md` 8.3: up to 10 s each, one after the other)."""

WITHOUT_RULES = """The rules that the platform has for this workspace could not be read. Until they are: answer and read, and
do nothing that changes, publishes, pays for or deletes anything outside of this workspace. Say so when somebody asks for it."""

_MAX_CACHE_BYTES = 1024 * 1024

_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class Brief:
    """What the platform said, and what it did not."""

    instructions: str = ""
    peers: list[wire.Peer] = field(default_factory=list["wire.Peer"])
    parent_context: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    problems: list[str] = field(default_factory=list[str])


async def ask_platform(config: AdapterConfig) -> Brief:
    """Ask the platform for everything at once, within `BRIEF_SECONDS`. Never raises a `PlatformError`."""
    brief = Brief()
    if config.platform is None:
        return brief
    async with anyio.create_task_group() as group:
        group.start_soon(_instructions, config, config.platform, brief)
        group.start_soon(_peers, config.platform, brief)
        group.start_soon(_parent_context, config.platform, brief)
    return brief


async def _peers(platform: PlatformClient, brief: Brief) -> None:
    try:
        brief.peers = await _in_time(platform.peers)
    except PlatformError as exc:
        brief.problems.append(f"the team is not known: {exc}")


async def _parent_context(platform: PlatformClient, brief: Brief) -> None:
    try:
        files = await _in_time(platform.shared_context)
    except NotFoundError:
        # A platform where parents share nothing.
        return
    except PlatformError as exc:
        brief.problems.append(f"the files that the parent shares are left out: {exc}")
        return
    brief.parent_context = [{"path": file.path, "content": file.content} for file in files]


async def _instructions(config: AdapterConfig, platform: PlatformClient, brief: Brief) -> None:
    cache = Path(config.state_dir, CACHE_FILE_NAME) if config.state_dir else None
    try:
        brief.instructions = await _in_time(platform.instructions)
    except PlatformError as exc:
        kept = await anyio.to_thread.run_sync(_kept, cache, platform) if cache else None
        if kept is not None:
            brief.instructions = kept
            brief.problems.append(f"the platform's rules cannot be read, so those of an earlier start are used: {exc}")
        elif isinstance(exc, NotFoundError):
            logger.info("this platform has no rules for its workspaces")
        else:
            brief.instructions = WITHOUT_RULES
            brief.problems.append(
                f"the platform's rules cannot be read and none were kept, so the agent is told to be careful: {exc}"
            )
        return
    if cache:
        await anyio.to_thread.run_sync(_keep, cache, platform, brief)


async def _in_time(ask: Callable[..., Awaitable[_T]]) -> _T:
    return await ask(timeout=BRIEF_SECONDS)


def _keep(path: Path, platform: PlatformClient, brief: Brief) -> None:
    content = {"workspace_id": platform.workspace_id, "instructions": brief.instructions}
    try:
        # None are kept too: those that were taken back must not return.
        write_private(path, json.dumps(content, ensure_ascii=False))
    except (OSError, UnicodeEncodeError) as exc:
        brief.problems.append(f"the platform's rules cannot be kept for the next start in {path}: {exc}")


def _kept(path: Path, platform: PlatformClient) -> str | None:
    """Return what an earlier start of the same workspace read; None when there is nothing to be used."""
    try:
        with path.open("rb") as handle:
            data = handle.read(_MAX_CACHE_BYTES + 1)
        read: object = json.loads(data) if len(data) <= _MAX_CACHE_BYTES else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        logger.warning("%s cannot be read; it is not used", path)
        return None
    kept = cast("dict[str, object]", read) if isinstance(read, dict) else {}
    instructions = kept.get("instructions")
    # A folder may have served another workspace before.
    return instructions if kept.get("workspace_id") == platform.workspace_id and isinstance(instructions, str) else None
