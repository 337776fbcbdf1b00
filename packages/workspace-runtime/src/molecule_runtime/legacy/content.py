"""What a model is given of a message with files, in the shape of OpenAI: images as they are, of others where they lie."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["build_user_content_with_files", "with_list"]

MAX_IMAGE_BYTES = 8 * 1024 * 1024
"""Of one image within a message (contract `workspace-host.md` 10)."""

MAX_IMAGES_BYTES = 32 * 1024 * 1024
"""Of all images of a message, since they are in memory at once."""


def build_user_content_with_files(text: str, attached: Sequence[Mapping[str, str]]) -> str | list[dict[str, Any]]:
    """Return the content of a user's message: text, or blocks where an image comes along. Reads the disk.

    Args:
        text: what the user said.
        attached: as `extract_attached_files` returns them.
    """
    if not attached:
        return text
    said = with_list(text, attached)
    images: list[dict[str, Any]] = []
    left = 0 if env.MOLECULE_DISABLE_IMAGE_INLINING.flag() else MAX_IMAGES_BYTES
    for file in attached:
        data = _image(file, min(left, MAX_IMAGE_BYTES))
        if data:
            left -= len(data)
            url = f"data:{file['mime_type']};base64,{base64.b64encode(data).decode()}"
            images.append({"type": "image_url", "image_url": {"url": url}})
    return [{"type": "text", "text": said}, *images] if images else said


def with_list(text: str, attached: Sequence[Mapping[str, str]]) -> str:
    """Return a text and, after it, the files that came with it and where they lie."""
    lines = [f"- {file['name']} ({file['mime_type']}): {file['path']}" for file in attached]
    return "\n".join([text, "", "Attached files:", *lines]).strip() if lines else text


def _image(file: Mapping[str, str], most: int) -> bytes:
    """Return the content of an image, or nothing for another file, a larger one and one that is gone."""
    if most <= 0 or not file["mime_type"].startswith("image/"):
        return b""
    try:
        with Path(file["path"]).open("rb") as handle:
            data = handle.read(most + 1)
    except OSError:
        return b""
    return data if len(data) <= most else b""
