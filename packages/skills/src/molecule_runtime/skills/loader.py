"""Finding and reading Agent Skills: folders with a `SKILL.md`.

A skill is read, never run: scripts beside the `SKILL.md` are files for the agent, and nothing here imports or executes them.
The format is that of agentskills.io, read leniently: unknown keys are kept, a missing frontmatter is allowed (the name is then
the folder's), and a `name` that differs from the folder is accepted, because skills in use have all three.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

import yaml

from molecule_runtime.skills.errors import SkillError, SkillFormatError, SkillUnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

SKILL_FILE: Final = "SKILL.md"
MAX_SKILL_BYTES: Final = 1_048_576
"""A larger `SKILL.md` is refused: instructions go into an agent's context, and nobody means to put a megabyte there."""

_FENCE = "---"
_ANY_RUNTIME = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One usable skill."""

    id: str
    """The name of its folder: unique, and how `config.yaml` refers to it."""
    name: str
    description: str
    """What it does and when to use it; empty only for a skill without frontmatter and without text."""
    path: Path
    """Its folder; everything that the instructions refer to is relative to it."""
    instructions: str
    """The Markdown below the frontmatter."""
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = (_ANY_RUNTIME,)
    """The runtimes it is for; `*` is any."""
    frontmatter: Mapping[str, object] = field(default_factory=lambda: MappingProxyType[str, object]({}))
    """The frontmatter as it stands, with keys that this module does not know (`license`, `metadata`, ...)."""

    def suits(self, runtime: str) -> bool:
        """Tell whether the skill is meant for a runtime."""
        return _ANY_RUNTIME in self.runtimes or runtime in self.runtimes


class Discovery(list[Skill]):
    """The skills that were found, in the order of their ids, and the `errors` of those that could not be used."""

    def __init__(self, skills: Iterable[Skill] = (), *, errors: Iterable[SkillError] = ()) -> None:
        super().__init__(skills)
        self.errors: tuple[SkillError, ...] = tuple(errors)


def discover(skills_dir: Path, *, runtime: str | None = None) -> Discovery:
    """Read every skill directly below a folder.

    A folder without `SKILL.md` and a hidden folder are not skills. A skills folder that does not exist holds no skill. What is
    wrong with a skill is logged as a warning and collected, never raised.

    Args:
        skills_dir: the folder of the skills, usually `<configs>/skills`.
        runtime: leave out skills that are meant for other runtimes.
    """
    skills: list[Skill] = []
    errors: list[SkillError] = []
    for folder in _candidates(skills_dir):
        try:
            skill = read_skill(folder)
        except SkillError as error:
            logger.warning("%s", error)
            errors.append(error)
            continue
        if runtime is None or skill.suits(runtime):
            skills.append(skill)
    return Discovery(skills, errors=errors)


def read_skill(folder: Path) -> Skill:
    """Read the skill in one folder.

    Raises:
        SkillUnreadableError: `SKILL.md` is missing, too large, not UTF-8, or may not be read.
        SkillFormatError: the frontmatter is not a YAML mapping with a name and a description.
    """
    path = folder / SKILL_FILE
    text = _read(folder.name, path)
    frontmatter, body = _split(folder.name, path, text)
    if frontmatter is None:
        return Skill(
            id=folder.name, name=folder.name, description=_first_line(body), path=folder, instructions=body.strip()
        )
    values = _Values(folder.name, path, frontmatter)
    return Skill(
        id=folder.name,
        name=values.text("name", max_chars=64),
        description=values.text("description", max_chars=1024),
        path=folder,
        instructions=body.strip(),
        tags=values.texts("tags"),
        examples=values.texts("examples"),
        runtimes=values.texts("runtime") or (_ANY_RUNTIME,),
        frontmatter=MappingProxyType(frontmatter),
    )


@dataclass(frozen=True, slots=True)
class _Values:
    """Typed access to a frontmatter; every complaint names the skill, the key and the remedy."""

    skill: str
    path: Path
    frontmatter: dict[str, object]

    def text(self, key: str, *, max_chars: int) -> str:
        value = self.frontmatter.get(key)
        if not isinstance(value, str) or not value.strip():
            found = "is missing" if value is None else "is empty" if value == "" else f"is {value!r}"
            raise SkillFormatError(
                self.skill, self.path, f"{key!r} {found}; it must be text of 1 to {max_chars} characters"
            )
        value = value.strip()
        if len(value) > max_chars:
            reason = f"{key!r} has {len(value)} characters; it may have {max_chars}"
            raise SkillFormatError(self.skill, self.path, reason)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.frontmatter.get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list):
            items = cast("list[object]", value)
            if all(isinstance(item, str) for item in items):
                return tuple(str(item) for item in items)
        raise SkillFormatError(self.skill, self.path, f"{key!r} is {value!r}; it must be text or a list of texts")


def _candidates(skills_dir: Path) -> list[Path]:
    if not skills_dir.is_dir():
        return []
    folders = (folder for folder in skills_dir.iterdir() if not folder.name.startswith("."))
    # A SKILL.md that is a dangling link is a skill with an error, not no skill.
    return sorted(folder for folder in folders if (folder / SKILL_FILE).exists() or (folder / SKILL_FILE).is_symlink())


def _read(skill: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SKILL_BYTES + 1)
    except OSError as error:
        raise SkillUnreadableError(skill, path, error.strerror or "cannot be read") from error
    if len(data) > MAX_SKILL_BYTES:
        raise SkillUnreadableError(skill, path, f"is larger than {MAX_SKILL_BYTES} bytes")
    try:
        # A byte order mark, as some editors write, must not hide the frontmatter.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillUnreadableError(skill, path, f"is not UTF-8 (byte {error.start})") from error


def _split(skill: str, path: Path, text: str) -> tuple[dict[str, object] | None, str]:
    """Separate the frontmatter from the body; a `---` inside a value is not a fence, only a line of its own is."""
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return None, text
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise SkillFormatError(skill, path, "the frontmatter has no closing '---' line")
    try:
        loaded: object = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date that is none, such as 2026-13-45.
        raise SkillFormatError(skill, path, f"the frontmatter is not YAML: {_one_line(error)}") from error
    if not isinstance(loaded, dict):
        raise SkillFormatError(skill, path, "the frontmatter is not a mapping with 'name' and 'description'")
    mapping = cast("dict[object, object]", loaded)
    return {str(key): value for key, value in mapping.items()}, "\n".join(lines[end + 1 :])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _first_line(body: str) -> str:
    for line in body.splitlines():
        if text := line.lstrip("# ").strip():
            return text[:1024]
    return ""
