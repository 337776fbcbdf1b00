"""Pushes messages to the client, for those that show what is pushed (contract `runtime.md` 5.4).

A pushed message stays in the inbox: `wait_for_message` of this process hands it out too (marked `pushed`), since no client says whether
it shows what is pushed, and both ways end at the same `inbox_pop`. Other processes leave it alone until the lease ends. One that
nobody pops is pushed again, a few times.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from molecule_runtime.core import untrusted
from molecule_runtime.core.errors import InvalidWorkspaceIdError
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.mcp.errors import StateError
from molecule_runtime.tools.result import bounded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from molecule_runtime.mcp.inbox import PolledInbox
    from molecule_runtime.mcp.push_hosts import PushChoice
    from molecule_runtime.mcp.store import Mailbox
    from molecule_runtime.tools import InboxMessage

    Send = Callable[[str, Mapping[str, Any]], Awaitable[None]]


class Reach(Protocol):
    """Whether a client can be told anything now."""

    @property
    def is_open(self) -> bool:
        """Whether what is sent now arrives."""
        ...

    async def until_open(self) -> None:
        """Wait until it does."""
        ...


class Always:
    """The reach of a client whose stream is there as long as its session."""

    is_open = True

    async def until_open(self) -> None:
        """Return at once."""


logger = logging.getLogger(__name__)

MAX_CONTENT_BYTES: Final = 32 * 1024
"""Of the text; a line that a client reads has 64 KiB at most (contract `consumers.md` 4.1)."""

MAX_ATTACHMENT_BYTES: Final = 8 * 1024
"""Of the list of attachments, which stands in a notification twice."""

LOOK_SECONDS: Final = 15.0
"""Between looks for messages whose lease has ended."""

AWAITED_SECONDS: Final = 1.0
"""Between looks while somebody waits for messages, who gets them first."""

_KINDS: Final = {"canvas_user", "peer_agent", "delegation_result"}
_METHODS: Final = {
    "message/send",
    "tasks/send",
    "tasks/get",
    "notify",
    "delegate_result",
    "chat_upload_receive",
    "broadcast",
    "create",
}
_ACTIVITY_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class PushSender:
    """Pushes what comes into the inbox to the client of one session."""

    def __init__(self, inbox: PolledInbox, choice: PushChoice) -> None:
        self._inbox = inbox
        self._choice = choice
        self._opened = anyio.Event()
        self._send: Send | None = None
        self._reach: Reach = Always()
        self._method: str | None = None

    def open(self, send: Send, client_name: str, reach: Reach | None = None) -> None:
        """Begin to push: the client has said that it is ready.

        Args:
            send: sends a notification, by method and params; waits while the client does not read.
            client_name: what the client calls itself; `""` where it does not.
            reach: when the client can be reached; None for as long as `send` works.
        """
        if not self._opened.is_set():
            self._send = send
            self._reach = reach or Always()
            self._method = self._choice.method(client_name)
            self._opened.set()

    async def run(self) -> None:
        """Push until cancelled, or until the client is gone."""
        await self._opened.wait()
        if self._send is None or self._method is None:
            return
        try:
            while await self._push(self._send, self._method):
                pass
        except Exception:
            # A client that cannot be pushed to can still ask; its session goes on.
            logger.exception("messages are pushed no more")

    async def _push(self, send: Send, method: str) -> bool:
        """Push one message, or wait until there may be one; False when the client is gone."""
        await self._reach.until_open()
        news = self._inbox.news
        if self._inbox.is_awaited:
            await anyio.sleep(AWAITED_SECONDS)
            return True
        try:
            found = await self._inbox.lease_for_push()
        except StateError as exc:
            logger.warning("nothing is pushed for now: %s", exc)
            await anyio.sleep(LOOK_SECONDS)
            return True
        if found is None:
            with anyio.move_on_after(LOOK_SECONDS):
                await news.wait()
            return True
        mailbox, message = found
        try:
            await send(method, notification(mailbox, message))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            logger.debug("the client is gone; what was to be pushed stays in the inbox")
            await self._inbox.release(mailbox, message.activity_id)
            return False
        if not self._reach.is_open:
            # It went in between, and what was sent with it.
            await self._inbox.release(mailbox, message.activity_id)
        return True


def notification(mailbox: Mailbox, message: InboxMessage) -> dict[str, Any]:
    """Return the params of the notification of a message."""
    attachments = [dict(attachment) for attachment in message.attachments]
    listed = json.dumps(attachments, separators=(",", ":"))
    if len(listed) > MAX_ATTACHMENT_BYTES:
        attachments = []
        listed = "more than fit here; inbox_peek lists them"
    params: dict[str, Any] = {
        "content": _content(message, listed if message.attachments else ""),
        "meta": _meta(mailbox, message),
    }
    if attachments:
        params["attachments"] = attachments
    return params


def _meta(mailbox: Mailbox, message: InboxMessage) -> dict[str, str]:
    """Return the attributes of the tag. All are text: a client that shows them as such drops a notification with others."""
    peer_id = _workspace_id(message.peer_id)
    meta = {
        "source": "molecule",
        "kind": message.kind if message.kind in _KINDS else "",
        "peer_id": peer_id,
        "method": message.method if message.method in _METHODS else "",
        "activity_id": message.activity_id if _ACTIVITY_ID.fullmatch(message.activity_id) else "",
        "ts": message.created_at if _is_moment(message.created_at) else "",
    }
    card = message.agent_card_url or (f"{mailbox.origin}/registry/discover/{peer_id}" if peer_id else "")
    optional = {
        "peer_name": message.peer_name or "",
        "peer_role": message.peer_role or "",
        "agent_card_url": card if card.isascii() and card.isprintable() else "",
        "arrival_workspace_id": message.arrival_workspace_id,
    }
    return {**meta, **{name: value for name, value in optional.items() if value}}


def _content(message: InboxMessage, attachments: str) -> str:
    body = bounded(message.text, MAX_CONTENT_BYTES)
    peer_id = _workspace_id(message.peer_id)
    pop = (
        f'then inbox_pop("{message.activity_id}")' if _ACTIVITY_ID.fullmatch(message.activity_id) else "then inbox_pop"
    )
    header = hint = ""
    match message.kind:
        case "canvas_user":
            header = "[from canvas user]"
            hint = f"[answer with send_message_to_user, {pop}]"
        case "peer_agent":
            who = message.peer_name or "peer-agent"
            role = f" ({message.peer_role})" if message.peer_name and message.peer_role else ""
            header = f"[from {who}{role} · peer_id={peer_id}]" if peer_id else f"[from {who}{role}]"
            # A peer could write a header and a hint of its own; inside of a boundary it is seen to be the peer's.
            body = untrusted.wrap(body, source="peer", id=peer_id or None)
            answer = f'answer with delegate_task(workspace_id="{peer_id}")' if peer_id else "there is nobody to answer"
            hint = f"[{answer}, {pop}]"
        case "delegation_result":
            header = "[result of your delegation]"
            body = untrusted.wrap(body, source="peer", id=peer_id or None)
            hint = f"[nothing to answer: use it, {pop}]"
        case _:
            pass
    lines = [header, body, f"attachments: {attachments}" if attachments else "", hint]
    return "\n".join(line for line in lines if line)


def _workspace_id(value: str) -> str:
    try:
        return validate_workspace_id(value.lower())
    except InvalidWorkspaceIdError:
        return ""


def _is_moment(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
