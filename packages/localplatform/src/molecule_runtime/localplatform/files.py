"""Files of a chat (contract 10, 24.9): passed on to workspaces that have a URL, kept for those that poll."""

from __future__ import annotations

import logging
import mimetypes
import posixpath
import re
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit, urlunsplit

import anyio
import httpx
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import StreamingResponse

from molecule_runtime.core.platform.wire import files as wire
from molecule_runtime.localplatform import timestamps, urls, web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.auth import credentials_of
from molecule_runtime.localplatform.proxy import logged_payload
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import activity, uploads
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.uploads import UploadRow
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 25 * 1024 * 1024
MAX_REQUEST_BYTES = 50 * 1024 * 1024
"""Contract 10.1."""

MAX_FILES = 20
MAX_WAITING_FILES = 200
MAX_WAITING_BYTES = 512 * 1024 * 1024
"""What may wait for one workspace that polls."""

UPLOAD_SECONDS = 120.0
"""For a request with files to arrive and be taken by the agent (24.9)."""

READABLE = ("/configs", "/workspace", "/home", "/plugins")
"""Folders that files may be read from (contract 10.3)."""

_NOT_RUNNING = "workspace container not running"
_NAME_CHARS = 100
_EXTENSION_CHARS = 16
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_MULTIPART_SLACK = 64 * 1024
_MAX_JSON_ANSWER = 1024 * 1024


class _Form(MultiPartParser):
    """Keeps files in memory, where their size is bounded, instead of in the temporary folder of the machine."""

    spool_max_size = MAX_REQUEST_BYTES + 1


async def limits(platform: Platform, request: Request) -> Response:
    """`GET /uploads/limits`."""
    del platform, request
    return web.answer(
        {"max_file_bytes": MAX_FILE_BYTES, "max_request_bytes": MAX_REQUEST_BYTES, "max_files": MAX_FILES}
    )


