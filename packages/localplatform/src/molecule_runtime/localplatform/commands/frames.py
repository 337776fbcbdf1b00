"""The events of the running platform, for commands that wait or watch: one connection after another, across restarts of the platform."""

from __future__ import annotations

import itertools
import json
import os
import random
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import anyio
import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from molecule_runtime.core import console
from molecule_runtime.localplatform.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
    from pathlib import Path

    from anyio.abc import TaskStatus
    from websockets.asyncio.client import ClientConnection

    from molecule_runtime.localplatform.commands.remote import Remote

    Row = dict[str, Any]

T = TypeVar("T")

_OPEN_SECONDS = 10.0
_MAX_FRAME_BYTES = 32 * 1024 * 1024
"""Above the largest answer of an agent (10 MiB) in JSON."""
_FINAL = frozenset({401, 403, 404})
_DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One event (contract 17.1)."""

    event: str
    workspace_id: str
    timestamp: str
    payload: Mapping[str, Any] = field(repr=False)

    def body(self) -> Row:
        """Return the JSON form."""
        return {
            "event": self.event,
            "workspace_id": self.workspace_id,
            "timestamp": self.timestamp,
            "payload": dict(self.payload),
        }


class Link:
    """A connection to the platform: its events, and requests to it."""

    def __init__(self, remote: Remote, http: httpx.AsyncClient, socket: ClientConnection) -> None:
        self.remote = remote
        self._http = http
        self._socket = socket

    async def frames(self) -> AsyncGenerator[Frame]:
        """Iterate over events until the platform ends the connection."""
        try:
            async for message in self._socket:
                if (frame := _read(message)) is not None:
                    yield frame
        except ConnectionClosed:
            return

    async def get(self, path: str, **query: object) -> Any:
        """Return what a route answers.

        Raises:
            CommandError: nobody answers, or the platform refused.
        """
        given = {key: str(value) for key, value in query.items() if value is not None}
        return self.remote.read(await self._send(self._http.build_request("GET", path, params=given)))

    async def post(self, path: str, body: Mapping[str, Any], *, patient: bool = False) -> Any:
        """Post JSON and return the answer; `patient` waits for it without limit.

        Raises:
            CommandError: nobody answers, or the platform refused.
        """
        content = json.dumps(body).encode("ascii")
        timeout = httpx.Timeout(None, connect=_OPEN_SECONDS) if patient else self._http.timeout
        headers = {"Content-Type": "application/json"}
        request = self._http.build_request("POST", path, content=content, headers=headers, timeout=timeout)
        return self.remote.read(await self._send(request))

    async def upload(self, path: str, files: list[Path]) -> Any:
        """Post files as a form and return the answer.

        Raises:
            CommandError: one cannot be read or is too large, nobody answers, or the platform refused.
        """
        limits = cast("Row", await self.get("/uploads/limits"))
        with ExitStack() as stack:
            parts: list[tuple[str, tuple[str, IO[bytes]]]] = []
            for file in files:
                try:
                    handle = stack.enter_context(file.open("rb"))
                    size = os.fstat(handle.fileno()).st_size
                except OSError as exc:
                    raise CommandError(f"{str(file)!r} cannot be read: {exc.strerror or exc}") from None
                # The platform would hang up on it halfway, which looks like a platform that is gone.
                if size > (most := int(limits.get("max_file_bytes") or size)):
                    raise CommandError(
                        f"{str(file)!r} has {console.size(size)}; the platform takes files up to {console.size(most)}"
                    )
                parts.append(("files", (file.name, handle)))
            timeout = httpx.Timeout(None, connect=_OPEN_SECONDS)
            request = self._http.build_request("POST", path, files=parts, timeout=timeout)
            return self.remote.read(await self._send(request))

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request)
        except httpx.HTTPError as exc:
            raise self.remote.unreachable(exc) from exc


@asynccontextmanager
async def linked(remote: Remote) -> AsyncGenerator[Link]:
    """Connect to a platform for the length of the block.

    Raises:
        CommandError: nobody answers, or the platform refused.
    """
    scheme, _, rest = remote.url.partition("://")
    address = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws"
    try:
        socket = await connect(
            address,
            additional_headers=remote.headers,
            proxy=None,
            compression=None,
            open_timeout=_OPEN_SECONDS,
            max_size=_MAX_FRAME_BYTES,
        )
    except InvalidStatus as exc:
        raise _refused(remote, exc) from exc
    except (InvalidHandshake, OSError, TimeoutError) as exc:
        raise remote.unreachable(exc) from exc
    try:
        async with httpx.AsyncClient(
            base_url=remote.url,
            headers=remote.headers,
            trust_env=False,
            verify=remote.is_encrypted,
            timeout=_OPEN_SECONDS,
        ) as http:
            yield Link(remote, http, socket)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
            await socket.close()


async def stay_linked(
    resolve: Callable[[], Remote],
    serve: Callable[[Link], Awaitable[None]],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Connect and serve the connection, again after each end of it, and say so; returns only by being cancelled.

    Args:
        resolve: finds the platform anew: after a restart it may be at another port.
        serve: uses a connection until it ends.
        task_status: told when the first connection stands.

    Raises:
        CommandError: the first connection could not be made, or the platform refuses later ones.
    """
    was_linked = gone = False
    delays = _backoff()
    while True:
        try:
            async with linked(resolve()) as link:
                if gone:
                    console.remark("the platform is back")
                was_linked, gone = True, False
                delays = _backoff()
                task_status.started()
                await serve(link)
        except CommandError as exc:
            # The first attempt ends with its error; a later one only where waiting does not help.
            if not was_linked or exc.status in _FINAL:
                raise
        if not gone:
            console.remark("the platform is gone; waiting until it is back (Ctrl-C ends this)")
            gone = True
        await anyio.sleep(next(delays))


