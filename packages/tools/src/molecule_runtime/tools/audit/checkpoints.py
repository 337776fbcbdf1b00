"""Signed statements of how far the ledger had come, kept beside it and, by choice, with the platform.

A ledger that lost its end is consistent in itself; only what was written down elsewhere shows that something is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from molecule_runtime.core.platform import wire
from molecule_runtime.tools.audit.records import canonical_json, same, sign

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.audit.keys import Key, KeyRing

METHOD: Final = "audit/checkpoint"
"""Of the platform's activity rows that hold a checkpoint."""

_MAX_LINE: Final = 4096
_TYPES: Final = {"seq": int, "head": str, "segment": int, "timestamp": str, "key_id": str, "signature": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Record `seq` existed at `timestamp`, with this MAC; signed.

    Attributes:
        head: the MAC of that record.
        segment: the file that it stands in.
    """

    seq: int
    head: str
    segment: int
    timestamp: str
    key_id: str
    signature: str = ""

    def signed(self, key: Key) -> Checkpoint:
        """Return it with its signature."""
        body = asdict(self)
        del body["signature"]
        return Checkpoint(**body, signature=sign(key, "checkpoint", canonical_json(body)))

    def is_signed_by(self, key: Key) -> bool:
        """Tell whether the signature is right."""
        return same(self.signature, self.signed(key).signature)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def file_of(ledger: Path) -> Path:
    """Return the file of a ledger's checkpoints."""
    return ledger.with_name(f"{ledger.stem}.checkpoints.jsonl")


def append(ledger: Path, checkpoint: Checkpoint) -> None:
    """Add a line to the file of checkpoints (0600), and bring it to the disk.

    Raises:
        OSError: it cannot be written.
    """
    line = canonical_json(checkpoint.to_json()) + b"\n"
    descriptor = os.open(file_of(ledger), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _mend(descriptor)
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend(descriptor: int) -> None:
    """Take away a last line that a power cut left unfinished: a line behind it would be read as its end."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another process, which adds a line now, has looked
    size = os.fstat(descriptor).st_size
    end = os.pread(descriptor, _MAX_LINE, max(0, size - _MAX_LINE))
    unfinished = len(end) - (end.rfind(b"\n") + 1)
    # More is no line of ours; whoever verifies is to see it.
    if 0 < unfinished < _MAX_LINE:
        os.ftruncate(descriptor, size - unfinished)


def read(file: Path) -> list[Checkpoint]:
    """Return the checkpoints of a file, none when there is no such file. A last line that a crash cut short does not count.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is not a checkpoint.
    """
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    found: list[Checkpoint] = []
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith(b"\n"):
            break
        try:
            found.append(parse(json.loads(line[:_MAX_LINE])))
        except ValueError as exc:
            raise ValueError(f"{file}, line {number}: not a checkpoint ({exc})") from None
    return found


def parse(body: object) -> Checkpoint:
    """Return a checkpoint from its JSON object.

    Raises:
        ValueError: it is none.
    """
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    if set(fields) != set(_TYPES):
        raise ValueError(f"it has {sorted(fields)} instead of {sorted(_TYPES)}")
    for name, kind in _TYPES.items():
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise ValueError(f"{name} is not {'a whole number' if kind is int else 'text'}")  # noqa: TRY004 - of a file
    return Checkpoint(**fields)


async def anchor(client: PlatformClient, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into the activity log of the platform, out of reach of whoever can write the ledger's files.

    Raises:
        PlatformError: it was not taken.
    """
    await client.log_activity(
        wire.ActivityRequest(
            activity_type="agent_log",
            method=METHOD,
            summary=f"Audit ledger: {checkpoint.seq} records",
            request_body=checkpoint.to_json(),
        )
    )


async def anchored(client: PlatformClient) -> list[Checkpoint]:
    """Return the checkpoints in the newest rows of the platform's activity log, which keeps them for its 7 days.

    Raises:
        PlatformError: the log cannot be read.
    """
    rows = await client.activity(type="agent_log", limit=500)
    found: list[Checkpoint] = []
    for row in rows:
        if row.method == METHOD:
            body: Mapping[str, Any] | Any = row.request_body
            try:
                found.append(parse(body))
            except ValueError:
                continue  # somebody else's row
    return found


def unknown_keys(checkpoints: Iterable[Checkpoint], keys: KeyRing) -> set[str]:
    """Return the ids of keys that signed checkpoints and are not on the ring."""
    return {checkpoint.key_id for checkpoint in checkpoints} - set(keys.known)
