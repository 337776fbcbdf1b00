"""The sub-commands of `molecule-mcp`: their arguments, and who runs them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import console

if TYPE_CHECKING:
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
    status = commands.add_parser(
        "status",
        help="show how each workspace is, as its platform and the inbox of this machine see it",
        description="Show each workspace that this shell or a client's file configures: its status on the platform, the process of this "
        "machine that serves it, and what waits in its inbox.",
        epilog="Exit codes: 0 all are online, 1 one is not, 2 none is configured.",
        allow_abbrev=False,
    )
    _add_json(status)
    inbox = commands.add_parser(
        "inbox", help="look at the messages kept on this machine, and have one handed out anew", allow_abbrev=False
    )
    actions = inbox.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the messages that wait", allow_abbrev=False)
    listing.add_argument("--popped", action="store_true", help="those that were popped and are still kept")
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="at most so many (default: 50)")
    listing.add_argument("--offset", type=_count, default=0, metavar="N", help="pass by so many")
    show = actions.add_parser("show", help="show one message whole", allow_abbrev=False)
    again = actions.add_parser(
        "requeue",
        help="have a message handed out anew: end its lease, or take back that it was popped",
        allow_abbrev=False,
    )
    for action in (show, again):
        action.add_argument("activity_id", metavar="ACTIVITY_ID")
    for action in (listing, show, again):
        action.add_argument("--workspace", metavar="ID", help="only of this workspace")
        action.add_argument("--platform", metavar="URL", type=_url, help="only of this platform")
        _add_json(action)


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run the chosen sub-command; returns the exit code."""
    if options.command == "doctor":
        return _doctor(options, environ)
    from molecule_runtime.mcp.doctor import machine_of
    from molecule_runtime.mcp.errors import McpError

    machine = machine_of(environ, cwd=_here())
    try:
        if options.command == "status":
            from molecule_runtime.mcp import status_command

            if not machine.targets():
                console.complain(PROGRAM, "no workspace is configured; `molecule-mcp doctor` says what is missing")
                return 2
            return status_command.run(machine, as_json=options.json)
        from molecule_runtime.mcp import inbox_command

        return inbox_command.run(options, machine)
    except McpError as exc:
        console.complain(PROGRAM, str(exc))
        return 1


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


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _url(text: str) -> str:
    from molecule_runtime.core.errors import ConfigurationError
    from molecule_runtime.core.identity import validate_platform_url

    try:
        return validate_platform_url(text)
    except ConfigurationError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
