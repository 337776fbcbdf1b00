"""What else a workspace asks for at its start: the files that its parent shares, a token for GitHub (contract 11.6, 11.7)."""

from __future__ import annotations

import logging
import posixpath
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx
import yaml

from molecule_runtime.core.platform.wire import boot as wire
from molecule_runtime.localplatform import urls, web
from molecule_runtime.localplatform.access import require_admin, require_own
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import configuration, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

logger = logging.getLogger(__name__)

CONFIG_FOLDER = "/configs"
"""Where a workspace keeps its configuration (18.2); relative paths in it start there."""

MAX_FILES = 20
MAX_FILE_BYTES = 256 * 1024
MAX_CONTEXT_BYTES = 1024 * 1024
MAX_CONFIG_BYTES = 64 * 1024
CONTEXT_SECONDS = 5.0
"""For all files together: the workspace that asks is starting, and goes on without."""

_KEY = "shared_context"
_MAX_PATH_CHARS = 1024


async def shared_context(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/shared-context`: read from the parent's agent; what cannot be read is left out."""
    own = await require_own(platform, request)

    def read(connection: sqlite3.Connection) -> tuple[WorkspaceRow | None, Any]:
        parent = None if own.parent_id is None else workspaces.get(connection, own.parent_id)
        if parent is None or parent.removed:
            return None, None
        return parent, configuration.get(connection, parent.id).get(_KEY)

    parent, listed = await platform.store.read(read)
    if parent is None or parent.delivery_mode == "poll" or not parent.url:
        return web.answer([])
    if problem := await urls.problem_of(parent.url, platform.settings.url_rule):
        logger.warning("shared context of %s is not read: its URL is not allowed (%s)", parent.id, problem)
        return web.answer([])
    found: dict[int, str] = {}
    paths: list[str] = []

    async def fetch(number: int, path: str) -> None:
        text = await _read_file(platform, parent, _absolute(path))
        if text is not None:
            found[number] = text

    with anyio.move_on_after(CONTEXT_SECONDS) as scope:
        if listed is None:
            listed = await _listed_in_file(platform, parent)
        paths = _paths(parent, listed)
        async with anyio.create_task_group() as group:
            for number, path in enumerate(paths):
                group.start_soon(fetch, number, path)
    if scope.cancelled_caught:
        logger.warning("shared context of %s: not all of it arrived in %g seconds", parent.id, CONTEXT_SECONDS)
    return web.answer(_bounded(parent, [(path, found[number]) for number, path in enumerate(paths) if number in found]))


async def github_token(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/github-installation-token`: nothing here can mint one."""
    await require_own(platform, request)
    raise _no_provider()


async def github_token_for_admin(platform: Platform, request: Request) -> Response:
    """`GET /admin/github-installation-token` (admin)."""
    require_admin(platform, request)
    raise _no_provider()


def _no_provider() -> Refusal:
    hint = "molecule-local mints no GitHub tokens; store one of your own as a secret, such as GITHUB_TOKEN"
    return Refusal(404, "no GitHub token provider is registered", hint=hint)


async def _listed_in_file(platform: Platform, parent: WorkspaceRow) -> list[object] | None:
    """Return what the parent's own config.yaml lists, where the platform keeps no list for it."""
    text = await _read_file(platform, parent, f"{CONFIG_FOLDER}/config.yaml", MAX_CONFIG_BYTES)
    if text is None:
        return None
    try:
        return await anyio.to_thread.run_sync(_list_of, text, abandon_on_cancel=True)
    except (yaml.YAMLError, ValueError, RecursionError):
        logger.warning("shared context of %s: its config.yaml cannot be read", parent.id)
        return None


def _list_of(text: str) -> list[object] | None:
    # The tree of nodes is enough, and unlike the values it cannot be made to grow out of all proportion.
    root: object = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and key.value == _KEY:
            return [item.value for item in value.value] if isinstance(value, yaml.SequenceNode) else [value.value]
    return None


def _paths(parent: WorkspaceRow, listed: object) -> list[str]:
    if listed is None:
        return []
    paths: list[str] = []
    for item in cast("list[object]", listed) if isinstance(listed, list) else [listed]:
        if isinstance(item, str) and _is_path(item) and item not in paths:
            paths.append(item)
        else:
            logger.warning("shared context of %s: an entry is no path, or comes twice", parent.id)
    if len(paths) > MAX_FILES:
        logger.warning("shared context of %s: only %d of %d files are read", parent.id, MAX_FILES, len(paths))
    return paths[:MAX_FILES]


def _is_path(text: str) -> bool:
    plain = 0 < len(text) <= _MAX_PATH_CHARS and text.isprintable() and not text.endswith("/")
    return plain and ".." not in text.split("/") and not text.startswith("//")


def _absolute(path: str) -> str:
    return posixpath.normpath(posixpath.join(CONFIG_FOLDER, path))


async def _read_file(platform: Platform, parent: WorkspaceRow, path: str, limit: int = MAX_FILE_BYTES) -> str | None:
    """Return a text file of an agent (24.9), or None, with a note in the log, when it cannot be had."""
    parts = urlsplit(parent.url)
    url = urlunsplit((parts.scheme, parts.netloc, "/internal/file/read", "", ""))
    headers = {"Authorization": f"Bearer {parent.inbound_secret}"}
    try:
        request = platform.agents.build_request(
            "GET", url, params={"path": path}, headers=headers, extensions={"workspace": parent.id}
        )
        response = await platform.agents.send(request, stream=True)
        try:
            if response.status_code != 200:
                raise ValueError(f"HTTP {response.status_code}")
            return (await _body(response, limit)).decode()
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        # The text of a decoding error would show the content.
        reason = str(exc) if type(exc) is ValueError else type(exc).__name__
        logger.warning("shared context of %s: %r is left out (%s)", parent.id, path, reason)
        return None


async def _body(response: httpx.Response, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > limit:
            raise ValueError(f"larger than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _bounded(parent: WorkspaceRow, files: list[tuple[str, str]]) -> list[dict[str, str]]:
    shared: list[dict[str, str]] = []
    room = MAX_CONTEXT_BYTES
    for path, content in files:
        room -= len(content.encode())
        if room < 0:
            logger.warning("shared context of %s: %r and what follows is left out, too much in all", parent.id, path)
            break
        shared.append({"path": path, "content": content})
    return shared


ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/shared-context", handler=shared_context, section="11.6", access="workspace",
        summary="The files that its parent shares.", answers={200: list[wire.SharedFile]},
        test="test_boot.py::test_a_parents_shared_files_are_read_from_its_agent",
    ),
    Route(
        method="GET", path="/workspaces/{id}/github-installation-token", handler=github_token, section="11.7", access="workspace",
        summary="Always 404: nothing here mints GitHub tokens.", answers={},
        test="test_boot.py::test_there_is_no_github_token",
    ),
    Route(
        method="GET", path="/admin/github-installation-token", handler=github_token_for_admin, section="11.7", access="admin",
        summary="The same for the admin.", answers={}, test="test_boot.py::test_there_is_no_github_token",
    ),
)  # fmt: skip
