"""A skill as adapters see it, whichever wheel found it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.adapter.tool import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillMetadata:
    """What the agent card and the prompt say about a skill."""

    id: str
    name: str
    description: str = ""
    tags: list[str] = field(default_factory=list[str])
    examples: list[str] = field(default_factory=list[str])
    runtime: list[str] = field(default_factory=lambda: ["*"])
    """The runtimes it is for; `*` is any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSkill:
    """One usable skill."""

    metadata: SkillMetadata
    instructions: str
    tools: list[Tool] = field(default_factory=list["Tool"])
    """Tools that the skill brings; the skills wheel reads skills and never runs them, so it leaves this empty."""
    path: Path | None = None
    """Its folder; the instructions refer to files relative to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSkills:
    """What a feature's `load_skills` returns: the usable ones, and one line for each that is not."""

    skills: list[LoadedSkill] = field(default_factory=list[LoadedSkill])
    problems: list[str] = field(default_factory=list[str])
