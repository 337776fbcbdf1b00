"""One local platform: the parts that its routes share, opened and closed together."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.core.secretfile import read_secret, write_private
from molecule_runtime.localplatform import registry, timestamps
from molecule_runtime.localplatform.agents import agent_client
from molecule_runtime.localplatform.auth import Auth
from molecule_runtime.localplatform.background import Background
from molecule_runtime.localplatform.delegation import Delegations
from molecule_runtime.localplatform.errors import DataFolderError
from molecule_runtime.localplatform.events import EventBus
from molecule_runtime.localplatform.outcomes import read_envelope
from molecule_runtime.localplatform.provisioning import Hosting
from molecule_runtime.localplatform.proxy import Proxy, claim_waiting
from molecule_runtime.localplatform.scheduler import Scheduler
from molecule_runtime.localplatform.store import Store, queue, tokens, workspaces
from molecule_runtime.localplatform.streams import EventLog
from molecule_runtime.localplatform.web import loads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    import httpx

    from molecule_runtime.core.platform import wire
    from molecule_runtime.localplatform.settings import LocalSettings
    from molecule_runtime.localplatform.store.queue import QueueRow
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

if sys.platform != "win32":  # there, a second process on the same folder is not noticed
    import fcntl

logger = logging.getLogger(__name__)

ADMIN_TOKEN_FILE = "admin_token"  # noqa: S105 - a file name
DATABASE_FILE = "molecule.db"
LOCK_FILE = "lock"

_CONCURRENT_UPLOADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What the routes work with.

    Attributes:
        agents: for calls to agents other than messages; with no deadline of its own.
        upload_slots: how many requests with files may be held in memory at once.
        metadata: the capability flags of each workspace's last heartbeat (4.2.1); in memory, as on the hosted platform.
    """

    settings: LocalSettings
    store: Store
    bus: EventBus
    auth: Auth
    background: Background
    proxy: Proxy
    delegations: Delegations
    hosting: Hosting
    scheduler: Scheduler
    agents: httpx.AsyncClient
    upload_slots: anyio.Semaphore
    admin_token: str = field(repr=False)
    metadata: dict[str, wire.RuntimeMetadata]

    def now(self) -> int:
        """Return this moment in microseconds."""
        return timestamps.from_seconds(self.settings.clock())

    def start_drain(self, target: WorkspaceRow, queued: QueueRow) -> None:
        """Begin to deliver a message that was claimed from the queue."""
        self.background.start(self._drain(target, queued), name=f"queue item {queued.id}")

    def deliver_waiting(self, workspace_id: str) -> None:
        """Deliver what waits for a workspace now, if it has room, instead of with its next heartbeat."""
        self.background.start(self._deliver_waiting(workspace_id), name=f"queue of {workspace_id}")

    async def _deliver_waiting(self, workspace_id: str) -> None:
        def claim(connection: sqlite3.Connection) -> tuple[WorkspaceRow | None, list[QueueRow]]:
            row = workspaces.get(connection, workspace_id)
            return row, [] if row is None else claim_waiting(connection, row, self.now())

        row, claimed = await self.store.write(claim)
        for queued in claimed:
            if row is not None:
                self.start_drain(row, queued)

    async def _drain(self, target: WorkspaceRow, queued: QueueRow) -> None:
        try:
            outcome = await self.proxy.deliver_queued(target, queued)
        except Exception as exc:
            # Whatever happened, the item must not stay marked as under way: it would block the queue until the next start.
            error = f"the delivery failed: {type(exc).__name__}"
            await self.store.write(queue.fail, queued.id, error, final=False, now=self.now())
            raise
        delegation_id = read_envelope(loads(queued.body_json)).delegation_id
        # Only the sender's own delegation to this very target is settled: the id in a message proves nothing.
        if outcome is not None and delegation_id is not None and queued.caller_id is not None:
            await self.delegations.settle_drained(queued.caller_id, target.id, delegation_id, outcome)


