"""The keys of the ledger: the one that signs, and the older ones that still verify.

A key file holds one key a line, the newest first; a line `salt:<secret>` is a former `AUDIT_LEDGER_SALT`. Every record names its
key by an id that says nothing about the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from molecule_runtime.core.secretfile import MAX_SECRET_BYTES, write_private
from molecule_runtime.tools.errors import LedgerKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SALT: Final = b"molecule-audit-ledger-v1"
_ITERATIONS: Final = 210_000
"""Contract `workspace-host.md` 20: both may never change once records exist."""

_MIN_CHARS: Final = 32
"""Of a key that is used as it stands; a salt goes through PBKDF2 and may be shorter."""

_SALT_PREFIX: Final = "salt:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key and the id that records name it by."""

    id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The key that signs now, and all that verify, by id."""

    current: Key
    known: Mapping[str, Key]


def open_ring(file: Path, *, salt: str = "", create: bool) -> KeyRing:
    """Return the keys of a salt and a file; with `create`, make the file when there is neither.

    Blocking: a salt costs about a tenth of a second.

    Raises:
        LedgerKeyError: there is no key, or the file cannot be used.
    """
    keys = [_derived(salt)] if salt else []
    keys += _read(file)
    if not keys and create:
        keys = _first(file)
    if not keys:
        raise LedgerKeyError(f"the audit ledger has no key: there is no {file} and AUDIT_LEDGER_SALT is not set")
    return KeyRing(current=keys[0], known={key.id: key for key in keys})


def rotate(file: Path, *, salt: str = "") -> KeyRing:
    """Put a new key in front of those of the file; the others go on verifying.

    Processes that run take it up when they next open the ledger.

    Raises:
        LedgerKeyError: a salt is set, which would go on signing, or the file cannot be used.
    """
    if salt:
        raise LedgerKeyError(
            f"AUDIT_LEDGER_SALT signs: to rotate it, write the old one into {file} as a line salt:<old> and set the new one"
        )
    lines = [_new_secret(), *_lines(file)]
    try:
        write_private(file, "\n".join(lines) + "\n")
    except OSError as exc:
        raise LedgerKeyError(f"the key file {file} cannot be written: {exc.strerror or exc}") from exc
    return open_ring(file, create=False)


def _first(file: Path) -> list[Key]:
    """Make the file, or take that of a process that was faster: a key that signed something must never be replaced."""
    fresh = file.with_name(f".{file.name}.{os.urandom(8).hex()}")
    try:
        write_private(fresh, _new_secret() + "\n")
        try:
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(fresh)
        finally:
            fresh.unlink()
    except OSError as exc:
        raise LedgerKeyError(
            f"the key file {file} cannot be made: {exc.strerror or exc}; name one in AUDIT_LEDGER_KEY_FILE"
        ) from exc
    return _read(file)


def _new_secret() -> str:
    return secrets.token_hex(32)


def _read(file: Path) -> list[Key]:
    keys: list[Key] = []
    for number, line in enumerate(_lines(file), 1):
        if line.startswith(_SALT_PREFIX):
            keys.append(_derived(line.removeprefix(_SALT_PREFIX)))
        elif len(line) >= _MIN_CHARS:
            keys.append(_named(line.encode()))
        else:
            raise LedgerKeyError(
                f"{file}, key {number}: a key has at least {_MIN_CHARS} characters (or begins with salt:)"
            )
    return keys


def _lines(file: Path) -> list[str]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise LedgerKeyError(f"the key file {file} cannot be read: {exc.strerror or exc}") from exc
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise LedgerKeyError(f"the key file {file} is not a regular file")
        if status.st_mode & 0o077:
            raise LedgerKeyError(f"the key file {file} can be read by others; chmod 600 it")
        data = handle.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise LedgerKeyError(f"the key file {file} is larger than 64 KiB")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise LedgerKeyError(f"the key file {file} is not UTF-8 text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _derived(salt: str) -> Key:
    return _named(hashlib.pbkdf2_hmac("sha256", salt.encode(), _SALT, _ITERATIONS, 32))


def _named(secret: bytes) -> Key:
    return Key(id=hashlib.sha256(b"molecule-audit-key-id-v1\n" + secret).hexdigest()[:16], secret=secret)
