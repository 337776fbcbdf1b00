"""What stands in the ledger: one record, its canonical form and its MAC (contract `workspace-host.md` 20)."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from molecule_runtime.tools.audit.keys import Key

MAX_CONTENT_CHARS: Final = 32 * 1024
"""Of the arguments and the answer of one call, where content is kept at all."""

OPEN: Final = "ledger_open"
"""The operation of a segment's first record."""

SEAL: Final = "ledger_seal"
"""The operation of the last record of a segment that is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, before it has a place in the chain.

    Attributes:
        agent_id: the workspace that acted.
        session_id: the task, or the life of the process where no task is known.
        operation: `task_start`, `llm_call`, `tool_call` or `task_end`.
        model_used: the model's or the tool's name.
        outcome: `success`, or why not: `permission_denied`, `timeout`, `cancelled`, ...
        input_hash: SHA-256 of what went in, in hex.
        output_hash: SHA-256 of what came out, in hex.
        human_oversight_flag: a person decides or is told.
        risk_flag: it had others do something, ran code, or was refused for want of a permission.
        trace_id: of the OpenTelemetry trace, in hex; `""` without one.
        content: what went in and came out, redacted; None unless somebody asked for it.
    """

    agent_id: str
    operation: str
    session_id: str = ""
    model_used: str = ""
    outcome: str = "success"
    input_hash: str | None = None
    output_hash: str | None = None
    human_oversight_flag: bool = False
    risk_flag: bool = False
    trace_id: str = ""
    content: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Event):
    """An event in the chain.

    Attributes:
        seq: its number in the whole ledger, from 1, without gaps.
        id: a random UUID.
        timestamp: RFC 3339 in UTC, exactly as it was signed.
        key_id: which key signed it.
        prev_hmac: the MAC of the record before it; None for the first of all.
        hmac: HMAC-SHA256 of everything else, in hex.
    """

    seq: int
    id: str
    timestamp: str
    key_id: str
    prev_hmac: str | None = None
    hmac: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return every field, as a row of the database and a line of an export have them."""
        # Not asdict, which copies each text and costs more than to sign and to write the record.
        return {name: getattr(self, name) for name in COLUMNS}

    def mac(self, key: Key) -> str:
        """Return what `hmac` must be."""
        return mac_of(self.to_json(), key)


COLUMNS: Final = tuple(field.name for field in fields(Record))
_SIGNED: Final = tuple(sorted(set(COLUMNS) - {"hmac"}))
_FLAGS: Final = ("human_oversight_flag", "risk_flag")


def read_record(row: Mapping[str, Any]) -> Record:
    """Return a record from a row of the database or a line of an export.

    Raises:
        ValueError: a field is missing or unknown, or no text where text is due.
    """
    unknown = set(row) - set(COLUMNS)
    missing = set(COLUMNS) - set(row)
    if unknown or missing:
        raise ValueError(f"not a record of the ledger: missing {sorted(missing)}, unknown {sorted(unknown)}")
    values = {name: row[name] for name in COLUMNS}
    if not isinstance(values["seq"], int) or isinstance(values["seq"], bool):
        raise ValueError("seq is not a whole number")  # noqa: TRY004 - of a file, not of a caller
    for name in COLUMNS:
        if name in _FLAGS:
            values[name] = bool(values[name])
        elif name != "seq" and values[name] is not None and not isinstance(values[name], str):
            raise ValueError(f"{name} is not text")
    return Record(**values)


_quoted: Final = json.JSONEncoder().encode


def mac_of(row: Mapping[str, Any], key: Key) -> str:
    """Return the MAC of a record, as an object: of all of it but `hmac`, in the canonical form."""
    return sign(key, "entry", canonical_json(row, _SIGNED))


def canonical_json(body: Mapping[str, str | int | None], names: Iterable[str] | None = None) -> bytes:
    """Return the one form of a flat object: sorted keys, no spaces, ASCII with JSON escapes.

    It is what `json.dumps(body, sort_keys=True, separators=(",", ":"))` makes, in half of its time; each call of a tool waits for two.

    Args:
        body: the object.
        names: of those of its fields that count, sorted; None for all.
    """
    members = [f'"{name}":{_canonical(body[name])}' for name in names or sorted(body)]
    return f"{{{','.join(members)}}}".encode("ascii")


def _canonical(value: str | int | None) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def sign(key: Key, purpose: str, body: bytes) -> str:
    """Return the MAC of `body` in hex. The purpose keeps a head from passing as a checkpoint, and either as a record."""
    return hmac.digest(key.secret, f"molecule-audit-{purpose}-v1\n".encode() + body, "sha256").hex()


def same(left: str, right: str) -> bool:
    """Compare two MACs in constant time; a MAC that is no ASCII is no MAC."""
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def hash_content(content: object) -> str | None:
    """Return the SHA-256 of a text, or of the canonical form of anything else; None for None."""
    if content is None:
        return None
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
