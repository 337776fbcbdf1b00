"""Tools for the desktop of a workspace, through the platform's gateway and never on the host (contract `runtime.md` 7.11, generation 2)."""

from __future__ import annotations

import struct
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import anyio

from molecule_runtime.core.errors import (
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    PlatformUnreachableError,
    RequestRefusedError,
    UnavailableError,
)
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.files import clean_name
from molecule_runtime.tools.progress import ticking
from molecule_runtime.tools.result import ToolResult, as_json, failed
from molecule_runtime.tools.screenshots import keep

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import (
        DesktopClick,
        DesktopKey,
        DesktopOpenUrl,
        DesktopScreenshot,
        DesktopType,
        DesktopWaitForControl,
        WorkspaceArguments,
    )
    from molecule_runtime.tools.context import Call

POLL_SECONDS = 2.0
"""Between two looks at who has control; contract `runtime.md` 6.5."""

MAX_PIXELS: Final = 1_150_000
MAX_EDGE: Final = 1568
"""Above either a model sees a smaller picture, and its coordinates miss (contract `runtime.md` 7.11)."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_BUTTONS: Final = {1: "left", 2: "middle", 3: "right"}
_NO_DESKTOP = "this workspace has no desktop; do the work by other means"


async def desktop_status(call: Call[WorkspaceArguments]) -> ToolResult:
    """Tell whether there is a desktop that can be used now, by a picture of it."""
    client = call.client
    status: dict[str, Any] = {"mode": "sidecar-gateway", "workspace_id": client.workspace_id, "available": True}
    try:
        _size_of((await client.desktop_screenshot()).content)
    except NotFoundError:
        status |= {"available": False, "error": _NO_DESKTOP}
    except (PlatformError, ToolRefusedError) as exc:
        status |= {"available": False, "error": str(exc)}
    return as_json(status)


async def desktop_screenshot(call: Call[DesktopScreenshot]) -> ToolResult:
    """Save a picture of the desktop."""
    folder = call.context.files_root or call.context.state_dir
    if folder is None:
        raise ToolRefusedError("this process has no folder for pictures; a person can name one in MOLECULE_FILES_DIR")
    client = call.client
    async with _gateway():
        picture = (await client.desktop_screenshot()).content
    width, height = _size_of(picture)
    wanted = clean_name(call.arguments.path) if call.arguments.path.strip() else _name_of_now()
    try:
        path = await anyio.to_thread.run_sync(keep, folder, wanted, picture)
    except OSError as exc:
        raise ToolRefusedError(
            f"the picture cannot be saved in {folder}: {exc.strerror or type(exc).__name__}"
        ) from None
    safe = width * height <= MAX_PIXELS and max(width, height) <= MAX_EDGE
    answer: dict[str, Any] = {"ok": True, "path": str(path), "width": width, "height": height, "vision_safe": safe}
    if not safe:
        answer["warning"] = (
            f"at {width}x{height} you see a smaller picture than this file, so coordinates that you read off it miss: "
            f"scale them to {width}x{height}"
        )
    return as_json(answer)


async def desktop_click(call: Call[DesktopClick]) -> ToolResult:
    """Click at a point."""
    arguments = call.arguments
    event = {"type": "click", "x": arguments.x, "y": arguments.y, "button": _BUTTONS[arguments.button]}
    return await _input(call.client, event)


async def desktop_type(call: Call[DesktopType]) -> ToolResult:
    """Type a text."""
    event: dict[str, Any] = {"type": "type", "text": call.arguments.text}
    # Named only where it is wanted: the contract's event has no pause.
    event |= {"delay_ms": call.arguments.delay_ms} if call.arguments.delay_ms else {}
    return await _input(call.client, event)


async def desktop_key(call: Call[DesktopKey]) -> ToolResult:
    """Press a key or chord."""
    return await _input(call.client, {"type": "key", "keys": call.arguments.keys.strip()})


async def desktop_open_url(call: Call[DesktopOpenUrl]) -> ToolResult:
    """Open a web address."""
    return await _input(call.client, {"type": "navigate", "url": call.arguments.url})


async def desktop_wait_for_control(call: Call[DesktopWaitForControl]) -> ToolResult:
    """Wait until no person has control."""
    client = call.client
    started = time.monotonic()
    problem = ""
    seconds = call.held(call.arguments.timeout_s)
    with anyio.move_on_after(seconds):
        control, problem = await _control(client)
        if control != "available":
            await call.progress("a person has control of the desktop; waiting")
        async with ticking(call.progress, lambda: "a person has control of the desktop"):
            while control != "available":
                await anyio.sleep(POLL_SECONDS)
                control, problem = await _control(client)
        waited = round(time.monotonic() - started, 1)
        return as_json({"ok": True, "control": "available", "waited_s": waited})
    if problem:
        raise ToolRefusedError(f"who has control of the desktop cannot be asked: {problem}")
    error = f"a person still has control after {seconds:.0f} s"
    if seconds < call.arguments.timeout_s:
        error += "; one call waits no longer: call desktop_wait_for_control again to go on waiting"
    return as_json({"ok": False, "control": "human", "error": error})


async def _control(client: PlatformClient) -> tuple[str, str]:
    """Return who has control, `available` for nobody, and what went wrong when the platform did not say: it may the next time."""
    try:
        control = await client.desktop_control()
    except NotFoundError:
        raise ToolRefusedError(_NO_DESKTOP) from None
    except (PlatformUnreachableError, PlatformTimeoutError, UnavailableError) as exc:
        return "unknown", str(exc)
    return ("available" if control.agent_can_control and not control.human_in_control else "human"), ""


async def _input(client: PlatformClient, event: dict[str, Any]) -> ToolResult:
    try:
        async with _gateway():
            await client.desktop_input(event)
    except _HumanInControlError as exc:
        return failed(str(exc), ok=False, control="human")
    return as_json({"ok": True})


class _HumanInControlError(ToolRefusedError):
    """A person is using the desktop."""


@asynccontextmanager
async def _gateway() -> AsyncGenerator[None]:
    """Say what the gateway's refusals mean."""
    try:
        yield
    except NotFoundError:
        raise ToolRefusedError(_NO_DESKTOP) from None
    except RequestRefusedError as exc:
        if exc.status != 409:
            raise
        raise _HumanInControlError(
            "a person has control of the desktop: stop, and call desktop_wait_for_control"
        ) from None


def _size_of(picture: bytes) -> tuple[int, int]:
    if len(picture) < 24 or not picture.startswith(_PNG) or picture[12:16] != b"IHDR":
        raise ToolRefusedError("the desktop's gateway answered with something that is no PNG picture")
    width, height = struct.unpack(">II", picture[16:24])
    return int(width), int(height)


def _name_of_now() -> str:
    return f"screenshot-{datetime.now(UTC):%Y%m%d-%H%M%S}.png"
