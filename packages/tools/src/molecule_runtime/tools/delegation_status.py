"""Says how delegations stand: what the platform shows, and what only this workspace's journal knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from molecule_runtime.core import envelope, untrusted
from molecule_runtime.tools import delegation_records as records
from molecule_runtime.tools.delegation_watch import Seen, folded
from molecule_runtime.tools.journal import Owner
from molecule_runtime.tools.result import bounded

if TYPE_CHECKING:
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.registry.arguments import CheckTaskStatus
    from molecule_runtime.tools.context import Call

MAX_LISTED: Final = 10
"""Contract `runtime.md` 6.5."""

MAX_PREVIEW_BYTES: Final = 1024
"""The platform cuts a preview at 300 (contract `platform-api.md` 6.2)."""

_COLLECTED: Final = "you got this answer before: do not act on it a second time"
_UNKNOWN: Final = (
    "the process that sent it ended, or nobody knows whether it arrived: the peer may be at work on it. The same call again within the"
    " hour counts as the same delegation, not as a second one"
)
_ENDED: Final = "it has ended: check_task_status with this delegation_id as task_id returns the answer"
_WAITS: Final = "the peer reads its inbox; its answer may also come as a message"


async def status_of(call: Call[CheckTaskStatus], delegation_id: str) -> dict[str, Any]:
    """Return one delegation with its whole answer; whoever asks first for an answer has it as new."""
    client, journal = call.client, call.context.journal
    owner = Owner.of(client)
    entry = await journal.run(lambda db: records.find(db, owner, delegation_id))
    watch = call.context.delegations
    queue_id = entry.queue_id if entry is not None else ""
    target_id = entry.target_id if entry is not None else ""
    if entry is not None and entry.answer is not None and entry.claimed is None:
        # It came to this process, or another of this workspace, after its call had returned.
        seen = Seen(answer=_kept(entry))
    else:
        seen = await watch.look(client, delegation_id, target_id, queue_id)
    answer = seen.answer
    if answer is None and entry is not None and seen.row is None and entry.state == "queued" and not queue_id:
        answer = await watch.reply_to(client, delegation_id, target_id)
    if answer is None and entry is not None and entry.answer is not None:
        answer = _kept(entry)
    if seen.row is None and entry is None and answer is None:
        return {"status": "not_found", "delegation_id": delegation_id}
    data = _row_json(seen.row) if seen.row is not None else {}
    if entry is not None:
        data = {**_entry_json(entry, abandoned=journal.is_abandoned(entry.owner)), **data}
    data = {"delegation_id": delegation_id, **data}
    if answer is None:
        return data
    target_id = target_id or str(data.get("target_id") or "")
    state, text = _ended(answer)
    taken = await journal.run(
        lambda db: records.claim(db, journal, owner, delegation_id, state=state, answer=text, target_id=target_id)
    )
    data.pop("note", None)
    data |= {"status": state, **_answer_json(answer, target_id)}
    if taken is not None:
        data |= {"already_collected": _moment(taken), "note": _COLLECTED}
    return data


async def listed(call: Call[CheckTaskStatus]) -> dict[str, Any]:
    """Return the newest delegations: those on the platform's books, and those that only the journal knows."""
    client, journal = call.client, call.context.journal
    rows = folded(await call.context.delegations.rows(client))
    entries = await journal.run(lambda db: records.newest(db, Owner.of(client), MAX_LISTED))
    found = [
        {"delegation_id": entry.delegation_id, **_entry_json(entry, abandoned=journal.is_abandoned(entry.owner))}
        for entry in entries
        if entry.delegation_id not in rows
    ]
    found += [_row_json(row) for row in rows.values()]
    return {"delegations": found[:MAX_LISTED], "count": min(len(found), MAX_LISTED)}


def _ended(answer: envelope.Reply | envelope.Failure) -> tuple[Literal["completed", "failed"], str]:
    return ("completed", answer.text) if isinstance(answer, envelope.Reply) else ("failed", answer.message)


def _kept(entry: records.Entry) -> envelope.Reply | envelope.Failure:
    text = entry.answer or ""
    return envelope.Failure(message=text) if entry.state == "failed" else envelope.Reply(text=text)


def _answer_json(answer: envelope.Reply | envelope.Failure, target_id: str) -> dict[str, Any]:
    """Return the answer with every word of the peer inside a boundary: the beginning, and the whole where that is more."""
    state, text = _ended(answer)
    text = text or "(no response)"
    if state == "failed":
        return {"error": untrusted.wrap(bounded(text, MAX_PREVIEW_BYTES), source="peer", workspace_id=target_id)}
    whole, preview = bounded(text), bounded(text, MAX_PREVIEW_BYTES)
    data = {"response_preview": untrusted.wrap(preview, source="peer", workspace_id=target_id)}
    if whole != preview:
        data["response"] = untrusted.wrap(whole, source="peer", workspace_id=target_id)
    return data


def _entry_json(entry: records.Entry, *, abandoned: bool) -> dict[str, Any]:
    """Return what the journal says of a delegation."""
    data = {
        "target_id": entry.target_id,
        "status": entry.state,
        "summary": entry.summary,
        "created_at": _moment(entry.created),
    }
    match entry.state:
        case "unknown":
            data["note"] = _UNKNOWN
        case "begun":
            data |= {"status": "unknown", "note": _UNKNOWN} if abandoned else {"status": "in_progress"}
        case "completed" | "failed" if entry.answer is not None:
            data["note"] = _ENDED
        case "queued" if not entry.queue_id:
            data["note"] = _WAITS
        case _:
            pass
    return {key: value for key, value in data.items() if value}


def _row_json(row: wire.Delegation) -> dict[str, Any]:
    data = row.model_dump(
        mode="json",
        exclude_none=True,
        include={"delegation_id", "source_id", "target_id", "status", "summary", "created_at", "updated_at", "error"},
    )
    # A queued row's preview is the platform's own acknowledgement, never an answer (contract `platform-api.md` 6.2).
    if row.response_preview and row.status == "completed":
        preview = bounded(row.response_preview, MAX_PREVIEW_BYTES)
        data["response_preview"] = untrusted.wrap(preview, source="peer", workspace_id=row.target_id)
    return data


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
