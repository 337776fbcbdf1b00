"""What passes through the proxy: a message in its full form, and how it fared (contract 5.1, 5.4)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, cast

from molecule_runtime.core import envelope as a2a
from molecule_runtime.core.platform.client import MAX_RESPONSE_BYTES
from molecule_runtime.localplatform import web
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

UNREACHABLE = "failed to reach workspace agent"
BUSY_RETRY_SECONDS = 30

_STOPPING_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message in its JSON-RPC form, and what the platform reads from it."""

    body: dict[str, Any] = field(repr=False)
    method: str
    message_id: str | None
    text: str = field(repr=False)
    delegation_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a message fared.

    Attributes:
        kind: `answered` by the agent (2xx), `failed`, `queued` for a busy target, `polled`: left in the target's inbox, `busy`: not queued
            because it came from the queue.
        status: the HTTP status for the sender.
        body: the JSON for the sender.
        error: why it failed, for people.
        reached: whether the message may have arrived although it failed.
    """

    kind: Literal["answered", "failed", "queued", "polled", "busy"]
    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    error: str = ""
    reached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What came of one HTTP request to an agent."""

    kind: Literal["response", "busy", "unreachable", "lost", "oversize"]
    status: int = 0
    body: bytes = field(default=b"", repr=False)
    retry_after: str = ""
    detail: str = ""


def read_envelope(data: object) -> Envelope:
    """Bring a message into its full form: a bare `{method, params}` is wrapped and a missing `messageId` is added (5.1).

    Raises:
        Refusal: 400 when it is not a JSON object.
    """
    if not isinstance(data, dict):
        raise Refusal(400, "invalid JSON")
    body = dict(cast("dict[str, Any]", data))
    if "jsonrpc" not in body:
        body = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), **body}
    params = body.get("params")
    message: dict[str, Any] = {}
    if isinstance(params, dict) and isinstance(cast("dict[str, Any]", params).get("message"), dict):
        message = dict(cast("dict[str, Any]", params["message"]))
        if not message.get("messageId"):
            message["messageId"] = str(uuid.uuid4())
        body["params"] = {**cast("dict[str, Any]", params), "message": message}
    method = body.get("method")
    message_id = message.get("messageId")
    inbound = a2a.read_message(body)
    delegation_id = inbound.metadata.get("delegation_id")
    return Envelope(
        body=body,
        method=method if isinstance(method, str) else "",
        message_id=message_id if isinstance(message_id, str) else None,
        text=inbound.text,
        delegation_id=delegation_id if isinstance(delegation_id, str) and delegation_id else None,
    )


def outcome_of(exchange: Exchange) -> tuple[Outcome, Any]:
    """Return what the sender gets (contract 5.4) and the agent's body, read as JSON."""
    confirmed = 200 <= exchange.status < 400
    if exchange.kind == "unreachable":
        return failed(502, UNREACHABLE, reached=False), None
    if exchange.kind == "lost":
        return failed(502, "failed to read agent response", delivery_confirmed=confirmed), None
    if exchange.kind == "oversize":
        return failed(
            502,
            "agent response too large",
            truncated=True,
            max_bytes=MAX_RESPONSE_BYTES,
            delivery_confirmed=confirmed,
        ), None
    try:
        parsed = web.parse(exchange.body)
    except ValueError:
        parsed = None
    if exchange.status >= 300 or exchange.status < 200:
        error = _upstream_error(parsed) or _phrase(exchange.status)
        headers = {"Retry-After": exchange.retry_after} if exchange.retry_after.isdecimal() else {}
        body = web.dump({"error": error})
        return Outcome(
            kind="failed", status=max(exchange.status, 300), body=body, headers=headers, error=error, reached=True
        ), parsed
    if not exchange.body.strip():
        return failed(502, "workspace agent returned empty response", delivery_confirmed=True), None
    if parsed is None:
        return failed(502, "workspace agent returned something that is not JSON", delivery_confirmed=True), None
    return Outcome(kind="answered", status=exchange.status, body=exchange.body, reached=True), parsed


def failed(status: int, error: str, *, reached: bool = True, **fields: object) -> Outcome:
    """Return a failure with this answer for the sender."""
    body = web.dump({"error": error, **fields})
    return Outcome(kind="failed", status=status, body=body, error=error, reached=reached)


def busy(reason: str, **fields: object) -> Outcome:
    """Return that the agent is busy and the message was not queued."""
    error = f"workspace agent is busy: {reason}"
    body = web.dump({"error": error, "busy": True, "retry_after": BUSY_RETRY_SECONDS, **fields})
    headers = {"Retry-After": str(BUSY_RETRY_SECONDS)}
    return Outcome(kind="failed", status=503, body=body, headers=headers, error=error)


def stopping() -> Outcome:
    """Return that the platform ends before the answer came."""
    # Not `restarting`: that would say that the message was never delivered.
    error = "the platform is stopping; the agent may still finish this turn"
    body = web.dump({"error": error, "retry_after": _STOPPING_RETRY_SECONDS})
    headers = {"Retry-After": str(_STOPPING_RETRY_SECONDS)}
    return Outcome(kind="failed", status=503, body=body, headers=headers, error=error, reached=True)


def _upstream_error(parsed: Any) -> str:
    if not isinstance(parsed, dict):
        return ""
    error = cast("dict[str, Any]", parsed).get("error")
    if isinstance(error, dict):
        error = cast("dict[str, Any]", error).get("message")
    return error if isinstance(error, str) else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"


def tool_trace_of(parsed: Any) -> Any:
    """Return the tool trace of an answer (5.5), or None."""
    node = parsed
    for key in ("result", "metadata", "tool_trace"):
        node = cast("dict[str, Any]", node).get(key) if isinstance(node, dict) else None
    return node
