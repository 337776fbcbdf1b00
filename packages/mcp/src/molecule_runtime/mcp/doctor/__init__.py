"""`molecule-mcp doctor`: what keeps this installation from serving its workspaces, and what to do about each finding."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from molecule_runtime.core.preflight import Check, Result, Status, results_of
from molecule_runtime.core.version import version_of
from molecule_runtime.mcp.doctor.clients import check_clients, clients_of
from molecule_runtime.mcp.doctor.machine import (
    check_configuration,
    check_environment,
    check_folder,
    check_installation,
    check_path,
    check_python,
)
from molecule_runtime.mcp.doctor.mailboxes import check_inbox
from molecule_runtime.mcp.doctor.subject import Machine
from molecule_runtime.mcp.doctor.tenants import (
    TENANTS_DEADLINE,
    check_clocks,
    check_platforms,
    check_targets,
    check_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CHECKS: tuple[Check[Machine], ...] = (
    Check(id="python", title="Python", severity=Status.FAIL, run=check_python),
    Check(id="installation", title="Installation", severity=Status.FAIL, run=check_installation, deadline=60.0),
    Check(id="path", title="PATH", severity=Status.WARN, run=check_path),
    Check(id="environment", title="Values of variables", severity=Status.FAIL, run=check_environment),
    Check(id="folder", title="Folder for tokens and state", severity=Status.FAIL, run=check_folder),
    Check(id="config", title="config.yaml", severity=Status.FAIL, run=check_configuration),
    Check(id="workspaces", title="Workspaces", severity=Status.FAIL, run=check_targets),
    Check(
        id="platform",
        title="Platforms",
        severity=Status.FAIL,
        run=check_platforms,
        network=True,
        deadline=TENANTS_DEADLINE,
    ),
    Check(
        id="token",
        title="Tokens accepted",
        severity=Status.FAIL,
        run=check_tokens,
        network=True,
        deadline=TENANTS_DEADLINE,
    ),
    Check(id="clock", title="Clock", severity=Status.WARN, run=check_clocks, network=True, deadline=TENANTS_DEADLINE),
    Check(id="inbox", title="Inbox", severity=Status.FAIL, run=check_inbox),
    Check(id="clients", title="MCP clients", severity=Status.FAIL, run=check_clients),
)
"""Every check, in the order of a report."""


def examine(environ: Mapping[str, str], *, cwd: Path | None = None, offline: bool = False) -> tuple[Result, ...]:
    """Run every check side by side; takes at most a minute. The workspaces are those of this environment and of the clients' files."""
    return results_of(CHECKS, machine_of(environ, cwd=cwd, offline=offline))


def machine_of(environ: Mapping[str, str], *, cwd: Path | None = None, offline: bool = False) -> Machine:
    """Return this machine with the settings that its clients' files have."""
    machine = Machine(environ=environ, cwd=cwd, offline=offline)
    machine.clients = clients_of(machine)
    return machine


def version() -> str:
    """Return the version of this installation."""
    return version_of("molecule-runtime-mcp")


def as_json(results: Sequence[Result]) -> str:
    """Return a report as one JSON object."""
    counts = Counter(str(result.status) for result in results)
    return json.dumps(
        {
            "ok": not counts[Status.FAIL],
            "version": version(),
            "counts": {str(status): counts[str(status)] for status in Status},
            "results": [result.to_dict() for result in results],
        },
        indent=2,
    )


__all__ = ["CHECKS", "as_json", "examine", "machine_of", "version"]
