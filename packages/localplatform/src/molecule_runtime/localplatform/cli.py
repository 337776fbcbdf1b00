"""The command line of `molecule-local`: which commands there are, and how they end.

Exit codes: 0 done, 1 the operation failed, 2 wrong usage or settings. Errors are one line on stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.core import console
from molecule_runtime.core.errors import ConfigurationError, MoleculeError
from molecule_runtime.core.version import version_of
from molecule_runtime.localplatform.commands import options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

DISTRIBUTION = "molecule-runtime-localplatform"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        module: where its arguments and functions are, below this package; imported when the command is used.
        add: the function there that adds the arguments.
        extra: the extra of the wheel that it needs.
    """

    name: str
    summary: str
    module: str
    add: str = "add_arguments"
    extra: str = ""


COMMANDS = (
    Command(
        name="up",
        module="commands.up",
        summary="run the platform until SIGINT or SIGTERM",
    ),
    Command(
        name="demo",
        module="demo.command",
        summary="watch agents work together on a platform of their own",
        extra="demo",
    ),
    Command(
        name="status",
        module="commands.status",
        summary="show the running platform and its workspaces",
    ),
    Command(name="workspace", module="commands.workspace", summary="create, list and remove workspaces"),
    Command(name="token", module="commands.token", summary="create, list and revoke workspace tokens"),
    Command(name="connect", module="commands.connect", summary="put an agent that lives elsewhere on the team"),
    Command(
        name="chat",
        module="commands.chat",
        summary="talk to an agent",
    ),
    Command(name="logs", module="commands.logs", summary="see what happened, and what happens"),
    Command(name="requests", module="commands.requests", summary="see and decide what agents ask of you"),
    Command(
        name="export",
        module="commands.transfer",
        add="add_export_arguments",
        summary="write everything of the platform as portable JSON",
    ),
    Command(
        name="import",
        module="commands.transfer",
        add="add_import_arguments",
        summary="read what `export` wrote into a data folder",
    ),
)


def main(argv: list[str] | None = None) -> int:
    """Run `molecule-local` and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        parser = parser_for(arguments)
        if not arguments:
            return options.run_help(parser)
        parsed = parser.read(arguments)
        return int(parsed.run(parsed))
    except SystemExit as exc:  # argparse: 0 after --help and --version, 2 after a usage error
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 2
    except ConfigurationError as exc:
        console.complain("molecule-local", str(exc))
        return 2
    except MoleculeError as exc:
        console.complain("molecule-local", str(exc))
        return 1
    except BrokenPipeError:
        # The reader of our output left. Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def parser_for(arguments: Sequence[str]) -> options.Parser:
    """Return the parser of a command line; only the command that is used in it is imported."""
    parser = options.Parser(
        prog="molecule-local",
        description="The embedded molecule platform: registry, A2A proxy, inbox and delegations on one SQLite file.",
        epilog="`molecule-local COMMAND --help` explains a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"molecule-local {version_of(DISTRIBUTION)}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        inner = commands.add_parser(command.name, help=command.summary, description=_sentence(command.summary))
        if arguments[:1] == [command.name]:
            getattr(_import(command), command.add)(inner)
        else:
            inner.set_defaults(run=_misplaced(command.name))
    return parser


def _import(command: Command) -> object:
    try:
        return importlib.import_module(f"molecule_runtime.localplatform.{command.module}")
    except ImportError as exc:
        if not command.extra:
            raise
        raise ConfigurationError(
            f"the {command.name} needs a wheel that is not installed ({exc}); install it with:"
            f" pip install '{DISTRIBUTION}[{command.extra}]'"
        ) from exc


def _misplaced(name: str) -> options.Run:
    def run(args: argparse.Namespace) -> int:
        raise ConfigurationError(f"options stand behind the command: molecule-local {name} [options]")

    return run


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
