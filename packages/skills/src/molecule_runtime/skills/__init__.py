"""Agent Skills for molecule-runtime workspaces: discovery and hot reload."""

from __future__ import annotations

from molecule_runtime.skills.errors import SkillError, SkillFormatError, SkillsError, SkillUnreadableError
from molecule_runtime.skills.loader import Discovery, Skill, discover, read_skill
from molecule_runtime.skills.watcher import watch

__all__ = [
    "Discovery",
    "Skill",
    "SkillError",
    "SkillFormatError",
    "SkillUnreadableError",
    "SkillsError",
    "discover",
    "read_skill",
    "watch",
]
