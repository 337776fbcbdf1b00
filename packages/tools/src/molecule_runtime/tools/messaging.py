"""Tools that talk to people and to everybody: send_message_to_user, broadcast_message."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import anyio.to_thread

from molecule_runtime.core.errors import AccessDeniedError, RequestRefusedError
from molecule_runtime.core.platform import wire
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.files import open_files
from molecule_runtime.tools.result import ToolResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import Attachment, BroadcastMessage, SendMessageToUser
    from molecule_runtime.tools.context import Call
    from molecule_runtime.tools.files import OpenFile

_UPLOADED = ("workspace:", "platform-pending:", "https://", "http://")
"""What the address of an uploaded file begins with (contract `platform-api.md` 10.1, 24.9)."""


async def send_message_to_user(call: Call[SendMessageToUser]) -> ToolResult:
    """Send a chat message to the human, with files: all of them or no message at all."""
    client = call.client
    attachments = await _attachments(call, client)
    try:
        await client.notify(call.arguments.message, attachments=attachments)
    except AccessDeniedError as exc:
        if "talk_to_user_disabled" in str(exc):
            raise ToolRefusedError(
                "this workspace may not talk to the user; delegate the message to your parent (list_peers), which may"
            ) from None
        raise
    suffix = f" with {len(attachments)} attachment{'s' if len(attachments) > 1 else ''}" if attachments else ""
    return ToolResult(
        text=f"Message sent to user{suffix}", structured={"status": "sent", "attachments": len(attachments)}
    )


async def broadcast_message(call: Call[BroadcastMessage]) -> ToolResult:
    """Send one message to every workspace that this one may talk to."""
    call.require("delegate")
    try:
        answer = await call.client.broadcast(call.arguments.message)
    except AccessDeniedError as exc:
        if "broadcast_disabled" in str(exc):
            raise ToolRefusedError(
                "broadcasting is not enabled for this workspace; an administrator can enable it. Do not try again: "
                "delegate_task reaches one peer, send_message_to_user the user"
            ) from None
        raise
    return ToolResult(
        text=f"Broadcast sent to {answer.delivered} workspace(s)",
        structured={"status": answer.status, "delivered": answer.delivered},
    )


async def _attachments(call: Call[SendMessageToUser], client: PlatformClient) -> list[wire.Attachment]:
    given = call.arguments.attachments
    ready = {index: _uploaded(index, item) for index, item in enumerate(given) if not _local_path(item)}
    local = [(f"attachments[{index}]", _local_path(item), _shown_name(item)) for index, item in enumerate(given)]
    local = [item for item in local if item[1]]
    if local:
        state_dir = call.context.state_dir
        with ExitStack() as opened:

            def check() -> list[OpenFile]:
                # Every file is open and checked before the first byte of one leaves.
                tokens = [served.target.token.read() for served in call.context.clients.values()]
                private = [state_dir] if state_dir else []
                return open_files(call.context.files_root, local, private=private, tokens=tokens, stack=opened)

            files = await anyio.to_thread.run_sync(check)
            await call.progress(f"sending {len(files)} file{'s' if len(files) > 1 else ''}")
            stored = iter(await _upload(client, files))
        ready |= {index: next(stored) for index in range(len(given)) if index not in ready}
    return [ready[index] for index in sorted(ready)]


async def _upload(client: PlatformClient, files: Sequence[OpenFile]) -> list[wire.Attachment]:
    try:
        stored = await client.upload([file.part() for file in files])
    except RequestRefusedError as exc:
        if exc.status == 413:
            raise ToolRefusedError(f"the platform takes no files of this size, and nothing was sent: {exc}") from None
        raise
    if len(stored) != len(files):
        raise ToolRefusedError(
            f"the platform stored {len(stored)} of {len(files)} files, so nothing was sent; try again, or with fewer files"
        )
    return [
        _attachment({"uri": kept.uri, "name": file.name, "mimeType": file.mime_type, "size": file.size})
        for file, kept in zip(files, stored, strict=True)
    ]


def _uploaded(index: int, item: str | Attachment) -> wire.Attachment:
    if isinstance(item, str) or not item.uri or not item.uri.lower().startswith(_UPLOADED):
        raise ToolRefusedError(
            f"attachments[{index}]: 'uri' must be the address of a file that is already uploaded, which begins with one of: "
            f"{', '.join(_UPLOADED)}; give a local file as a path"
        )
    return _attachment({"uri": item.uri, "name": item.name, "mimeType": item.media_type, "size": item.size})


def _attachment(fields: Mapping[str, object]) -> wire.Attachment:
    return wire.Attachment.model_validate({key: value for key, value in fields.items() if value is not None})


def _local_path(item: str | Attachment) -> str:
    return item if isinstance(item, str) else item.local_path or ""


def _shown_name(item: str | Attachment) -> str | None:
    return None if isinstance(item, str) else item.name
