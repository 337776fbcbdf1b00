"""Which session of the agent's engine a conversation runs in; bounded, and kept over a restart."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    from molecule_runtime.core.adapter import AdapterConfig

logger = logging.getLogger(__name__)

FILE_NAME = "agent-sessions.json"
"""In the folder of the state. A file of its own: the host's state file is not an adapter's to write."""

MAX_SESSIONS = 1000
"""Those used longest ago are forgotten first."""

_MAX_ID = 512
_MAX_FILE = 4 * 1024 * 1024


class Sessions:
    """Remembers the session of each conversation."""

    def __init__(self, path: Path | None, *, most: int = MAX_SESSIONS) -> None:
        self.latest: str | None = None
        self._path = path
        self._most = most
        self._known: dict[str, str] | None = None
        self._lock = anyio.Lock()

    async def get(self, context_id: str) -> str | None:
        """Return the session of a conversation, or None where it has none yet."""
        async with self._lock:
            known = await self._loaded()
            session = known.get(context_id)
            if session is not None:
                self.latest = session
            return session

    async def keep(self, context_id: str, session: str) -> None:
        """Remember the session of a conversation; the same one again costs nothing.

        Raises:
            ValueError: the id is empty or longer than an id.
        """
        if not session or len(session) > _MAX_ID or len(context_id) > _MAX_ID:
            raise ValueError(f"a session id has 1 to {_MAX_ID} characters, not {len(session)}")
        async with self._lock:
            known = await self._loaded()
            self.latest = session
            changed = known.pop(context_id, None) != session
            known[context_id] = session
            while len(known) > self._most:
                del known[next(iter(known))]
            if changed:
                await self._store(known)

    async def forget(self, context_id: str) -> None:
        """Forget the session of a conversation: the engine has lost it."""
        async with self._lock:
            known = await self._loaded()
            lost = known.pop(context_id, None)
            if lost is not None:
                if self.latest == lost:
                    self.latest = None
                await self._store(known)

    async def _loaded(self) -> dict[str, str]:
        if self._known is None:
            self._known = await anyio.to_thread.run_sync(_read, self._path) if self._path is not None else {}
            self.latest = next(reversed(self._known.values()), None)
        return self._known

    async def _store(self, known: dict[str, str]) -> None:
        if self._path is None:
            return
        path, content = self._path, json.dumps(known)
        try:
            await anyio.to_thread.run_sync(write_private, path, content)
        except OSError as exc:
            logger.warning("%s cannot be written (%s); sessions do not survive a restart", path, exc.strerror)


def sessions_of(config: AdapterConfig) -> Sessions:
    """Return the sessions of the workspace that an adapter was set up for."""
    return Sessions(Path(config.state_dir) / FILE_NAME if config.state_dir else None)


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        logger.warning("%s cannot be read (%s); conversations begin anew", path, exc.strerror)
        return {}
    try:
        data: object = json.loads(content) if len(content) <= _MAX_FILE else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        logger.warning("%s is not what this host wrote; conversations begin anew", path)
        return {}
    return {key: value for key, value in cast("dict[str, Any]", data).items() if isinstance(value, str)}
