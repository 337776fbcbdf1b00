"""The predecessor's `initial_prompt`: where a workspace notes that its first prompt is done; the host does it by itself."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from molecule_runtime.a2a.folders import WORKSPACE
from molecule_runtime.a2a.initial_prompt import DONE, DONE_NAME
from molecule_runtime.core.secretfile import write_private

__all__ = ["mark_initial_prompt_attempted", "resolve_initial_prompt_marker"]

logger = logging.getLogger(__name__)


def resolve_initial_prompt_marker(config_path: str) -> str:
    """Return the marker's file: in the configuration's folder, or in the workspace where that cannot be written."""
    folder = config_path if os.access(config_path, os.W_OK) else WORKSPACE
    return str(Path(folder) / DONE_NAME)


def mark_initial_prompt_attempted(marker_path: str) -> bool:
    """Mark the prompt done; False, and a line in the log, when that cannot be written."""
    try:
        write_private(Path(marker_path), DONE)
    except OSError as exc:
        logger.warning("%s cannot be written: %s", marker_path, exc.strerror or exc)
        return False
    return True
