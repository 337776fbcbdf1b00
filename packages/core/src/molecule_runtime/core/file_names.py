"""Names and types of files that people and peers send, made safe for a disk."""

from __future__ import annotations

import mimetypes
import posixpath
import re
from typing import Final

MAX_NAME_LENGTH: Final = 100
"""Characters; contract `platform-api.md` 10.2, and `MAX_EXTENSION_LENGTH` too."""

MAX_EXTENSION_LENGTH: Final = 16

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_ANY: Final = "application/octet-stream"


def clean_name(name: str) -> str:
    """Return a file name as contract `platform-api.md` 10.2 has it: the base name, safe characters, at most 100 with the extension kept."""
    base = posixpath.basename(name.replace("\\", "/"))
    base = _UNSAFE.sub("_", base)
    if not base.strip("."):
        return "file"
    if len(base) <= MAX_NAME_LENGTH:
        return base
    stem, dot, extension = base.rpartition(".")
    if not dot or len(extension) >= MAX_EXTENSION_LENGTH:
        return base[:MAX_NAME_LENGTH]
    return f"{stem[: MAX_NAME_LENGTH - len(extension) - 1]}.{extension}"


def type_of(name: str, *stated: str) -> str:
    """Return the type of a file: the first that was stated and says something, else what its name says."""
    for each in stated:
        plain = each.partition(";")[0].strip().lower()
        if _TYPE.fullmatch(plain) and plain != _ANY:
            return plain
    return mimetypes.guess_type(name)[0] or _ANY
