"""`molecule-local requests`: what agents ask of the person, and the answers (contract 24.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core import console
from molecule_runtime.core.identity import short_id
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import Remote, path_of, pick, rows
from molecule_runtime.localplatform.errors import CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Row = dict[str, Any]

_MAX_LISTED = 500
_OPEN = ("pending", "info_requested")
_STATUS = {"info_requested": "waits for the agent"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands below `requests`."""
    verbs = options.Verbs(parser)
    verb = verbs.add(
        "list",
        list_all,
        help="list what agents ask of you",
        examples="molecule-local requests list\nmolecule-local requests list --kind approval\nmolecule-local requests list --all --json",
    )
    options.add_remote(verb)
    verb.add_argument("--all", action="store_true", help="those that are answered, too")
    verb.add_argument("--kind", choices=("task", "approval"), help="only these")

    verb = verbs.add(
        "show", show, help="show a request with its messages", examples="molecule-local requests show 5f0c6f1e"
    )
    options.add_remote(verb)
    _add_id(verb)

    for name, action, help_text in (
        ("approve", "approved", "approve what an agent wants to do"),
        ("reject", "rejected", "refuse what an agent wants, or wants done"),
        ("done", "done", "say that a task is done"),
    ):
        verb = verbs.add(
            name,
            _responder(action),
            help=help_text,
            examples=f"molecule-local requests {name} 5f0c6f1e\nmolecule-local requests {name} 5f0c6f1e --note 'only on weekdays'",
        )
        options.add_remote(verb)
        _add_id(verb)
        verb.add_argument("--note", metavar="TEXT", help="a message for the agent, sent first")

    verb = verbs.add(
        "answer",
        answer,
        help="write to the agent about its request, without deciding it",
        examples="molecule-local requests answer 5f0c6f1e 'Which database?'",
    )
    options.add_remote(verb)
    _add_id(verb)
    verb.add_argument("text", metavar="TEXT")


def list_all(args: argparse.Namespace) -> int:
    """List requests."""
    found = _all(Remote.of(args), kind=args.kind, only_open=not args.all)
    if args.json:
        console.emit(found)
        return 0
    if not found:
        console.say("no requests" if args.all else "no open requests")
        return 0
    head = ["ID", "KIND", "FROM", "ASKED", "STATUS", "TITLE"]
    cells = [
        [
            short_id(str(row["id"])),
            str(row.get("kind") or "-"),
            console.one_line(str(row.get("workspace_name") or row.get("requester_id") or "-")),
            console.age(row.get("created_at")),
            _status(row),
            console.one_line(str(row.get("title") or "")),
        ]
        for row in found
    ]
    width = console.width()
    console.say("\n".join(console.cut(line, width) for line in console.table(head, cells).splitlines()))
    return 0


def show(args: argparse.Namespace) -> int:
    """Show one request."""
    remote = Remote.of(args)
    request_id = _find(remote, args.id)
    detail = remote.get(path_of("requests", request_id))
    if args.json:
        console.emit(detail)
        return 0
    row: Row = detail.get("request") or {}
    sender = console.one_line(str(row.get("workspace_name") or row.get("requester_id") or "an agent"))
    lines = [
        f"{row.get('kind')} {request_id}: {_status(row)}",
        f"  from      {sender} ({row.get('requester_id')}), {console.age(row.get('created_at'))}",
        f"  title     {console.one_line(str(row.get('title') or ''))}",
    ]
    if row.get("priority") is not None:
        lines.append(f"  priority  {row['priority']}")
    if row.get("responded_at"):
        lines.append(f"  answered  {console.age(row['responded_at'])}")
    if row.get("detail"):
        lines += ["", *(f"  {line}" for line in console.safe(str(row["detail"])).splitlines())]
    for message in rows(detail.get("messages")):
        author = "you" if message.get("author_type") == "user" else sender
        lines += ["", f"{author}, {console.age(message.get('created_at'))}:"]
        lines += [f"  {line}" for line in console.safe(str(message.get("body") or "")).splitlines()]
    if row.get("status") in _OPEN:
        words = ("approve", "reject") if row.get("kind") == "approval" else ("done", "reject")
        lines += [
            "",
            f"decide with: {' or '.join(f'molecule-local requests {word} {short_id(request_id)}' for word in words)}",
        ]
    console.say("\n".join(lines))
    return 0


def answer(args: argparse.Namespace) -> int:
    """Write a message about a request."""
    remote = Remote.of(args)
    request_id = _find(remote, args.id)
    made = _write(remote, request_id, args.text)
    if args.json:
        console.emit(made)
    else:
        console.say(
            f"sent; the request waits until the agent replies: molecule-local requests show {short_id(request_id)}"
        )
    return 0


def _responder(action: str) -> Callable[[argparse.Namespace], int]:
    def respond(args: argparse.Namespace) -> int:
        remote = Remote.of(args)
        request_id = _find(remote, args.id)
        if args.note:
            _write(remote, request_id, args.note)
        body = {"action": action, "responder_type": "user"}
        done = remote.call("POST", path_of("requests", request_id, "respond"), body=body)
        if args.json:
            console.emit(done)
        else:
            console.say(f"{action}: {request_id}")
        return 0

    return respond


def _write(remote: Remote, request_id: str, text: str) -> Any:
    body = {"body": text, "author_type": "user"}
    return remote.call("POST", path_of("requests", request_id, "messages"), body=body)


def _all(remote: Remote, *, kind: str | None = None, only_open: bool = False) -> list[Row]:
    status = None if only_open else "all"
    return rows(remote.get("/requests/pending", kind=kind, status=status, limit=_MAX_LISTED))


def _find(remote: Remote, text: str) -> str:
    """Return the id that a text means: an id, or the beginning of one."""
    wanted = text.strip().lower()
    try:
        return str(pick(_all(remote), wanted, what="request", listing="molecule-local requests list")["id"])
    except CommandError:
        # Old ones are not on the list any more; a whole id finds them all the same.
        if len(wanted) != _ID_CHARS:
            raise
        return wanted


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="of the request, or the beginning of it, as `requests list` shows it")


def _status(row: Row) -> str:
    status = str(row.get("status") or "-")
    return _STATUS.get(status, status)


_ID_CHARS = 36
