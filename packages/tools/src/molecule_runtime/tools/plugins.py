"""The tool that installs a plugin: install_plugin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from molecule_runtime.core.errors import AccessDeniedError, CredentialRejectedError, RequestRefusedError
from molecule_runtime.core.platform.client import INSTALL_TIMEOUT
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.journal import Owner
from molecule_runtime.tools.progress import ticking
from molecule_runtime.tools.result import ToolResult, bounded

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import InstallPlugin
    from molecule_runtime.tools.context import Call, Progress

_SOURCE = re.compile(r"(?:local://)?[A-Za-z0-9][A-Za-z0-9._-]*|[a-z][a-z0-9+.-]*://[^\s@]+")
"""Contract `platform-api.md` 16.1; an address with a login in it would put the login on record."""

_GRACE_SECONDS: Final = 15.0


async def install_plugin(call: Call[InstallPlugin]) -> ToolResult:
    """Install a plugin into the acting workspace."""
    source = call.arguments.source.strip()
    if not _SOURCE.fullmatch(source):
        raise ToolRefusedError(
            f"source: {bounded(redact_text(source), 120)!r} is no source of plugins; give local://name or github://owner/repo#ref"
        )
    background, client = call.context.background, call.client
    await call.progress(f"installing {source}")
    if call.context.max_wait is None or background is None:
        async with ticking(call.progress, lambda: f"installing {source}"):
            return await _install(client, source)
    # The platform fetches it while it is asked, which takes minutes, and there is no other way to hear how it ended.
    key = ("install_plugin", Owner.of(client), source)

    async def install(progress: Progress) -> ToolResult:
        del progress
        return await _install(client, source)

    running = background.start(key, install, seconds=INSTALL_TIMEOUT + _GRACE_SECONDS, keep=True)
    async with ticking(call.progress, lambda: f"installing {source}"):
        ended = await running.wait(call.held(INSTALL_TIMEOUT), call.progress)
    if not ended:
        text = (
            f"{source} is still being installed, and goes on. Call install_plugin with the same source to hear how it ended: "
            "it is not begun a second time."
        )
        going_on = {"tool": "install_plugin", "same_arguments": True}
        return ToolResult(text=text, structured={"status": "working", "source": source, "continue_with": going_on})
    background.taken(key)
    return running.outcome()


async def _install(client: PlatformClient, source: str) -> ToolResult:
    try:
        installed = await client.install_plugin(source)
    except CredentialRejectedError as exc:
        raise ToolRefusedError(
            f"the platform does not let this process install into {client.workspace_id}: {exc}"
        ) from None
    except AccessDeniedError as exc:
        raise ToolRefusedError(
            f"{source} is not on the platform's list of allowed plugins: {exc}. Tell the user; do not try other sources"
        ) from None
    except RequestRefusedError as exc:
        if exc.status != 422:
            raise
        raise ToolRefusedError(f"{source} was not installed: {exc}") from None
    restarting = "; the workspace restarts now" if installed.restarting else ""
    return ToolResult(
        text=f"Plugin {installed.plugin} is installed from {installed.source}{restarting}",
        structured={"plugin": installed.plugin, "source": installed.source, "restarting": installed.restarting},
    )
