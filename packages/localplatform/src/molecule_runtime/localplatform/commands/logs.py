"""`molecule-local logs`: what happened, a line each, and what happens."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import Remote

if TYPE_CHECKING:
    import argparse

_DEFAULT_LINES = 50
_MAX_LINES = 500


def add_arguments(parser: options.Parser) -> None:
    """Add the arguments of `logs`."""
    options.add_remote(parser, json=False)
    parser.add_argument(
        "workspace",
        metavar="WORKSPACE",
        nargs="?",
        help="name or id of the one whose messages and events to show (default: all)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens, until Ctrl-C")
    parser.add_argument(
        "-n",
        "--lines",
        type=options.whole(0, _MAX_LINES),
        default=_DEFAULT_LINES,
        metavar="N",
        help="how many lines of what happened before (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, in full")
    parser.add_examples("""
molecule-local logs
molecule-local logs -f
molecule-local logs alice -n 200
molecule-local logs -f -n 0 --json | jq .
""")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show what happened."""
    from molecule_runtime.localplatform.commands.frames import linked, run_plainly, stay_linked
    from molecule_runtime.localplatform.commands.watch import Watch

    remote = Remote.of(args)
    workspace = remote.find(args.workspace)["id"] if args.workspace else None
    watch = Watch(workspace, lines=args.lines, as_json=args.json)

    async def once() -> None:
        async with linked(remote) as link:
            await watch.tell_history(link)

    async def follow() -> None:
        await stay_linked(lambda: Remote.of(args), watch.follow)

    if not args.follow:
        run_plainly(once)
        return 0
    # Ctrl-C is how one ends it.
    with contextlib.suppress(KeyboardInterrupt):
        run_plainly(follow)
    return 0
