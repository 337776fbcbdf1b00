"""Whom an answer goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molecule_runtime.core import envelope

IN_REPLY_TO = "in_reply_to"
"""In the metadata of an answer that is sent as a message: the id of the one that it answers. It is not answered in turn, or two agents
would talk without end."""

SOURCE_TYPE = "source_type"
"""In the metadata of a message that this workspace sends itself: what had it sent (contract `runtime.md` 8, 12.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Whom an answer goes to.

    Attributes:
        workspace_id: of a peer; None for a person.
        message_id: of the message that is answered.
        context_id: of the conversation, where the sender named one.
        key: what makes the answer one and the same when it is sent again.
        expects_no_answer: whether the message was an answer itself.
    """

    workspace_id: str | None
    message_id: str
    context_id: str = ""
    key: str = ""
    expects_no_answer: bool = False

    @classmethod
    def of(cls, message: envelope.Inbound, *, workspace_id: str | None, key: str) -> Sender:
        """Read whom the answer to a message goes to."""
        return cls(
            workspace_id=workspace_id or None,
            message_id=message.message_id or key,
            context_id=message.context_id,
            key=key,
            expects_no_answer=bool(message.metadata.get(IN_REPLY_TO)),
        )
