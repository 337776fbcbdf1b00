"""From a row of the platform's inbox to what is in it; a message in the SDK's form (contract `platform-api.md` 24.3, 24.4)."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as types_0_3

from molecule_runtime.a2a.answers import NOTIFY
from molecule_runtime.a2a.delegation_rows import DELEGATE_RESULT
from molecule_runtime.a2a.inbound import normalise
from molecule_runtime.a2a.pending_uploads import Upload
from molecule_runtime.a2a.senders import SOURCE_TYPE, Sender
from molecule_runtime.core import envelope
from molecule_runtime.core.platform.activity_rows import UnreadRow

if TYPE_CHECKING:
    from a2a.types import SendMessageRequest

    from molecule_runtime.core.platform.wire import ActivityRow

logger = logging.getLogger(__name__)

CHAT_UPLOAD = "chat_upload_receive"
PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxMessage:
    """A message that waits in the inbox.

    Attributes:
        row_id: of the row that carries it.
        line: messages of one line are handled in their order.
        sender: whom the answer goes to.
        request: for the SDK's handler; None when the message cannot be read.
    """

    row_id: str
    line: str
    sender: Sender
    request: SendMessageRequest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxUpload:
    """A file that a person left for this workspace; a message may come to speak of it."""

    row_id: str
    line: str
    upload: Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxResult:
    """Word that a delegation of this workspace has ended."""

    row_id: str
    line: str


InboxItem: TypeAlias = InboxMessage | InboxUpload | InboxResult


def item_in(row: ActivityRow, *, own_id: str) -> InboxItem | None:
    """Return what a row carries; None for a row that carries nothing, or that is our own doing.

    What this workspace said to its user comes back in the list, and so does what it sent itself: taken for messages they would make
    an agent answer itself (contract `runtime.md` 20.2, 19). The result of a delegation may name us as its source (4.1).
    """
    if isinstance(row, UnreadRow) and not {"id", "method", "source_id"}.isdisjoint(row.unread):
        # Without its source it would pass for a message of the person.
        logger.warning("row %s of the inbox cannot be read: %s", row.id, row.problem)
        return None
    if row.method == DELEGATE_RESULT:
        return InboxResult(row_id=row.id, line=DELEGATE_RESULT)
    source = (row.source_id or "").strip()
    if row.method == NOTIFY or source == own_id:
        return None
    body = _decoded(row.request_body)
    if row.method == CHAT_UPLOAD:
        return _upload_in(row, body)
    message = _message_of(body)
    if message is None:
        logger.debug("row %s of the inbox (%s) carries no message", row.id, row.method)
        return None
    read = envelope.read_message(message)
    sender = Sender.of(read, workspace_id=source or None, key=row.id)
    return InboxMessage(
        row_id=row.id,
        line=f"{source or PERSON}\n{read.context_id}",
        sender=sender,
        request=_request(message, row.id, source),
    )


def _upload_in(row: ActivityRow, body: object) -> InboxUpload | None:
    told = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    file_id, name, mime_type = (told.get(key) for key in ("file_id", "name", "mimeType"))
    if not isinstance(file_id, str) or not file_id:
        logger.warning("row %s of the inbox names no file", row.id)
        return None
    upload = Upload(
        file_id=file_id,
        name=name if isinstance(name, str) else "",
        mime_type=mime_type if isinstance(mime_type, str) else "",
    )
    return InboxUpload(row_id=row.id, line=f"{CHAT_UPLOAD}\n{file_id}", upload=upload)


def _request(message: dict[str, Any], row_id: str, source: str) -> SendMessageRequest | None:
    claimed = message.get("metadata")
    metadata = dict(cast("dict[str, Any]", claimed)) if isinstance(claimed, dict) else {}
    # The platform knows who sent it; what the message says about that does not count.
    metadata.pop("source_workspace_id", None)
    metadata.pop(SOURCE_TYPE, None)
    if source:
        metadata["source_workspace_id"] = source
    whole = {**message, "metadata": metadata}
    if not isinstance(whole.get("messageId"), str) or not whole["messageId"]:
        # The same each time that the row comes.
        whole["messageId"] = row_id
    body = normalise({"id": row_id, "method": "message/send", "params": {"message": whole}})
    try:
        return conversions.to_core_send_message_request(types_0_3.SendMessageRequest.model_validate(body))
    except Exception as exc:  # pydantic and protobuf both have their say, about what a sender wrote
        logger.warning("row %s of the inbox cannot be read: %s", row_id, type(exc).__name__)
        return None


def _message_of(body: object) -> dict[str, Any] | None:
    if not isinstance(body, dict):
        return None
    node = cast("dict[str, Any]", body)
    for key in ("params", "message"):
        inner = node.get(key)
        if isinstance(inner, dict):
            node = cast("dict[str, Any]", inner)
    return node if isinstance(node.get("parts"), list) else None


def _decoded(body: object) -> object:
    """Bodies may be objects or JSON text (contract `runtime.md` 4.3)."""
    if isinstance(body, str):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None
    return body
