"""The predecessor's `skill_loader.loader`: skills are read by `molecule_runtime.skills`, and never run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from molecule_runtime.core.adapter import AdapterConfig
from molecule_runtime.core.adapter.skill import LoadedSkill, SkillMetadata
from molecule_runtime.skills import feature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["LoadedSkill", "SkillMetadata", "load_skills"]

logger = logging.getLogger(__name__)


def load_skills(
    config_path: str | Path, skill_names: Sequence[str], current_runtime: str | None = None
) -> list[LoadedSkill]:
    """Return the named skills of `<config_path>/skills`, those of other runtimes left out; the log names what cannot be used."""
    config = AdapterConfig(model="", config_path=str(config_path), tools=list(skill_names))
    found = feature.load_skills(config, runtime=current_runtime or "*")
    for problem in found.problems:
        logger.warning("%s", problem)
    return found.skills
