"""The arguments that several commands share, and the parser that they are added to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from molecule_runtime.localplatform.settings import DEFAULT_HOST, DEFAULT_PORT, default_data_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Run = Callable[[argparse.Namespace], int]

_MAX_PORT = 65535


class Parser(argparse.ArgumentParser):
    """Reads the arguments of a command; wrong usage is one line on stderr and exit code 2."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # A prefix that is clear today could mean something else once there are more options.
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)
        # The innermost one wins: it knows what the command is called.
        self.set_defaults(parser=self)

    def add_examples(self, text: str) -> None:
        """Show how the command is used, one example a line, below its help."""
        lines = "\n".join(f"  {line}" for line in text.strip().splitlines())
        self.epilog = f"examples:\n{lines}"

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Read a command line; what is left over is refused in the name of the command that was given it."""
        parsed, extras = self.parse_known_args(arguments)
        if extras:
            parser: Parser = parsed.parser
            parser.error(f"unrecognized arguments: {' '.join(extras)}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """End with the message and where to read more."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see: {self.prog} --help\n")


class Verbs:
    """The commands below a command, such as `create` below `workspace`."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)

    def add(self, name: str, run: Run, *, help: str, examples: str) -> Parser:
        """Add one, with the function that runs it."""
        parser = self._parsers.add_parser(name, help=help, description=_sentence(help))
        parser.add_examples(examples)
        parser.set_defaults(run=run)
        return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add `--data`."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder (default: $MOLECULE_LOCAL_DATA, else $XDG_DATA_HOME/molecule-local, else ~/.local/share/molecule-local)",
    )


def add_remote(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Add what names the running platform, and `--json`."""
    add_data(parser)
    parser.add_argument(
        "--url",
        help=f"the running platform (default: the one on the data folder, else http://{DEFAULT_HOST}:{DEFAULT_PORT})",
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON")


def add_workspace(parser: argparse.ArgumentParser) -> None:
    """Add the argument `WORKSPACE`."""
    parser.add_argument("workspace", metavar="WORKSPACE", help="its name or id")


def data_folder(args: argparse.Namespace) -> Path:
    """Return the data folder that the arguments or the environment name."""
    folder: Path | None = args.data
    return default_data_folder() if folder is None else folder.expanduser().absolute()


def port(text: str) -> int:
    """Read a port; 0 takes a free one."""
    if not _is_digits(text) or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"port {text!r} is not a number from 0 to {_MAX_PORT}")
    return int(text)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not _is_digits(text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """Read a length of time."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to 86400")
    return number


def run_help(parser: argparse.ArgumentParser) -> int:
    """Print the help where a command was expected."""
    parser.print_help(sys.stderr)
    return 2


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
