"""The errors of molecule-runtime-skills.

    SkillsError (MoleculeError)
    └── SkillError                one skill cannot be used: `skill`, `path` and `reason` say which, where and why
        ├── SkillUnreadableError  its SKILL.md cannot be read: permissions, size, not UTF-8
        └── SkillFormatError      its frontmatter breaks the Agent Skills format

Discovery collects a `SkillError` for each bad skill instead of raising it, so one bad skill never hides the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.errors import MoleculeError

if TYPE_CHECKING:
    from pathlib import Path


class SkillsError(MoleculeError):
    """Base of every error of this distribution."""


class SkillError(SkillsError):
    """One skill cannot be used.

    Attributes:
        skill: the name of its folder.
        path: its `SKILL.md`.
        reason: what is wrong and what would be right.
    """

    def __init__(self, skill: str, path: Path, reason: str) -> None:
        super().__init__(f"skill {skill!r} was skipped: {path}: {reason}")
        self.skill = skill
        self.path = path
        self.reason = reason


class SkillUnreadableError(SkillError):
    """The `SKILL.md` cannot be read."""


class SkillFormatError(SkillError):
    """The frontmatter of the `SKILL.md` breaks the Agent Skills format."""
