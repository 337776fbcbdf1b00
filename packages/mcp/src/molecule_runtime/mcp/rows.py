"""From the platform's activity rows to inbox messages (contract `runtime.md` 4.2, 4.3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import envelope
from molecule_runtime.core.identity import display_name
from molecule_runtime.core.platform.activity_rows import UnreadRow
from molecule_runtime.core.platform.pending_uploads import SCHEME
from molecule_runtime.tools import InboxMessage

if TYPE_CHECKING:
    from molecule_runtime.core.platform.wire import ActivityRow

DELEGATE_RESULT = "delegate_result"
CHAT_UPLOAD = "chat_upload_receive"
NOTIFY = "notify"
EMPTY_TEXT = "(empty A2A message)"


def message_of(row: ActivityRow, *, own_id: str, tag_arrival: bool) -> InboxMessage | None:
    """Return the message that a row carries, or None for a row that is our own doing.

    Our own chat messages (`notify` without a source) and our own sends come back in the list; taken for messages they would make an
    agent answer itself (contract `runtime.md` 20.2, 19).
    """
    method = row.method or ""
    source = (row.source_id or "").strip()
    if method == NOTIFY and not source:
        return None
    if source == own_id and method != DELEGATE_RESULT:
        return None
    body = _decoded(row.request_body)
    inbound = envelope.read_message(body)
    text = inbound.text
    if method == DELEGATE_RESULT and not text:
        text = _result_text(row.response_body)
    text = text or (row.summary or "").strip() or EMPTY_TEXT
    kind = "delegation_result" if method == DELEGATE_RESULT else "peer_agent" if source else "canvas_user"
    if isinstance(row, UnreadRow):
        text = f"(The platform sent a message that cannot be read as a whole: {row.problem}.)\n{text}"
        if kind == "canvas_user" and not {"id", "method", "source_id"}.isdisjoint(row.unread):
            # Nobody knows who sent it, so it is not the word of the human.
            kind = "peer_agent"
    return InboxMessage(
        activity_id=row.id,
        text=text,
        kind=kind,
        peer_id=source,
        method=method,
        created_at=row.created_at,
        arrival_workspace_id=own_id if tag_arrival else "",
        peer_name=display_name(row.peer_name),
        peer_role=display_name(row.peer_role),
        agent_card_url=(row.agent_card_url or "").strip() or None,
        attachments=_attachments(row, inbound, body),
    )


def _attachments(row: ActivityRow, inbound: envelope.Inbound, body: object) -> tuple[Mapping[str, Any], ...]:
    """Return the platform's own list where it sent one, else the file parts of the message, else the file that was left."""
    if row.attachments:
        return tuple(attachment for attachment in row.attachments if isinstance(attachment.get("kind"), str))
    files = inbound.files
    if not files and row.method == CHAT_UPLOAD and isinstance(body, Mapping):
        files = _left_file(cast("Mapping[str, object]", body), row.workspace_id)
    return tuple(
        {"kind": _kind_of(file.mime_type), "uri": file.uri, "mime_type": file.mime_type, "name": file.name}
        for file in files
    )


def _left_file(body: Mapping[str, object], workspace_id: str) -> tuple[envelope.File, ...]:
    """Read what the platform says of a file that waits for this workspace (contract `platform-api.md` 24.9)."""
    uri, file_id, name = (_text(body.get(key)) for key in ("uri", "file_id", "name"))
    mime_type = _text(body.get("mimeType")) or _text(body.get("mime_type"))
    uri = uri or (f"{SCHEME}{workspace_id}/{file_id}" if file_id and workspace_id else "")
    return (envelope.File(uri=uri, name=name, mime_type=mime_type),) if uri else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _kind_of(mime_type: str) -> str:
    family = mime_type.partition("/")[0]
    return family if family in {"image", "audio", "video"} else "file"


def _result_text(body: object) -> str:
    decoded = _decoded(body)
    if isinstance(decoded, Mapping):
        text = cast("Mapping[str, object]", decoded).get("text")
        return text if isinstance(text, str) else ""
    return ""


def _decoded(body: object) -> object:
    """Bodies may be objects or JSON text (contract `runtime.md` 4.3)."""
    if isinstance(body, str):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None
    return body
