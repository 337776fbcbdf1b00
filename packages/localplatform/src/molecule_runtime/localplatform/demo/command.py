"""The arguments and the exit codes of `molecule-local demo`."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core.errors import ConfigurationError, MissingFeatureError, MoleculeError

if TYPE_CHECKING:
    from molecule_runtime.localplatform.demo.narrator import Narrator
    from molecule_runtime.localplatform.demo.stage import DemoOptions

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130

_EXTRA = "'molecule-runtime-localplatform[demo]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Start the platform, a lead, two specialists and an agent from elsewhere, and watch them work together. "
        "No account and no model key is needed."
    )
    parser.epilog = "Exit codes: 0 everything was done, 1 something failed (the reason is shown), 2 wrong arguments or a missing wheel."
    parser.add_argument(
        "--once", action="store_true", help="stop when everything is done instead of staying up until Ctrl-C"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of text")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a table of your own for atlas to answer about")
    parser.add_argument(
        "--question", metavar="TEXT", help="what to ask atlas (default: how many rows there are, with --csv)"
    )
    parser.add_argument("--port", type=_port, default=0, help="port of the platform (default: a free one)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="keep the platform and the team in this folder (default: temporary)"
    )
    parser.add_argument(
        "--step-timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long one step may take (default: 60)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    # Late: `molecule-local --help` needs none of this.
    from molecule_runtime.localplatform.demo.narrator import Narrator
    from molecule_runtime.localplatform.demo.stage import DemoOptions

    narrator = Narrator(as_json=args.json)
    options = DemoOptions(
        port=args.port,
        data=args.data.expanduser().resolve() if args.data else None,
        csv=args.csv.expanduser().resolve() if args.csv else None,
        question=args.question,
        once=args.once,
        seconds=args.step_timeout,
    )
    try:
        _require_wheels()
        if options.csv is not None and not options.csv.is_file():
            raise ConfigurationError(f"--csv {str(options.csv)!r} is not a file; name a CSV file with a header line")
        return _play(options, narrator)
    except ConfigurationError as exc:
        return _fail(narrator, str(exc), EXIT_CONFIGURATION)
    except MoleculeError as exc:
        return _fail(narrator, str(exc), EXIT_FAILED)


def _play(options: DemoOptions, narrator: Narrator) -> int:
    import anyio

    from molecule_runtime.localplatform.demo.stage import perform

    narrator.title("A lead, two specialists and an agent from elsewhere, on an embedded platform")
    interrupted = False
    outcome: BaseException | None = None

    async def main() -> None:
        async def stop_on_signal(scope: anyio.CancelScope) -> None:
            nonlocal interrupted
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    interrupted = True
                    scope.cancel()
                    return

        nonlocal outcome
        async with anyio.create_task_group() as group:
            group.start_soon(stop_on_signal, group.cancel_scope)
            try:
                await perform(options, narrator)
            except* MoleculeError as failures:
                outcome = _first(failures)
            group.cancel_scope.cancel()

    anyio.run(main)
    if outcome is not None:
        raise outcome
    if interrupted and not narrator.finished:
        narrator.event("interrupted", "platform", "stopped before everything was done")
        return EXIT_INTERRUPTED
    return EXIT_OK


def _first(group: BaseExceptionGroup[MoleculeError]) -> BaseException:
    """Return the first leaf of a group: the one that made the others stop."""
    exc: BaseException = group
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def _require_wheels() -> None:
    for module, distribution in (
        ("molecule_runtime.a2a", "molecule-runtime-a2a"),
        ("molecule_runtime.mcp", "molecule-runtime-mcp"),
    ):
        if importlib.util.find_spec(module) is None:
            raise MissingFeatureError(f"the demo needs {distribution}, which", distribution=_EXTRA)


def _fail(narrator: Narrator, reason: str, code: int) -> int:
    narrator.data("failed", ok=False, reason=reason)
    print(f"molecule-local demo: {reason}", file=sys.stderr)  # noqa: T201 - the command's own error line
    return code


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port; use 0 (a free one) to 65535")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= 3600:
        raise argparse.ArgumentTypeError(f"{number} is not between 0 and 3600 seconds")
    return number
