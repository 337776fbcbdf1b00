"""Tools for what outlives a conversation: commit_memory, recall_memory, forget_memory.

A memory is trusted only when this workspace wrote it and said that it had it from the user or from itself. Anything else, and whatever
contains text that was quoted as untrusted, comes back inside that boundary: being remembered gives nobody's text authority.
"""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from molecule_runtime.core import untrusted
from molecule_runtime.core.errors import AccessDeniedError, NotFoundError, PlatformError
from molecule_runtime.core.identity import display_name
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.wire.memory import MAX_CONTENT_BYTES, RememberRequest
from molecule_runtime.core.redaction import redact
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.result import MAX_TEXT_BYTES, ToolResult, as_json, bounded

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import CommitMemory, ForgetMemory, RecallMemory
    from molecule_runtime.tools.context import Call
    from molecule_runtime.tools.memory_routes import StoredMemory

logger = logging.getLogger(__name__)

TRUSTED_SOURCES: Final = frozenset({"user", "self"})
"""The sources whose text is the agent's own to follow; every other is quoted."""

MAX_SOURCE_CHARS: Final = 200
MAX_SHOWN_BYTES: Final = 4096
"""Of one memory; a page of them has to be readable."""

_PREVIEW_CHARS: Final = 80
_ID_CHARS: Final = 24
"""Of the activity row of a memory; contract `workspace-host.md` 19.3."""

# Kept in the text as well, because not every platform keeps sources.
_STATED = re.compile(r"\[source: ([^\]\n]{1,200})\] ")
_QUOTED = re.compile(r"</?untrusted-[0-9a-f]{16}")


async def commit_memory(call: Call[CommitMemory]) -> ToolResult:
    """Store a fact, without the credentials in it, with who wrote it and where it comes from."""
    arguments = call.arguments
    client = call.client
    if arguments.scope == "GLOBAL" and call.context.tier != 0:
        raise ToolRefusedError(
            f"scope GLOBAL is for root workspaces (tier 0), and this one has tier {call.context.tier}; "
            "use TEAM, or ask your parent to store it"
        )
    cleaned = await anyio.to_thread.run_sync(redact, arguments.content)
    source = await anyio.to_thread.run_sync(_source_of, arguments)
    content = cleaned.text if source in TRUSTED_SOURCES or not source else f"[source: {source}] {cleaned.text}"
    size = len(content.encode("utf-8", "replace"))
    if size > MAX_CONTENT_BYTES:
        raise ToolRefusedError(f"content: {size} bytes, and a memory holds {MAX_CONTENT_BYTES}; split it into several")
    request: dict[str, Any] = {"content": content, "scope": arguments.scope}
    request |= {"source": source} if source else {}
    request |= {"kind": arguments.kind} if arguments.kind != "fact" else {}
    try:
        stored = await client.remember(RememberRequest.model_validate(request))
    except AccessDeniedError as exc:
        if arguments.scope != "GLOBAL":
            raise
        raise ToolRefusedError(
            f"the platform lets only root workspaces store GLOBAL memories ({exc}); use TEAM, or ask your parent to store it"
        ) from None
    await _record(client, arguments.scope, cleaned.text, stored.id)
    data: dict[str, Any] = {"success": True, "id": stored.id, "scope": stored.scope}
    data |= {"source": source} if source else {}
    data |= {"redacted": cleaned.counts} if cleaned.counts else {}
    return as_json(data)


