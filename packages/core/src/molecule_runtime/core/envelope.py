"""The one builder of outbound A2A messages and the one reader of whatever comes back.

The platform speaks the A2A 0.3 wire shape: `message/send` with `kind`-keyed parts (contract `platform-api.md` 5.7). Replies are read
in the 0.3 and the 1.0 shapes, as a Message or a Task, and so are the platform's own acknowledgements (24.5) and errors.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

Json: TypeAlias = Mapping[str, Any]

_FAILED_STATES = {"failed", "rejected", "canceled", "cancelled"}
_AGENT_ERROR_PREFIX = "Agent error"
_MAX_REFERENCES = 64
_MAX_WRAPPERS = 4
"""How deep a result may be wrapped in `task` or `message`; one is documented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a message refers to."""

    uri: str
    name: str = ""
    mime_type: str = ""
    size: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an agent answered.

    Attributes:
        text: every text part, joined with newlines; `""` when there is none.
        files: every file part.
        state: the task state (`completed`, `input-required`, …) or `message` for a plain Message.
    """

    text: str
    files: tuple[File, ...] = ()
    state: str = "message"
    task_id: str = ""
    context_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The message was stored for later; this is never an answer (contract `platform-api.md` 23.2).

    Attributes:
        mode: `poll` (the target reads its inbox), `push-async` (a human's long turn) or `busy` (queued for a busy target).
        queue_id: of a busy target's queue row, where stated.
    """

    mode: str
    method: str = ""
    queue_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The agent or the platform answered with an error.

    Attributes:
        message: for people; untrusted when an agent wrote it.
        code: the JSON-RPC error code, where there is one.
    """

    message: str
    code: int | None = None


Answer: TypeAlias = Reply | Accepted | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """A message that arrived: its text and files, and what the sender says about itself."""

    text: str
    files: tuple[File, ...] = ()
    message_id: str = ""
    context_id: str = ""
    task_id: str = ""
    reference_task_ids: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def refers_to(self, identifier: str) -> bool:
        """Tell whether the sender says that this belongs to something: as its task, its conversation, a reference, or in its metadata."""
        named = (self.task_id, self.context_id, *self.reference_task_ids)
        return identifier in named or any(
            identifier in cast("list[object]", value) if isinstance(value, list) else value == identifier
            for value in self.metadata.values()
        )


def message_send(
    text: str,
    *,
    message_id: str | None = None,
    context_id: str | None = None,
    files: Sequence[File] = (),
    metadata: Json | None = None,
    role: Literal["user", "agent"] = "user",
) -> dict[str, Any]:
    """Build a JSON-RPC `message/send` request. The message id is also the JSON-RPC id, so a retry is recognisable."""
    identifier = message_id or str(uuid.uuid4())
    parts: list[dict[str, Any]] = [{"kind": "text", "text": text}]
    parts += [{"kind": "file", "file": _file_json(file)} for file in files]
    message: dict[str, Any] = {"kind": "message", "role": role, "messageId": identifier, "parts": parts}
    if context_id:
        message["contextId"] = context_id
    if metadata:
        message["metadata"] = dict(metadata)
    return {"jsonrpc": "2.0", "id": identifier, "method": "message/send", "params": {"message": message}}


def read_answer(body: object) -> Answer:
    """Read any documented answer to a `message/send`. Never raises: what cannot be read is a `Failure` that says so."""
    if not isinstance(body, Mapping):
        return Failure(message=f"the answer is not a JSON object but {type(body).__name__}")
    data = cast("Json", body)
    if data.get("queued") is True:
        return Accepted(mode="busy", method=_text(data.get("method")), queue_id=_text(data.get("queue_id")))
    if data.get("status") == "queued":
        return Accepted(
            mode=_text(data.get("delivery_mode")) or "busy",
            method=_text(data.get("method")),
            queue_id=_text(data.get("queue_id")),
        )
    if data.get("error") is not None:
        return _read_error(data["error"])
    if "result" in data:
        return _read_result(data["result"])
    return Failure(message="the answer has neither 'result' nor 'error'")


def read_message(body: object) -> Inbound:
    """Read an inbound envelope, `params` or bare message, whose parts are keyed by `kind`, `type` or neither."""
    node: object = body
    for key in ("params", "message"):
        if isinstance(node, Mapping) and isinstance(cast("Json", node).get(key), Mapping):
            node = cast("Json", node)[key]
    if not isinstance(node, Mapping):
        return Inbound(text="")
    message = cast("Json", node)
    parts = _parts(message)
    metadata = message.get("metadata")
    return Inbound(
        text=_join(parts),
        files=_files(parts),
        message_id=_text(message.get("messageId")),
        context_id=_text(message.get("contextId")),
        task_id=_text(message.get("taskId")),
        reference_task_ids=tuple(_text(each) for each in cast("list[object]", references)[:_MAX_REFERENCES])
        if isinstance(references := message.get("referenceTaskIds"), list)
        else (),
        metadata=cast("Json", metadata) if isinstance(metadata, Mapping) else {},
    )


def _read_error(error: object) -> Failure:
    if isinstance(error, Mapping):
        details = cast("Json", error)
        code = details.get("code")
        message = _text(details.get("message")) or "unknown error"
        data = details.get("data")
        if isinstance(data, str) and data and data != message:
            message = f"{message}: {data}"
        return Failure(message=message, code=code if isinstance(code, int) and not isinstance(code, bool) else None)
    return Failure(message=_text(error) or "unknown error")


def _read_result(result: object) -> Answer:
    if isinstance(result, str):
        return Reply(text=result)
    if not isinstance(result, Mapping):
        return Failure(message=f"the result is not an object but {type(result).__name__}")
    data = cast("Json", result)
    # 1.0 wraps: {"task": {...}} or {"message": {...}}; some agents wrap a 0.3 message the same way.
    for _ in range(_MAX_WRAPPERS):
        inner = next((data[key] for key in ("task", "message") if isinstance(data.get(key), Mapping)), None)
        if inner is None:
            break
        data = cast("Json", inner)
    if isinstance(data.get("status"), Mapping) or "artifacts" in data:
        return _read_task(data)
    parts = _parts(data)
    text = _join(parts)
    if text.startswith(_AGENT_ERROR_PREFIX):
        return Failure(message=text)
    return Reply(
        text=text, files=_files(parts), task_id=_text(data.get("taskId")), context_id=_text(data.get("contextId"))
    )


def _read_task(task: Json) -> Answer:
    status: Json = cast("Json", task["status"]) if isinstance(task.get("status"), Mapping) else {}
    state = _text(status.get("state")).removeprefix("TASK_STATE_").lower().replace("_", "-")
    artifacts = task.get("artifacts")
    parts: list[Json] = []
    if isinstance(artifacts, Sequence) and not isinstance(artifacts, str):
        for artifact in cast("Sequence[object]", artifacts):
            if isinstance(artifact, Mapping):
                parts += _parts(cast("Json", artifact))
    said = status.get("message")
    status_parts = _parts(cast("Json", said)) if isinstance(said, Mapping) else []
    # An agent that streams artifacts repeats the whole text in its final status; one that does not has only the status.
    text = _join(parts) or _join(status_parts)
    if state in _FAILED_STATES:
        return Failure(message=_join(status_parts) or text or f"the task ended as {state}")
    return Reply(
        text=text,
        files=_files([*parts, *status_parts]),
        state=state or "completed",
        task_id=_text(task.get("id")),
        context_id=_text(task.get("contextId")),
    )


def _parts(node: Json) -> list[Json]:
    parts = node.get("parts")
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        return []
    return [cast("Json", part) for part in cast("Sequence[object]", parts) if isinstance(part, Mapping)]


def _join(parts: Sequence[Json]) -> str:
    texts: list[str] = []
    for part in parts:
        text = part.get("text")
        if (part.get("kind") or part.get("type") or "text") == "text" and isinstance(text, str):
            texts.append(text)
    return "\n".join(texts)


def _files(parts: Sequence[Json]) -> tuple[File, ...]:
    files: list[File] = []
    for part in parts:
        inner = part.get("file")
        node = cast("Json", inner) if isinstance(inner, Mapping) else part
        uri = _text(node.get("uri") or node.get("url"))
        if not uri:
            continue
        size = node.get("size")
        files.append(
            File(
                uri=uri,
                name=_text(node.get("name") or node.get("filename")),
                mime_type=_text(node.get("mimeType") or node.get("mime_type") or node.get("mediaType")),
                size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
            )
        )
    return tuple(files)


def _file_json(file: File) -> dict[str, Any]:
    data: dict[str, Any] = {"uri": file.uri}
    if file.name:
        data["name"] = file.name
    if file.mime_type:
        data["mimeType"] = file.mime_type
    if file.size is not None:
        data["size"] = file.size
    return data


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