async def upload(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/chat/uploads`: a multipart form with the repeated field `files`."""
    own = await require_own(platform, request)
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Refusal(400, "invalid form", hint="send multipart/form-data with a field `files` for each file")
    if own.delivery_mode == "poll":
        return await _keep(platform, request, own)
    return await _pass_on(platform, request, own, kind)


async def download(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/chat/download?path=`: a file of a workspace that has a URL."""
    own = await require_own(platform, request)
    path = _checked_path(request.query_params.get("path", ""))
    target = await _internal_url(platform, own, "/internal/file/read")
    headers = {"Authorization": f"Bearer {own.inbound_secret}"}
    outgoing = platform.agents.build_request("GET", target, params={"path": path}, headers=headers)
    try:
        with anyio.fail_after(UPLOAD_SECONDS):
            answer = await platform.agents.send(outgoing, stream=True)
    except (httpx.HTTPError, TimeoutError) as exc:
        raise Refusal(503, _NOT_RUNNING, hint=f"the agent did not answer ({type(exc).__name__})") from None
    if not answer.is_success:
        await answer.aclose()
        if answer.status_code == 404:
            raise Refusal(404, "file not found")
        raise Refusal(502, "the workspace could not read the file", status=answer.status_code)
    name = posixpath.basename(path)
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    disposition = f"attachment; filename=\"{clean_name(name)}\"; filename*=UTF-8''{quote(name, safe='')}"
    return StreamingResponse(_bytes_of(answer), media_type=guessed, headers={"Content-Disposition": disposition})


async def pending_content(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/pending-uploads/:file_id/content`."""
    own = await require_own(platform, request)
    file_id = web.require_uuid(request.path_params["file_id"], error="invalid file id")

    def read(connection: sqlite3.Connection) -> tuple[UploadRow, bytes]:
        row = uploads.get(connection, own.id, file_id)
        if row is None or row.acked_at is not None or row.expires_at < platform.now():
            raise Refusal(404, "file not found", hint="it was fetched and acknowledged, or it expired")
        return row, uploads.content(connection, row.id)

    row, data = await platform.store.read(read)
    return web.file_answer(data, name=row.name, media_type=row.mime_type)


async def pending_ack(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/pending-uploads/:file_id/ack`."""
    own = await require_own(platform, request)
    file_id = web.require_uuid(request.path_params["file_id"], error="invalid file id")

    def store(connection: sqlite3.Connection) -> bool:
        row = uploads.get(connection, own.id, file_id)
        if row is None:
            raise Refusal(404, "file not found", hint="it expired")
        uploads.acknowledge(connection, row.id, platform.now())
        return row.acked_at is not None

    raced = await platform.store.write(store)
    return web.answer({"acked": True, "raced": True} if raced else {"acked": True})


def clean_name(name: str) -> str:
    """Return a file name as contract 10.2 has it: the base name, safe characters, at most 100 of them with the extension kept."""
    base = posixpath.basename(name.replace("\\", "/")).replace(" ", "_")
    base = _UNSAFE.sub("_", base).lstrip(".") or "file"
    if len(base) <= _NAME_CHARS:
        return base
    stem, dot, extension = base.rpartition(".")
    if not dot or len(extension) >= _EXTENSION_CHARS:
        return base[:_NAME_CHARS]
    return f"{stem[: _NAME_CHARS - len(extension) - 1]}.{extension}"


async def _keep(platform: Platform, request: Request, own: WorkspaceRow) -> Response:
    """Store the files, and tell the agent of those that came from the person."""
    files = await _read_form(platform, request)
    from_person = platform.auth.is_admin(credentials_of(request))
    now = platform.now()

    def store(connection: sqlite3.Connection) -> tuple[list[dict[str, Any]], list[activity.NewActivity]]:
        count, size = uploads.waiting(connection, own.id)
        if count + len(files) > MAX_WAITING_FILES or size + sum(len(data) for _, _, data in files) > MAX_WAITING_BYTES:
            raise Refusal(
                413, "too many files wait for this workspace", hint="they go when the agent fetches them, or expire"
            )
        stored: list[dict[str, Any]] = []
        rows: list[activity.NewActivity] = []
        for name, mime_type, data in files:
            file_id = uploads.insert(
                connection,
                workspace_id=own.id,
                name=name,
                mime_type=mime_type,
                data=data,
                now=now,
                expires_at=now + timestamps.from_seconds(platform.settings.upload_expiry),
            )
            file = {
                "uri": f"platform-pending:{own.id}/{file_id}",
                "name": name,
                "mimeType": mime_type,
                "size": len(data),
            }
            stored.append(file)
            if from_person:
                row = activity.NewActivity(
                    workspace_id=own.id,
                    activity_type="a2a_receive",
                    target_id=own.id,
                    method="chat_upload_receive",
                    summary=f"file {name}",
                    request_body={**file, "file_id": file_id},
                )
                activity.insert(connection, row, now)
                rows.append(row)
        return stored, rows

    stored, rows = await platform.store.write(store)
    for row in rows:
        platform.bus.publish("ACTIVITY_LOGGED", own.id, logged_payload(row))
    return web.answer({"files": stored})


async def _read_form(platform: Platform, request: Request) -> list[tuple[str, str, bytes]]:
    """Return name, type and bytes of every file of the form."""
    async with platform.upload_slots:
        body = _bounded(request, MAX_REQUEST_BYTES + _MULTIPART_SLACK)
        parser = _Form(request.headers, body, max_files=MAX_FILES, max_fields=10, max_part_size=MAX_FILE_BYTES)
        try:
            with anyio.fail_after(UPLOAD_SECONDS):
                form = await parser.parse()
        except MultiPartException as exc:
            raise Refusal(400, "invalid form", hint=str(exc.message)[:200]) from None
        except TimeoutError:
            raise Refusal(408, "the files did not arrive in time", headers={"Connection": "close"}) from None
        except (KeyError, ValueError, AttributeError):
            # The parser's own ways to fail on a form without boundary or with a header that is none.
            raise Refusal(400, "invalid form", hint="the multipart body could not be read") from None
        files: list[tuple[str, str, bytes]] = []
        try:
            for key, value in form.multi_items():
                if key != "files" or isinstance(value, str):
                    continue
                data = await value.read()
                if len(data) > MAX_FILE_BYTES:
                    raise Refusal(413, "file too large", max_bytes=MAX_FILE_BYTES)
                name = clean_name(value.filename or "")
                files.append((name, _type_of(name, value.content_type), data))
        finally:
            await form.close()
    if not files:
        raise Refusal(400, "no files", hint="send each file in a field named `files`")
    return files


async def _pass_on(platform: Platform, request: Request, own: WorkspaceRow, kind: str) -> Response:
    """Stream the form to the agent, which stores the files itself."""
    target = await _internal_url(platform, own, "/internal/chat/uploads/ingest")
    headers = {"Authorization": f"Bearer {own.inbound_secret}", "Content-Type": kind}
    body = _bounded(request, MAX_REQUEST_BYTES + _MULTIPART_SLACK)
    try:
        with anyio.fail_after(UPLOAD_SECONDS):
            answer = await platform.agents.post(target, content=body, headers=headers)
    except (httpx.HTTPError, TimeoutError) as exc:
        raise Refusal(503, _NOT_RUNNING, hint=f"the agent did not take the files ({type(exc).__name__})") from None
    try:
        parsed: object = web.parse(answer.content[:_MAX_JSON_ANSWER])
    except ValueError:
        parsed = None
    said = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    if answer.status_code == 200 and isinstance(said.get("files"), list):
        return web.answer(said)
    if answer.status_code in {400, 413} and said:
        return web.answer(said, answer.status_code)
    raise Refusal(502, "the workspace did not take the files", status=answer.status_code)


async def _internal_url(platform: Platform, own: WorkspaceRow, path: str) -> str:
    if own.delivery_mode == "poll" or not own.url:
        raise Refusal(503, _NOT_RUNNING, hint="the workspace has no URL that its files could be read from")
    if await urls.problem_of(own.url, platform.settings.url_rule):
        raise Refusal(502, "workspace URL is not publicly routable")
    parts = urlsplit(own.url)
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes]:
    size = 0
    stream = request.stream()
    async for chunk in stream:
        size += len(chunk)
        if size > limit:
            await web.drain(stream, limit)
            raise Refusal(413, "upload too large", max_bytes=MAX_REQUEST_BYTES, headers={"Connection": "close"})
        if chunk:
            yield chunk


async def _bytes_of(answer: httpx.Response) -> AsyncGenerator[bytes]:
    try:
        async for chunk in answer.aiter_bytes():
            yield chunk
    finally:
        with anyio.CancelScope(shield=True):
            await answer.aclose()


def _checked_path(path: str) -> str:
    clean = posixpath.normpath(path) if path else ""
    inside = any(clean == folder or clean.startswith(f"{folder}/") for folder in READABLE)
    if not path.startswith("/") or path.startswith("//") or clean != path or "\0" in path or not inside:
        hint = f"an absolute path without `.` and `..` under one of: {', '.join(READABLE)}"
        raise Refusal(400, "invalid path", hint=hint)
    return path


def _type_of(name: str, stated: str | None) -> str:
    if stated and _TYPE.fullmatch(stated) and stated != "application/octet-stream":
        return stated
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


ROUTES = (
    Route(
        method="GET", path="/uploads/limits", handler=limits, section="24.9", access="anyone", summary="How large files may be.",
        answers={200: wire.UploadLimits}, test="test_files.py::test_the_limits_of_uploads_are_public",
    ),
    Route(
        method="POST", path="/workspaces/{id}/chat/uploads", handler=upload, section="10.1, 24.9", access="workspace",
        summary="Send files.", body="multipart/form-data", answers={200: wire.UploadResponse}, refusals=(502,),
        test="test_files.py::test_files_for_a_polling_workspace_wait_until_it_fetches_and_acknowledges_them",
    ),
    Route(
        method="GET", path="/workspaces/{id}/chat/download", handler=download, section="10.3, 24.9", access="workspace",
        summary="Read a file of a workspace that has a URL.", answers={200: "application/octet-stream"}, refusals=(502,),
        parameters=(Parameter(name="path", meaning="absolute, clean, under /configs, /workspace, /home or /plugins", required=True),),
        test="test_files.py::test_a_file_is_read_from_the_workspace_with_its_inbound_secret",
    ),
    Route(
        method="GET", path="/workspaces/{id}/pending-uploads/{file_id}/content", handler=pending_content, section="24.9",
        access="workspace", summary="Fetch a file that waits.", answers={200: "application/octet-stream"},
        test="test_files.py::test_files_for_a_polling_workspace_wait_until_it_fetches_and_acknowledges_them",
    ),
    Route(
        method="POST", path="/workspaces/{id}/pending-uploads/{file_id}/ack", handler=pending_ack, section="24.9",
        access="workspace", summary="It was saved.", answers={200: wire.UploadAck},
        test="test_files.py::test_files_for_a_polling_workspace_wait_until_it_fetches_and_acknowledges_them",
    ),
)  # fmt: skip
