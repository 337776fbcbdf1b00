"""Who is on the demo's team, and the commands of the agent from elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from molecule_runtime.localplatform.team.members import EXTERNAL, Member, RestartRule, Team

if TYPE_CHECKING:
    from pathlib import Path

# A host that ends makes the demo fail: run anew, it would hide what the demo is there to show.
_NEVER = RestartRule(policy="never")


def team(csv: Path | None) -> Team:
    """Return the team: a lead, two specialists and an agent from elsewhere."""
    return Team(
        name="demo",
        members=(
            Member(
                name="lead",
                role="Splits a request and gives each part to the agent that fits",
                runtime="lead",
                restart=_NEVER,
            ),
            Member(name="calc", role="Evaluates arithmetic", runtime="calculator", parent="lead", restart=_NEVER),
            Member(
                name="atlas",
                role="Answers questions about a table",
                runtime="table",
                parent="lead",
                config={"runtime_config": {"csv": str(csv)}} if csv else {},
                restart=_NEVER,
            ),
            Member(
                name="scout",
                role="Works from elsewhere, through molecule-mcp",
                external=True,
                runtime=EXTERNAL,
                parent="lead",
                delivery="poll",
            ),
        ),
    )


def driver_command() -> list[str]:
    """Return the command that drives `molecule-mcp` through the official MCP client."""
    return [sys.executable, "-m", "molecule_runtime.mcp.drive"]
