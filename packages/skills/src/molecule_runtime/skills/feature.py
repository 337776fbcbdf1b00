"""Skills for an adapter's setup: what this wheel announces under `molecule_runtime.features`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core.adapter.skill import FoundSkills, LoadedSkill, SkillMetadata
from molecule_runtime.skills.errors import SkillError
from molecule_runtime.skills.loader import Skill, discover, read_skill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molecule_runtime.core.adapter import AdapterConfig


def load_skills(config: AdapterConfig, *, runtime: str, folders: Sequence[Path] = ()) -> FoundSkills:
    """Read the skills that `config.tools` names in `<config_path>/skills`, then every skill in `folders`.

    Of two with the same id the first counts, so the workspace's own wins over a plugin's. Skills for other runtimes are left out.
    """
    found: dict[str, Skill] = {}
    problems: list[str] = []
    root = Path(config.config_path, "skills")
    for name in config.tools:
        if not isinstance(name, str) or name in {"", ".", ".."} or Path(name).name != name:
            problems.append(f"skill {name!r:.80} is not the name of a folder in {root}")
            continue
        try:
            skill = read_skill(root / name)
        except SkillError as error:
            problems.append(str(error))
            continue
        if _suits(skill, runtime):
            found.setdefault(skill.id, skill)
    for folder in folders:
        discovery = discover(folder)
        problems += [str(error) for error in discovery.errors]
        for skill in discovery:
            if _suits(skill, runtime):
                found.setdefault(skill.id, skill)
    return FoundSkills(skills=[_loaded(skill) for skill in found.values()], problems=problems)


def _suits(skill: Skill, runtime: str) -> bool:
    """Compare runtimes as manifests do, which write `claude_code` for `claude-code` (contract `consumers.md` 2.2)."""
    return any(skill.suits(name) for name in (runtime, runtime.replace("-", "_"), runtime.replace("_", "-")))


def _loaded(skill: Skill) -> LoadedSkill:
    return LoadedSkill(
        metadata=SkillMetadata(
            id=skill.id,
            name=skill.name,
            description=skill.description,
            tags=list(skill.tags),
            examples=list(skill.examples),
            runtime=list(skill.runtimes),
        ),
        instructions=skill.instructions,
        path=skill.path,
    )
