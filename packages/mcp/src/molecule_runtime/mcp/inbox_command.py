"""`molecule-mcp inbox`: look at the messages that are kept on this machine, and have one handed out anew."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import console
from molecule_runtime.core.identity import origin_of
from molecule_runtime.mcp.errors import McpError
from molecule_runtime.mcp.listing import find_messages, list_mailboxes, list_messages, requeue
from molecule_runtime.mcp.opening import INBOX_FILE
from molecule_runtime.mcp.store import InboxStore, Mailbox

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from molecule_runtime.mcp.doctor.subject import Machine
    from molecule_runtime.mcp.listing import MailboxState, StoredMessage

_COLUMNS_FOR_TEXT = 24
"""A narrower column of text tells nothing."""


def run(options: argparse.Namespace, machine: Machine) -> int:
    """Run `inbox list`, `show` or `requeue`; returns the exit code.

    Raises:
        McpError: the inbox cannot be used, or the message is not there.
    """
    files = [folder / INBOX_FILE for folder in machine.folders()]
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(InboxStore(path))) for path in files if path.exists()]
        match options.action:
            case "list":
                _list(stores, files, options)
            case "show":
                _show(stores, options)
            case _:
                _requeue(stores, options)
    return 0


def _list(stores: list[InboxStore], files: list[Path], options: argparse.Namespace) -> None:
    mailboxes = [
        (store, state) for store in stores for state in list_mailboxes(store) if _wanted(state.mailbox, options)
    ]
    messages = _page(mailboxes, options)
    if options.json:
        data = {
            "mailboxes": [mailbox_json(state) for _, state in mailboxes],
            "messages": [_message_json(message) for message in messages],
        }
        console.emit(data)
        return
    if not stores:
        console.say(f"no inbox yet: {', '.join(str(path) for path in files) or 'there is no folder for it'}")
        return
    for _, state in mailboxes:
        polled = f"polled by process {state.polled_by}" if state.polled_by else "polled by nobody"
        full = "; FULL: polling waits until some are popped" if state.full else ""
        console.say(
            f"{state.mailbox.workspace_id} at {state.mailbox.origin}: {console.count(state.waiting, 'message')} waiting,"
            f" {state.leased} being handled, {polled}{full}"
        )
    if messages:
        console.say("")
        console.say(_table(messages))
    shown = options.offset + len(messages)
    total = sum(state.popped if options.popped else state.waiting for _, state in mailboxes)
    if shown < total:
        console.remark(f"{total - shown} more: --offset {shown}")


def _page(mailboxes: list[tuple[InboxStore, MailboxState]], options: argparse.Namespace) -> list[StoredMessage]:
    """Return the chosen messages, mailbox by mailbox."""
    messages: list[StoredMessage] = []
    skip = options.offset
    for store, state in mailboxes:
        room = options.limit - len(messages)
        if room <= 0:
            break
        found = list_messages(store, mailbox=state.mailbox, popped=options.popped, limit=skip + room, offset=0)
        messages += found[skip : skip + room]
        skip = max(0, skip - len(found))
    return messages


def _show(stores: list[InboxStore], options: argparse.Namespace) -> None:
    _, found = _one(stores, options)
    if options.json:
        console.emit(_message_json(found))
        return
    message = found.message
    facts = {
        "activity_id": found.activity_id,
        "workspace": f"{found.mailbox.workspace_id} at {found.mailbox.origin}",
        "state": _state(found),
        "handed out": f"{found.deliveries} times" if found.deliveries != 1 else "once",
    }
    if message is not None:
        sender = message.peer_name or message.peer_id or "the user"
        facts |= {"kind": message.kind, "from": sender, "created": message.created_at}
    for name, value in facts.items():
        console.say(f"{name + ':':<13}{console.one_line(value)}")
    if message is None:
        console.say("\nIts text is no longer kept.")
        return
    console.say(f"\n{console.safe(message.text)}")
    for attachment in message.attachments:
        console.say(console.one_line(f"attachment: {json.dumps(dict(attachment), ensure_ascii=False)}"))


def _requeue(stores: list[InboxStore], options: argparse.Namespace) -> None:
    store, found = _one(stores, options)
    if not requeue(store, found.mailbox, found.activity_id):
        raise McpError(
            f"message {found.activity_id} was popped, and its text is no longer kept: it cannot be handed out"
        )
    if options.json:
        console.emit({"activity_id": found.activity_id, "requeued": True})
    else:
        console.say(f"message {found.activity_id} of {found.mailbox.workspace_id} is handed out anew")


def _one(stores: list[InboxStore], options: argparse.Namespace) -> tuple[InboxStore, StoredMessage]:
    found = [
        (store, message)
        for store in stores
        for message in find_messages(store, options.activity_id)
        if _wanted(message.mailbox, options)
    ]
    shown = console.one_line(options.activity_id)[:80]
    if not found:
        raise McpError(f"there is no message {shown!r} here; `molecule-mcp inbox list` shows what there is")
    if len(found) > 1:
        places = ", ".join(f"{message.mailbox.workspace_id} at {message.mailbox.origin}" for _, message in found)
        raise McpError(f"several workspaces have a message {shown!r}: {places}; choose with --workspace and --platform")
    return found[0]


def _wanted(mailbox: Mailbox, options: argparse.Namespace) -> bool:
    if options.workspace is not None and mailbox.workspace_id != options.workspace:
        return False
    return options.platform is None or mailbox.origin == origin_of(options.platform)


def _table(messages: list[StoredMessage]) -> str:
    rows = [
        (
            message.activity_id,
            console.cut(message.mailbox.workspace_id, 20),
            _state(message),
            console.age(message.message.created_at if message.message else None),
            console.cut(_sender(message), 20),
        )
        for message in messages
    ]
    head = ("ACTIVITY", "WORKSPACE", "STATE", "CREATED", "FROM")
    lines = console.table(head, rows).splitlines()
    room = console.width() - max(console.measure(line) for line in lines) - 2
    if room < _COLUMNS_FOR_TEXT:
        return "\n".join(lines)
    wide = max(console.measure(line) for line in lines) + 2
    texts = ["TEXT", *(console.cut(_text(message), room) for message in messages)]
    return "\n".join(console.pad(line, wide) + text for line, text in zip(lines, texts, strict=True))


def _state(message: StoredMessage) -> str:
    holder = f" by process {message.holder}" if message.holder else ""
    return f"{message.state}{holder}"


def _sender(message: StoredMessage) -> str:
    if message.message is None:
        return "-"
    return console.one_line(message.message.peer_name or message.message.peer_id or "user")


def _text(message: StoredMessage) -> str:
    return console.one_line(message.message.text[:500]) if message.message is not None else "(no longer kept)"


def mailbox_json(state: MailboxState) -> dict[str, Any]:
    """Return a mailbox for programs; moments are RFC 3339."""
    return {
        "workspace_id": state.mailbox.workspace_id,
        "origin": state.mailbox.origin,
        "waiting": state.waiting,
        "leased": state.leased,
        "popped": state.popped,
        "full": state.full,
        "polled_by": state.polled_by,
        "oldest": _moment(state.oldest),
    }


def _message_json(message: StoredMessage) -> dict[str, Any]:
    return {
        "workspace_id": message.mailbox.workspace_id,
        "origin": message.mailbox.origin,
        "activity_id": message.activity_id,
        "state": message.state,
        "until": _moment(message.until),
        "holder": message.holder,
        "deliveries": message.deliveries,
        "received_at": _moment(message.received_at or None),
        "popped_at": _moment(message.popped_at),
        "message": None if message.message is None else message.message.to_json(),
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def oldest(states: Iterator[MailboxState]) -> str:
    """Return how long the oldest waiting message has waited, for people."""
    moments = [state.oldest for state in states if state.oldest]
    return console.age(_moment(min(moments))) if moments else "-"
