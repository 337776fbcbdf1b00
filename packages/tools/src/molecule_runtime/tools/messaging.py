"""Tools that talk to people: send_message_to_user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.errors import AccessDeniedError
from molecule_runtime.core.platform import wire
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.result import ToolResult

if TYPE_CHECKING:
    from molecule_runtime.core.registry.arguments import Attachment, SendMessageToUser
    from molecule_runtime.tools.context import Call


async def send_message_to_user(call: Call[SendMessageToUser]) -> ToolResult:
    """Send a chat message to the human, with files that are already uploaded."""
    attachments = [_attachment(index, item) for index, item in enumerate(call.arguments.attachments)]
    try:
        await call.client.notify(call.arguments.message, attachments=attachments)
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


def _attachment(index: int, item: str | Attachment) -> wire.Attachment:
    if isinstance(item, str) or not item.uri or not item.name:
        raise ToolRefusedError(
            f"attachments[{index}]: uploading local files is not available in this build; "
            "give an object with the 'uri' and 'name' of a file that is already uploaded"
        )
    return wire.Attachment.model_validate(
        {"uri": item.uri, "name": item.name, "mimeType": item.media_type, "size": item.size}
    )
