"""The files that an agent reads about itself: its memory and its persona."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

PERSONA_FILE = "system-prompt.md"
"""Contract `consumers.md` 1.9: where the default adapter keeps its persona."""

MAX_PROMPT_BYTES = 1024 * 1024
"""A larger prompt file is refused: nobody means to put a megabyte into every turn."""

_WRITTEN_BY_US = "<!-- written by molecule-runtime from prompt_files; edit those instead -->\n\n"


def inside(folder: str | Path, name: str) -> Path:
    """Return the path of `name` in `folder`.

    Raises:
        ConfigurationError: it is empty, absolute, or leads out of the folder, also through a symbolic link.
    """
    root = Path(folder)
    candidate = Path(name)
    if not name.strip() or "\x00" in name or candidate.is_absolute() or ".." in candidate.parts:
        raise ConfigurationError(f"{name!r} must name a file inside {root}, without '..'")
    path = root / candidate
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigurationError(f"{name!r} leads out of {root} through a symbolic link")
    return path


def append_once(folder: str, filename: str, content: str) -> None:
    """Append `content` to a file unless its first line occurs there already."""
    path = inside(folder, filename)
    first = content.strip().partition("\n")[0].strip()
    if not first:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    present = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if first in present:
        return
    separator = "" if not present or present.endswith("\n\n") else "\n" if present.endswith("\n") else "\n\n"
    with path.open("a", encoding="utf-8") as handle:
        handle.write(f"{separator}{content.strip()}\n")


def read_prompt_file(folder: str, name: str) -> str:
    """Return the stripped text of a prompt file.

    Raises:
        ConfigurationError: it leads out of the folder, cannot be read, is too large or is not UTF-8.
    """
    path = inside(folder, name)
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_PROMPT_BYTES + 1)
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror or type(exc).__name__}") from None
    if len(data) > MAX_PROMPT_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_PROMPT_BYTES} bytes")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path} is not UTF-8 text (byte {exc.start})") from None


def read_canonical_persona(config_path: str, prompt_files: Sequence[str] = ()) -> str:
    """Return the texts of the prompt files, in order, joined by a blank line; `system-prompt.md` when none is listed.

    A file that cannot be used is left out with a warning. `""` when nothing is left.
    """
    texts: list[str] = []
    for name in prompt_files or [PERSONA_FILE]:
        try:
            texts.append(read_prompt_file(config_path, name))
        except ConfigurationError as exc:
            logger.warning("prompt file left out: %s", exc)
    return "\n\n".join(text for text in texts if text)


def materialize_persona(config_path: str, prompt_files: Sequence[str] = ()) -> Path | None:
    """Write the persona to `system-prompt.md`, unless that is where it comes from or a person wrote that file."""
    try:
        persona = read_canonical_persona(config_path, prompt_files)
        if not persona:
            return None
        path = Path(config_path, PERSONA_FILE)
        if not prompt_files or PERSONA_FILE in prompt_files:
            return path
        content = f"{_WRITTEN_BY_US}{persona}\n"
        present = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
        if present == content:
            return path
        if present is not None and not present.startswith(_WRITTEN_BY_US):
            logger.warning("%s was written by hand and is kept; the persona of prompt_files is not in it", path)
            return None
        write_private(path, content)
    except OSError as exc:
        logger.warning("the persona could not be written: %s", exc.strerror or type(exc).__name__)
        return None
    return path
