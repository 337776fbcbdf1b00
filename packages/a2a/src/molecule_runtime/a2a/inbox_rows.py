"""From a row of the platform's inbox to the message in it, in the SDK's form (contract `platform-api.md` 24.3, 24.4)."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as types_0_3

from molecule_runtime.a2a.answers import Sender
from molecule_runtime.a2a.inbound import normalise
from molecule_runtime.core import envelope

if TYPE_CHECKING:
    from a2a.types import SendMessageRequest

    from molecule_runtime.core.platform.wire import ActivityRow

logger = logging.getLogger(__name__)

NOTIFY = "notify"
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


def message_in(row: ActivityRow, *, own_id: str) -> InboxMessage | None:
    """Return the message that a row carries; None for a row that carries none, or that is our own doing.

    What this workspace said to its user comes back in the list, and so does what it sent itself: taken for messages they would make
    an agent answer itself (contract `runtime.md` 20.2, 19).
    """
    source = (row.source_id or "").strip()
    if row.method == NOTIFY or source == own_id:
        return None
    body = _decoded(row.request_body)
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


def _request(message: dict[str, Any], row_id: str, source: str) -> SendMessageRequest | None:
    claimed = message.get("metadata")
    metadata = dict(cast("dict[str, Any]", claimed)) if isinstance(claimed, dict) else {}
    # The platform knows who sent it; what the message says about that does not count.
    metadata.pop("source_workspace_id", None)
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