async def recall_memory(call: Call[RecallMemory]) -> ToolResult:
    """Search stored facts."""
    call.require("memory.read")
    arguments = call.arguments
    client = call.client
    # A search leaves the process like anything else.
    query = (await anyio.to_thread.run_sync(redact, arguments.query)).text
    found = await call.context.memory.search(
        client, scope=arguments.scope or None, text=query.strip(), kind=arguments.kind, limit=arguments.limit
    )
    if not found:
        return ToolResult(text="No memories found.", structured={"memories": [], "count": 0})
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    room = MAX_TEXT_BYTES
    for memory in found:
        line, row = _shown(memory, client.workspace_id)
        room -= len(line.encode("utf-8", "replace")) + line.count("\n") + line.count('"') + 1
        if room < 0 and rows:
            break
        lines.append(line)
        rows.append(row)
    structured: dict[str, Any] = {"memories": rows, "count": len(rows)}
    if omitted := len(found) - len(rows):
        structured["omitted"] = omitted
        lines.append(f"[{omitted} more do not fit: search for fewer words at a time, or with a smaller limit]")
    return ToolResult(text="\n".join(lines), structured=structured)


async def forget_memory(call: Call[ForgetMemory]) -> ToolResult:
    """Remove a memory that this workspace wrote."""
    try:
        memory_id = str(uuid.UUID(call.arguments.memory_id.strip()))
    except ValueError:
        raise ToolRefusedError(
            f"memory_id: {bounded(call.arguments.memory_id, 80)!r} is not the id of a memory; recall_memory shows them"
        ) from None
    try:
        await call.context.memory.forget(call.client, memory_id)
    except NotFoundError:
        raise ToolRefusedError(
            f"memory {memory_id} is not there, or another workspace wrote it and only that one can remove it"
        ) from None
    return as_json({"success": True, "id": memory_id})


def _source_of(arguments: CommitMemory) -> str:
    """Return the source to store: a quoted text keeps the one that it was quoted with, whatever the caller says."""
    stated = " ".join(redact(arguments.source).text.replace("[", "(").replace("]", ")").split())[:MAX_SOURCE_CHARS]
    if stated not in {"", *TRUSTED_SOURCES} or not _QUOTED.search(arguments.content):
        return stated
    for block in untrusted.parse(arguments.content):
        named = [block.attributes.get(name) for name in ("source", "workspace_id", "name")]
        if quoted := " ".join(display_name(value) or "" for value in named if value).strip():
            return quoted.replace("[", "(").replace("]", ")")[:MAX_SOURCE_CHARS]
    return "quoted text"


def _shown(memory: StoredMemory, own_id: str) -> tuple[str, dict[str, Any]]:
    stated = _STATED.match(memory.content)
    content = memory.content[stated.end() :] if stated else memory.content
    source = stated.group(1) if stated else memory.source
    own = memory.writer == own_id
    # The text's own statement counts only where it takes trust away.
    trusted = own and stated is None and memory.source in TRUSTED_SOURCES and not _QUOTED.search(content)
    shown = bounded(content, MAX_SHOWN_BYTES)
    scope = display_name(memory.scope) or "?"
    row: dict[str, Any] = {
        "id": memory.id,
        "scope": scope,
        "content": shown,
        "workspace_id": memory.writer,
        "source": source,
        "kind": memory.kind,
        "created_at": memory.created_at,
        "trusted": trusted,
    }
    row = {key: value for key, value in row.items() if value != ""}
    if trusted:
        return f"[{scope}] {shown} (id: {memory.id})", row
    wrapped = untrusted.wrap(
        shown, source="memory", id=memory.id, written_by="you" if own else memory.writer or "?", said_by=source or None
    )
    return f"[{scope}] {wrapped}", row


async def _record(client: PlatformClient, scope: str, content: str, memory_id: str) -> None:
    """Show the commit in the workspace's activity; the memory is stored whether or not this works."""
    flat = " ".join(content.split())
    preview = flat if len(flat) <= _PREVIEW_CHARS else f"{flat[: _PREVIEW_CHARS - 1]}…"
    request = wire.ActivityRequest(
        activity_type="memory_write", summary=f"[{scope}] {preview} ({memory_id[:_ID_CHARS]})", status="ok"
    )
    try:
        await client.log_activity(request)
    except PlatformError as exc:
        logger.info("memory %s is not in the activity log: %s", memory_id, exc)
