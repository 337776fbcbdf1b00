"""Which endpoints a platform has for memories: asked once for each workspace, and both generations in one shape."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import anyio

from molecule_runtime.core.errors import AccessDeniedError, NotFoundError, UnavailableError
from molecule_runtime.tools.errors import ToolRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.wire.memory import Memory, MemoryRow

Scope: TypeAlias = Literal["LOCAL", "TEAM", "GLOBAL"]

_SCOPE_OF_KIND: Final[Mapping[str, Scope]] = {"workspace": "LOCAL", "team": "TEAM", "org": "GLOBAL"}
"""Contract `platform-api.md` 24.10."""

_PER_NAMESPACE: Final = 100
"""The ceiling of the newer endpoint (contract `platform-api.md` 24.10)."""

_ASK_AGAIN: Final = 60.0
"""Seconds after a platform said that its memory is not configured, which somebody may be changing."""

_FENCE = re.compile(r"\[MEMORY id=[^\s\]]+ scope=GLOBAL from=[^\s\]]+\]: ")
"""What the platform puts before GLOBAL contents in the older shape (contract `platform-api.md` 8.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMemory:
    """One memory, whichever endpoint it came from.

    Attributes:
        writer: id of the workspace that wrote it; `""` where the platform does not say.
        source: where its writer had it from; `""` where the platform keeps no sources.
        kind: `""` where the platform keeps no kinds.
    """

    id: str
    content: str
    scope: str
    writer: str
    source: str = ""
    kind: str = ""
    created_at: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    namespaces: Mapping[Scope, str] | None
    until: float


class MemoryRoutes:
    """Finds out, once for each workspace, whether its platform keeps memories in namespaces (contract `platform-api.md` 25)."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._known: dict[str, _Known] = {}
        self._asking = anyio.Lock()
        self._clock = clock

    async def namespaces(self, client: PlatformClient) -> Mapping[Scope, str] | None:
        """Return the readable namespace of each scope, or None for a platform of the older generation."""
        if (known := self._current(client)) is not None:
            return known.namespaces
        async with self._asking:
            if (known := self._current(client)) is not None:
                return known.namespaces
            until = float("inf")
            found: Mapping[Scope, str] | None
            try:
                readable = (await client.memory_namespaces()).readable
            except NotFoundError:
                found = None
            except UnavailableError as exc:
                if exc.status != 503:
                    raise
                found, until = None, self._clock() + _ASK_AGAIN
            else:
                found = {_SCOPE_OF_KIND[space.kind]: space.name for space in readable if space.kind in _SCOPE_OF_KIND}
            self._known[client.workspace_id] = _Known(found, until)
            return found

    async def search(
        self, client: PlatformClient, *, scope: Scope | None, text: str, kind: str | None, limit: int
    ) -> list[StoredMemory]:
        """Return memories of a scope, the best or newest first; without a scope, those that this workspace wrote itself.

        Raises:
            ToolRefusedError: a kind was asked for, and the platform keeps none.
        """
        spaces = await self.namespaces(client)
        if spaces is None:
            if kind is not None:
                raise ToolRefusedError("kind: this platform keeps no kinds of memories; leave it out")
            rows = await client.memories(scope=scope or "", text=text, limit=limit)
            return [_older(row) for row in rows[:limit]]
        try:
            return await self._in_namespaces(client, spaces, scope, text, kind, limit)
        except AccessDeniedError:
            # The workspace was moved: its team is another one now.
            self._known.pop(client.workspace_id, None)
            moved = await self.namespaces(client)
            if moved is None or moved == spaces:
                raise
            return await self._in_namespaces(client, moved, scope, text, kind, limit)

    async def forget(self, client: PlatformClient, memory_id: str) -> None:
        """Remove a memory of this workspace."""
        await client.forget(memory_id, v2=await self.namespaces(client) is not None)

    def _current(self, client: PlatformClient) -> _Known | None:
        known = self._known.get(client.workspace_id)
        return known if known is not None and self._clock() < known.until else None

    async def _in_namespaces(
        self,
        client: PlatformClient,
        spaces: Mapping[Scope, str],
        scope: Scope | None,
        text: str,
        kind: str | None,
        limit: int,
    ) -> list[StoredMemory]:
        wanted: dict[Scope, str] = {name: space for name, space in spaces.items() if scope in {None, name}}
        found: list[StoredMemory] = []
        for name, space in wanted.items():
            # What others wrote is taken out of the page below, so the page has to be a large one.
            page = limit if scope is not None or name == "LOCAL" else _PER_NAMESPACE
            rows = await client.memories_in(space, text=text, kind=kind, limit=page)
            found += [_newer(row, name) for row in rows]
        if scope is None:
            found = [memory for memory in found if memory.writer == client.workspace_id]
            if text:
                found.sort(key=lambda memory: memory.score or 0.0, reverse=True)
            else:
                found.sort(key=lambda memory: memory.created_at, reverse=True)
        return found[:limit]


def _older(row: MemoryRow) -> StoredMemory:
    content = row.content
    if row.scope == "GLOBAL" and (fence := _FENCE.match(content)):
        # Our own boundary takes its place, whose end no content can forge.
        content = content[fence.end() :]
    return StoredMemory(
        id=row.id,
        content=content,
        scope=row.scope,
        writer=row.workspace_id,
        created_at=row.created_at,
        score=row.similarity_score,
    )


def _newer(row: Memory, scope: Scope) -> StoredMemory:
    return StoredMemory(
        id=row.id,
        content=row.content,
        scope=scope,
        writer=row.source_workspace_id or "",
        source=row.source,
        kind=row.kind,
        created_at=row.created_at,
        score=row.score,
    )
