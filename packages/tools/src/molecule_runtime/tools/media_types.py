"""The media type of a file: what its first bytes say, and its name only where they leave it open."""

from __future__ import annotations

import mimetypes
from typing import Final

HEAD_BYTES: Final = 64 * 1024
"""Of a file that are looked at."""

UNKNOWN: Final = "application/octet-stream"

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"\x00asm", "application/wasm"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS: Final = {b"avif": "image/avif", b"heic": "image/heic", b"M4A ": "audio/mp4", b"qt  ": "video/quicktime"}

# Formats whose files are archives, or share a container, by their names.
_CONTAINED: Final = {
    "application/zip": ("application/vnd.", "application/epub", "application/java-archive", "application/x-wheel"),
    "application/gzip": ("application/x-tar",),
    "audio/ogg": ("video/ogg", "audio/opus"),
    "video/webm": ("video/x-matroska", "audio/webm"),
}
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/javascript", "image/svg+xml")
_MORE_TEXT: Final = (
    "application/yaml",
    "application/toml",
    "application/sql",
    "application/x-sh",
    "application/x-yaml",
)


def media_type_of(name: str, head: bytes) -> str:
    """Return the media type of a file from its first `HEAD_BYTES`.

    A name may say more than the content does (a spreadsheet is an archive, CSV is text), but never something else: a page that is
    called `photo.png` is text.
    """
    named = mimetypes.guess_type(name)[0] or ""
    found = _by_magic(head)
    if found is not None:
        return named if named and named.startswith(_CONTAINED.get(found, (found,))) else found
    if _is_text(head):
        return named if named.startswith((*_TEXT_TYPES, *_MORE_TEXT)) else "text/plain"
    # Not text, and none that the table knows: its name is believed unless the table would have known it.
    known = {kind for _, kind in _MAGIC} | {*_RIFF.values(), *_BRANDS.values()}
    return named if named and named not in known and not named.startswith(_TEXT_TYPES) else UNKNOWN


def _by_magic(head: bytes) -> str | None:
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[257:262] == b"ustar":
        return "application/x-tar"
    if head[:2] in {b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"}:
        return "audio/mpeg"
    return next(
        (kind for magic, kind in _MAGIC if head.startswith(magic) and not (len(magic) == 2 and _is_text(head))), None
    )


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as exc:
        # The last character may be cut.
        return len(head) >= HEAD_BYTES and exc.start > len(head) - 4
    return True
