"""What happened, told in lines: rows of the activity list and events (contract 7.1, 17), as a person reads them.

A row or an event has no line when another tells the same: a message has one where it arrived, not one more where it was sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import console
from molecule_runtime.core.envelope import Failure, Reply, read_answer, read_message
from molecule_runtime.core.identity import short_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from molecule_runtime.localplatform.commands.frames import Frame

    Row = dict[str, Any]
    Name = Callable[[object], str]

PERSON = "you"
PLATFORM = "platform"

_WHO_WIDTH = 22
_MAX_NAME = 20
_MIN_TEXT = 20

TOLD_BY_ROWS = frozenset(
    {"ACTIVITY_LOGGED", "AGENT_MESSAGE", "A2A_RESPONSE", "BROADCAST_MESSAGE", "WORKSPACE_HEARTBEAT"}
)
"""Frames that say nothing which a row of the activity list does not say better, or nothing at all."""

_SILENT_EVENTS = TOLD_BY_ROWS | {
    "DELEGATION_STATUS",
    "DELEGATION_COMPLETE",
    "DELEGATION_FAILED",
    "APPROVAL_ESCALATED",
    "APPROVAL_APPROVED",
}
_STATES = {
    "WORKSPACE_PROVISIONING": "is created",
    "WORKSPACE_AWAITING_AGENT": "is created and waits for its agent",
    "WORKSPACE_ONLINE": "is online",
    "WORKSPACE_OFFLINE": "is offline",
    "WORKSPACE_DEGRADED": "is degraded",
    "WORKSPACE_PAUSED": "is paused",
    "WORKSPACE_HIBERNATED": "is hibernated",
    "WORKSPACE_REMOVED": "is removed",
    "WORKSPACE_PROVISION_FAILED": "could not be started",
    "AGENT_CARD_UPDATED": "has a new agent card",
    "SESSION_RESET": "begins a new chat session",
}
_REASONS = ("reason", "sample_error", "error", "recovered_from")
_DECIDED = {"done": "done", "approved": "approved", "rejected": "refused", "cancelled": "taken back"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: at a moment, somebody, to or from somebody, and what."""

    at: datetime
    who: str
    text: str

    def render(self, width: int, now: datetime) -> str:
        """Return it for a terminal of this width, in its time zone."""
        local = self.at.astimezone()
        stamp = local.strftime("%H:%M:%S" if local.date() == now.astimezone().date() else "%Y-%m-%d %H:%M:%S")
        lead = f"{stamp}  {console.pad(self.who, _WHO_WIDTH)}  "
        return lead + console.cut(self.text, max(_MIN_TEXT, width - console.measure(lead)))


def lines_of_row(row: Row, name: Name, *, sent: bool = False) -> Iterator[Line]:
    """Tell a row of the activity list; `sent` when the line for the message itself is there already."""
    at = moment(row.get("created_at"))
    own = name(row.get("workspace_id"))
    kind, method = str(row.get("activity_type") or "activity"), row.get("method")
    summary = console.one_line(str(row.get("summary") or ""))
    if method == "notify":
        stored = row.get("response_body")
        body = cast("Row", stored) if isinstance(stored, dict) else {}
        said = Reply(text=str(body.get("result") or ""), files=read_message(body).files)
        yield Line(at=at, who=_there(own, PERSON), text=_said(said))
    elif kind == "broadcast_receive":
        yield Line(at=at, who=_there(name(row.get("source_id")), own), text=f"(to all) {summary}")
    elif kind == "a2a_receive" and method == "chat_upload_receive":
        yield Line(at=at, who=_there(_sender(row, name), own), text=summary)
    elif kind == "a2a_receive" and method == "delegate_result":
        yield Line(at=at, who=own, text=f"finds a result in its inbox: {summary}")
    elif kind == "a2a_receive":
        yield from _exchange(row, at, name, own, sent=sent)
    elif kind == "delegation" and method == "delegate_result":
        target = name(row.get("target_id"))
        yield Line(at=at, who=own, text=f"delegation to {target} {row.get('status')}: {_result(row) or summary}")
    elif kind not in {"a2a_send", "delegation"}:
        failed = f" ({console.one_line(str(row['error_detail']))})" if row.get("error_detail") else ""
        yield Line(at=at, who=own, text=f"{kind}: {summary}{failed}")


