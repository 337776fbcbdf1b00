"""AGENTS.md in the workspace's folder: who works here, and how it is reached (contract `workspace-host.md` 17.2).

A file that somebody else wrote, or that somebody edited since, is theirs: its first line says what it was when this host wrote it.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.core.adapter.mcp_port import client_for
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from molecule_runtime.a2a.card import CardFacts
    from molecule_runtime.core.config import WorkspaceConfig

logger = logging.getLogger(__name__)

FILE_NAME = "AGENTS.md"

_MARK = "<!-- written by molecule-runtime; edit it and it is yours: it is then left alone ({digest}) -->\n"
_OURS = re.compile(re.escape(_MARK.rstrip("\n")).replace(r"\{digest\}", "([0-9a-f]{64})"))
_MAX_BYTES = 1024 * 1024
_MODE = 0o644
"""Other programs and people read it, as they do the files beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What AGENTS.md says about a workspace."""

    name: str
    role: str
    description: str
    url: str
    tools: Sequence[str] = ()
    skills: Sequence[tuple[str, str]] = ()


def facts_of(config: WorkspaceConfig, config_path: Path, runtime: str, card: CardFacts) -> AgentFacts:
    """Return what is known of a workspace; blocking, since it reads which MCP servers the runtime is told about.

    Args:
        config: as it was read.
        config_path: its folder.
        runtime: the adapter's name.
        card: as the workspace serves it.
    """
    tools = dict.fromkeys([*config.tools, *(plugin.name for plugin in config.plugins if plugin.name)])
    tools |= dict.fromkeys(server.name for server in config.mcp_servers)
    try:
        tools |= dict.fromkeys(client_for(runtime).servers(str(config_path)))
    except Exception:  # another wheel's code may raise anything
        logger.debug("the MCP servers of %s cannot be listed", runtime, exc_info=True)
    return AgentFacts(
        name=card.name,
        role=config.role or card.description,
        description=card.description,
        url=card.url,
        tools=list(tools),
        skills=[(skill.name, skill.description) for skill in card.skills],
    )


def render(facts: AgentFacts) -> str:
    """Return the file's text, with the first line by which it is known again."""
    lines = [f"# {facts.name or 'Agent'}", "", f"**Role:** {facts.role or 'none stated'}", ""]
    lines += ["## Description", "", facts.description or "None.", ""]
    lines += [
        "## A2A Endpoint",
        "",
        facts.url,
        "",
        f"Agent card: {facts.url.rstrip('/')}/.well-known/agent-card.json",
        "",
    ]
    lines += ["## MCP Tools", "", *([f"- {tool}" for tool in facts.tools] or ["None"]), ""]
    skills = [f"- {name}: {' '.join(text.split())}" if text else f"- {name}" for name, text in facts.skills if name]
    lines += ["## Skills", "", *(skills or ["None"]), ""]
    body = redact_text("\n".join(lines))
    return _MARK.format(digest=_digest(body)) + body


def write(folder: Path, facts: AgentFacts) -> bool:
    """Write the file into `folder`; False, and a line in the log, when it is not written. Blocking; never raises an `OSError`."""
    path = folder / FILE_NAME
    content = render(facts)
    try:
        if not folder.is_dir():
            logger.info("%s is not written: there is no folder %s", FILE_NAME, folder)
            return False
        if path.is_symlink():
            logger.info("%s is a link, and is left alone", path)
            return False
        present = _read(path)
        if present == content:
            return True
        if present is not None and not _is_ours(present):
            logger.info("%s was written or edited by somebody else, and is left alone", path)
            return False
        write_private(path, content)
        path.chmod(_MODE)
    except OSError as exc:
        logger.warning("%s cannot be written: %s", path, exc.strerror or exc)
        return False
    return True


def _read(path: Path) -> str | None:
    if not path.exists():
        return None
    if not path.is_file():
        return ""
    with path.open("rb") as handle:
        return handle.read(_MAX_BYTES).decode(errors="replace")


def _is_ours(text: str) -> bool:
    first, _, body = text.partition("\n")
    match = _OURS.fullmatch(first)
    return match is not None and match.group(1) == _digest(body)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
