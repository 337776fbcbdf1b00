"""The tool that installs a plugin: install_plugin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from molecule_runtime.core.errors import AccessDeniedError, CredentialRejectedError, RequestRefusedError
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.result import ToolResult, bounded

if TYPE_CHECKING:
    from molecule_runtime.core.registry.arguments import InstallPlugin
    from molecule_runtime.tools.context import Call

_SOURCE = re.compile(r"(?:local://)?[A-Za-z0-9][A-Za-z0-9._-]*|[a-z][a-z0-9+.-]*://[^\s@]+")
"""Contract `platform-api.md` 16.1; an address with a login in it would put the login on record."""


async def install_plugin(call: Call[InstallPlugin]) -> ToolResult:
    """Install a plugin into the acting workspace."""
    source = call.arguments.source.strip()
    if not _SOURCE.fullmatch(source):
        raise ToolRefusedError(
            f"source: {bounded(redact_text(source), 120)!r} is no source of plugins; give local://name or github://owner/repo#ref"
        )
    client = call.client
    await call.progress(f"installing {source}")
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
