"""Runs `core.presence` on a thread of its own, with its own event loop: an adapter that blocks the host's loop costs no heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from molecule_runtime.core import logs
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.presence import HOST_INTERVAL, Phase, Presence, TargetState, Vitals
from molecule_runtime.core.secretfile import read_secret, write_private
from molecule_runtime.core.tokens import INBOUND_SECRET_FILE_NAME, TOKEN_FILE_NAME, TokenFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.targets import WorkspaceTarget

logger = logging.getLogger(__name__)

_RESTART_PAUSE = 5.0
_STOP_TIMEOUT = 3.0


@dataclass(slots=True, kw_only=True)
class PresenceThread:
    """Keeps one workspace registered and alive from a daemon thread.

    Attributes:
        target: the workspace.
        configs_dir: where the token and the inbound secret are saved.
        vitals: what the heartbeats report.
        registration: builds the register body; called on the presence thread.
        metadata: for each beat; called on the presence thread.
        interval: seconds between beats.
    """

    target: WorkspaceTarget
    configs_dir: Path
    vitals: Vitals
    registration: Callable[[], wire.RegisterRequest]
    metadata: Callable[[], wire.RuntimeMetadata | None]
    interval: float = HOST_INTERVAL
    _state: TargetState = field(default_factory=lambda: TargetState(phase=Phase.STARTING))
    _presence: Presence | None = None
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task[None] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def state(self) -> TargetState:
        """Where the registration stands."""
        return self._state

    def start(self) -> None:
        """Start registering."""
        self._thread = threading.Thread(target=self._run, name="molecule-presence", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = _STOP_TIMEOUT) -> None:
        """Stop and wait for the thread, at most `timeout` seconds. Blocks: call it from a worker thread."""
        self._stopping.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        if self._thread is not None:
            self._thread.join(timeout)

    def beat_every(self, seconds: float) -> None:
        """Change the interval, from any thread; the beat that is due keeps its time."""
        self.interval = seconds
        if self._presence is not None:
            self._presence.interval = seconds

    def beat_soon(self) -> None:
        """Ask for a beat now, from any thread."""
        # A loop that closes at this very moment needs no beat any more.
        with contextlib.suppress(RuntimeError):
            if self._presence is not None:
                self._presence.beat_soon()

    def _run(self) -> None:
        try:
            # A thread begins without the context of the one that starts it.
            with logs.bind(workspace_id=self.target.id):
                asyncio.run(self._supervise())
        except asyncio.CancelledError:
            pass
        except Exception:  # the top of a thread
            logger.exception("the presence thread ended; the platform will mark this workspace offline")

    async def _supervise(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with ConnectionPools() as pools, PlatformClient(self.target, pools) as client:
            while not self._stopping.is_set():
                self._presence = Presence(
                    client=client,
                    vitals=self.vitals,
                    registration=self.registration,
                    metadata=self.metadata,
                    interval=self.interval,
                    on_state=self._enter,
                    on_registered=self._save_token,
                    on_inbound_secret=self._save_inbound_secret,
                )
                try:
                    await self._presence.run()
                except Exception:  # the workspace must stay on the platform whatever one round meets
                    logger.exception("presence failed; starting it again in %.0f s", _RESTART_PAUSE)
                    await asyncio.sleep(_RESTART_PAUSE)
                else:
                    # Removed from the platform: asking again would only be refused again.
                    return

    def _enter(self, state: TargetState) -> None:
        self._state = state

    def _save_token(self, response: wire.RegisterResponse) -> None:
        if not response.auth_token:
            return
        try:
            TokenFile(self.configs_dir / TOKEN_FILE_NAME).save(response.auth_token)
        except (OSError, ValueError):
            logger.exception(
                "the platform issued a token and it could not be saved in %s; it will not issue it again",
                self.configs_dir,
            )

    def _save_inbound_secret(self, secret: str) -> None:
        path = self.configs_dir / INBOUND_SECRET_FILE_NAME
        try:
            try:
                known = read_secret(path)
            except (OSError, ValueError):
                known = ""
            # Every beat carries it; writing it each time would wear the disk for nothing.
            if known != secret.strip():
                write_private(path, secret.strip())
        except OSError:
            logger.exception("cannot save the platform's inbound secret in %s", self.configs_dir)