def run_plainly(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run async work; of errors that came together, the first one is raised, as if it had come alone."""
    try:
        return anyio.run(work)
    except BaseExceptionGroup as group:
        raise _first_of(group) from None


def _first_of(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = cast("tuple[BaseException, ...]", exc.exceptions)[0]
    return exc


async def while_linked(
    resolve: Callable[[], Remote], serve: Callable[[Link], Awaitable[None]], work: Callable[[], Awaitable[T]]
) -> T:
    """Do something that needs `serve` to run beside it, and return what came of it.

    Raises:
        CommandError: of the work or of the connection, whichever came first.
    """
    outcome: list[T] = []
    failure: CommandError | None = None

    async def stay() -> None:
        nonlocal failure
        try:
            await stay_linked(resolve, serve)
        except CommandError as exc:
            failure = failure or exc
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(stay)
        try:
            outcome.append(await work())
        except CommandError as exc:
            failure = failure or exc
        group.cancel_scope.cancel()
    if failure is not None and not outcome:
        raise failure
    return outcome[0]


def _backoff() -> Generator[float]:
    """Return pauses that grow, and differ a little, so that many who wait do not come all at once."""
    for seconds in itertools.chain(_DELAYS, itertools.repeat(_DELAYS[-1])):
        yield seconds * random.uniform(0.75, 1.25)  # noqa: S311 - not for secrets


def _refused(remote: Remote, exc: InvalidStatus) -> CommandError:
    status = exc.response.status_code
    if status == 401:
        reason = "the admin token belongs to another data folder: name the right one with --data"
    elif status == 404:
        reason = "it has no events to follow; check --url, and MOLECULE_ORG_ID where it serves one organisation only"
    else:
        reason = "check --url"
    return CommandError(f"GET /ws: {remote.url} answers {status}; {reason}", status=status)


def _read(message: str | bytes) -> Frame | None:
    try:
        data: object = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    body = cast("Row", data)
    payload = body.get("payload")
    return Frame(
        event=str(body.get("event") or ""),
        workspace_id=str(body.get("workspace_id") or ""),
        timestamp=str(body.get("timestamp") or ""),
        payload=cast("Row", payload) if isinstance(payload, dict) else {},
    )