def lines_of_event(frame: Frame, name: Name) -> Iterator[Line]:
    """Tell an event."""
    if frame.event == "A2A_SENT":
        payload = frame.payload
        source = PERSON if payload.get("source_id") is None else name(payload["source_id"])
        who = _there(source, name(payload.get("target_id")))
        yield Line(at=moment(frame.timestamp), who=who, text=console.one_line(str(payload.get("text") or "")))
    elif (text := _event_text(frame.event, frame.payload, name)) is not None:
        yield Line(at=moment(frame.timestamp), who=name(frame.workspace_id), text=text)


def moment(text: object) -> datetime:
    """Read an RFC 3339 moment; whatever is none counts as the beginning of time."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        found = datetime.min
    return found if found.tzinfo is not None else datetime.fromisoformat("0001-01-02T00:00:00+00:00")


def _event_text(event: str, payload: Mapping[str, Any], name: Name) -> str | None:
    if event in _SILENT_EVENTS:
        return None
    if event in _STATES:
        why = next((str(payload[key]) for key in _REASONS if payload.get(key)), "")
        again = " again" if payload.get("recovered_from") else ""
        return f"{_STATES[event]}{again}{f': {console.one_line(why)}' if why and not again else ''}"
    title = console.one_line(str(payload.get("title") or payload.get("action") or payload.get("name") or ""))
    request = short_id(str(payload.get("request_id") or payload.get("approval_id") or ""))
    match event:
        case "TASK_UPDATED":
            task = console.one_line(str(payload.get("current_task") or ""))
            return f"works on: {task}" if task else None
        case "A2A_ANSWERED":
            # The row tells of every other answer.
            return "is busy; the message waits in its queue" if payload.get("status") == "queued" else None
        case "DELEGATION_SENT":
            preview = console.one_line(str(payload.get("task_preview") or ""))
            return f"delegates to {name(payload.get('target_id'))}: {preview}"
        case "REQUEST_CREATED" if payload.get("recipient_type") == "agent":
            return f"asks {name(payload.get('recipient_id'))}: {title}"
        case "REQUEST_CREATED" | "APPROVAL_REQUESTED":
            return f"asks you: {title} (molecule-local requests show {request})"
        case "REQUEST_RESPONDED":
            return f"request {request} is {_DECIDED.get(str(payload.get('status')), payload.get('status'))}"
        case "REQUEST_MESSAGE":
            return f"request {request} has a new message"
        case "APPROVAL_DENIED":
            # A decision of the person is told by REQUEST_RESPONDED.
            return f"request {request} expired" if payload.get("decided_by") == "auto-expired" else None
        case "CRON_EXECUTED" | "CRON_SKIPPED":
            word = "ran" if event == "CRON_EXECUTED" else "was skipped"
            return f"schedule {title!r} {word}"
        case _:
            return f"{event} {console.one_line(json.dumps(dict(payload), ensure_ascii=False))}"


def _exchange(row: Row, at: datetime, name: Name, own: str, *, sent: bool) -> Iterator[Line]:
    """Tell a message and, where there is one, its answer."""
    source = _sender(row, name)
    took = row.get("duration_ms")
    begun = at - timedelta(milliseconds=took) if isinstance(took, int) and took < 10**10 else at
    message = read_message(row.get("request_body"))
    if not sent:
        text = _said(Reply(text=message.text or str(row.get("summary") or ""), files=message.files))
        yield Line(at=begun, who=_there(source, own), text=text)
    if row.get("response_body") is None and row.get("status") != "error":
        return
    answer = read_answer(row.get("response_body"))
    if row.get("error_detail"):
        answer = Failure(message=str(row["error_detail"]))
    if isinstance(answer, Reply):
        text = _said(answer)
    else:
        text = f"failed: {console.one_line(getattr(answer, 'message', '') or str(row.get('status')))}"
    duration = f"  ({took} ms)" if isinstance(took, int) else ""
    yield Line(at=at, who=_back(source, own), text=f"{text}{duration}")


def _sender(row: Row, name: Name) -> str:
    if row.get("source_id") is not None:
        return name(row["source_id"])
    return PLATFORM if read_message(row.get("request_body")).metadata.get("source") == "platform" else PERSON


def _result(row: Row) -> str:
    body = row.get("response_body")
    return console.one_line(str(cast("Row", body).get("text") or "")) if isinstance(body, dict) else ""


def _said(said: Reply) -> str:
    files = "".join(f" [file {file.name or file.uri}]" for file in said.files)
    return console.one_line(f"{said.text}{files}") or "(no text)"


def _there(source: str, target: str) -> str:
    return f"{console.cut(source, _MAX_NAME)} → {console.cut(target, _MAX_NAME)}"


def _back(source: str, target: str) -> str:
    return f"{console.cut(source, _MAX_NAME)} ← {console.cut(target, _MAX_NAME)}"