@asynccontextmanager
async def open_platform(settings: LocalSettings) -> AsyncGenerator[Platform]:
    """Open the data folder and everything that works on it; turns that run when the context ends are cancelled.

    Raises:
        DataFolderError: the data folder cannot be used, or another molecule-local uses it.
    """
    async with AsyncExitStack() as stack:
        await anyio.to_thread.run_sync(prepare_folder, settings.data)
        stack.enter_context(locked(settings.data))
        admin_token = await anyio.to_thread.run_sync(_admin_token, settings.data / ADMIN_TOKEN_FILE)
        store = await stack.enter_async_context(Store.open(settings.data / DATABASE_FILE))
        http = await stack.enter_async_context(agent_client())
        background = await stack.enter_async_context(Background.open())
        bus = EventBus(settings.clock)
        stack.callback(bus.close)
        event_log = EventLog(store, bus)
        org_tokens = await store.read(tokens.live_of_org)
        auth = Auth(admin_token, settings.clock, [token.hash for token in org_tokens])
        metadata: dict[str, wire.RuntimeMetadata] = {}
        proxy = Proxy(
            store=store,
            bus=bus,
            auth=auth,
            background=background,
            http=http,
            settings=settings,
            metadata=metadata,
        )
        hosting = Hosting()
        delegations = Delegations(store=store, bus=bus, proxy=proxy, background=background, settings=settings)
        scheduler = Scheduler(
            store=store,
            bus=bus,
            proxy=proxy,
            hosting=hosting,
            background=background,
            settings=settings,
            metadata=metadata,
        )
        platform = Platform(
            settings=settings,
            store=store,
            bus=bus,
            auth=auth,
            background=background,
            proxy=proxy,
            delegations=delegations,
            hosting=hosting,
            scheduler=scheduler,
            agents=http,
            upload_slots=anyio.Semaphore(_CONCURRENT_UPLOADS),
            admin_token=admin_token,
            metadata=metadata,
        )
        await store.write(queue.requeue_interrupted)
        await delegations.resume()
        # On its own: waiting until no turn is under way must not wait for what never ends.
        housekeeping = await stack.enter_async_context(Background.open())
        housekeeping.start(_sweep_for_ever(platform), name="sweep")
        housekeeping.start(event_log.run(), name="event log")
        housekeeping.start(scheduler.run(), name="schedules")
        try:
            yield platform
        finally:
            with anyio.CancelScope(shield=True):
                await event_log.flush()
                await store.write(auth.store_used)


def prepare_folder(folder: Path) -> None:
    """Create the data folder with mode 0700, or bring one that is ours to it.

    Raises:
        DataFolderError: it cannot be made, or is somebody's shared folder, whose mode must not be changed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_mode & 0o077:
            names = {entry.name for entry in folder.iterdir()}
            if names and DATABASE_FILE not in names:
                raise DataFolderError(
                    f"data folder {str(folder)!r} is open to other users and holds other files; choose an empty or new folder"
                )
            folder.chmod(0o700)
    except OSError as exc:
        raise DataFolderError(
            f"data folder {str(folder)!r} cannot be used ({exc}); choose another with --data or MOLECULE_LOCAL_DATA"
        ) from exc


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the folder for this process: two would both resume the same delegations."""
    try:
        handle = (folder / LOCK_FILE).open("a", encoding="utf-8")
    except OSError as exc:
        raise DataFolderError(f"data folder {str(folder)!r} cannot be written ({exc}); choose another") from exc
    with handle:
        if sys.platform != "win32":
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataFolderError(
                    f"data folder {str(folder)!r} is in use by another molecule-local; stop that one, or choose another folder with --data"
                ) from None
        yield


def _admin_token(path: Path) -> str:
    try:
        token = read_secret(path)
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        write_private(path, token)
    except (OSError, ValueError) as exc:
        raise DataFolderError(
            f"admin token file {str(path)!r} cannot be used ({exc}); delete it and a new one is made at the next start"
        ) from exc
    else:
        path.chmod(0o600)
    return token


async def _sweep_for_ever(platform: Platform) -> None:
    while True:
        await anyio.sleep(platform.settings.sweep_interval)
        try:
            await registry.sweep(platform)
        except Exception:  # the sweep must outlive whatever one round meets
            logger.exception("the look for silent workspaces failed")
