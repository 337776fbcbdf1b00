"""The sub-commands of `molecule-mcp`: their arguments, and who runs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import console

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

NAMES = ("doctor", "status", "inbox")

PROGRAM = "molecule-mcp"


def add_parsers(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to the parser of the command."""
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    doctor = commands.add_parser(
        "doctor",
        help="check this installation, its workspaces and the clients that start it, and say what to mend",
        description="Check Python, the installation, PATH, variables, folders, every workspace (address, TLS, token by heartbeat, "
        "clock), the inbox, and the configurations of MCP clients that mention molecule-mcp. The workspaces are those that the files "
        "of the clients name, and those of this shell where it names some.",
        epilog="Exit codes: 0 nothing failed, 1 something did.",
        allow_abbrev=False,
    )
    doctor.add_argument("--offline", action="store_true", help="ask no platform")
    _add_json(doctor)


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run the chosen sub-command; returns the exit code."""
    match options.command:
        case "doctor":
            return _doctor(options, environ)
        case _:
            raise ValueError(f"unknown command {options.command!r}")


def _doctor(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from molecule_runtime.core.preflight import Status, render_results, wants_colour
    from molecule_runtime.mcp import doctor

    if sys.stderr.isatty() and not options.json:
        console.remark("Looking at this machine, its workspaces and its MCP clients ...")
    results = doctor.examine(environ, cwd=_here(), offline=options.offline)
    if options.json:
        console.say(doctor.as_json(results))
    else:
        heading = f"{PROGRAM} {doctor.version()}"
        console.say(render_results(heading, results, colour=wants_colour(sys.stdout, environ)))
    return 1 if any(result.status is Status.FAIL for result in results) else 0


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # somebody removed it
        return None


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
