"""The predecessor's `agents_md`: the host writes AGENTS.md at each start, by `molecule_runtime.a2a.agents_md`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.a2a import agents_md
from molecule_runtime.a2a.card import CardFacts
from molecule_runtime.a2a.settings import load_settings, resolve_workspace_url
from molecule_runtime.core.config import load_config

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["generate_agents_md"]


def generate_agents_md(config_dir: str | PathLike[str], output_path: str | PathLike[str]) -> None:
    """Write AGENTS.md for the workspace of `config_dir`; a file that somebody else wrote or edited is left alone.

    Raises:
        ConfigurationError: the environment or config.yaml cannot be used.
        ValueError: the file has another name.
    """
    output = Path(output_path)
    if output.name != agents_md.FILE_NAME:
        raise ValueError(f"output_path must end with {agents_md.FILE_NAME}, and is {str(output)!r}")
    settings, config = load_settings(), load_config(Path(config_dir))
    card = CardFacts(
        name=config.name,
        description=config.description,
        version=config.version,
        url=resolve_workspace_url(settings, config.a2a.port),
        streaming=config.a2a.streaming,
        skills=(),
    )
    agents_md.write(output.parent, agents_md.facts_of(config, Path(config_dir), config.runtime, card))
