"""`molecule-local up`: runs the platform until a signal."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import console, logs
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.secretfile import write_private
from molecule_runtime.core.starting import loading
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import ENDPOINT_FILE, ORG_FILE
from molecule_runtime.localplatform.errors import SeedError
from molecule_runtime.localplatform.settings import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    LocalSettings,
    default_data_folder,
)

if TYPE_CHECKING:
    from molecule_runtime.localplatform.team.members import Team
    from molecule_runtime.localplatform.team.reports import Report

if sys.platform != "win32":
    import resource

_MAX_RATE = 1_000_000
_ENOUGH_FILES = 65_536
"""Where there is no hard limit."""


def add_arguments(parser: options.Parser) -> None:
    """Add the arguments of `up`."""
    options.add_data(parser)
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=options.port, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name under which clients reach the platform, such as host.docker.internal; may be repeated",
    )
    parser.add_argument(
        "--url-rule",
        choices=("local", "private", "strict"),
        default="local",
        help="which agents may be called: those on this machine (and public ones), also those on private networks, or, as on a hosted"
        " platform, public ones only (default: %(default)s)",
    )
    parser.add_argument(
        "--rate-limit",
        type=options.whole(1, _MAX_RATE),
        metavar="N",
        help="requests a minute of one client address (default: 600, and none for this machine)",
    )
    parser.add_argument(
        "--org-id",
        type=_org_id,
        metavar="ID",
        help="serve this organisation only: requests must carry it in X-Molecule-Org-Id, as on a hosted tenant",
    )
    parser.add_argument(
        "--delegation-results-in-inbox",
        action="store_true",
        help="leave the results of delegations in the inbox of the workspace that delegated, too",
    )
    parser.add_argument(
        "--seed",
        type=Path,
        metavar="FILE",
        help="have a team at work: the workspaces of this YAML file, and their processes",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="with --seed: remove the workspaces of members that are not in the file any more",
    )
    parser.add_argument(
        "--seed-schema", action="store_true", help="print the JSON Schema of such a file, for editors, and end"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON line instead of text once the platform answers, and one for whatever happens to the team",
    )
    parser.add_examples("""
molecule-local up
molecule-local up --port 0 --data ./team --json
molecule-local up --seed team.yaml
molecule-local up --host 0.0.0.0 --allow-host host.docker.internal --url-rule private
""")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the platform until SIGINT or SIGTERM."""
    if args.seed_schema:
        return _print_schema()
    with loading():
        import anyio

        importlib.import_module("molecule_runtime.localplatform.server")
    logs.configure(default_level="WARNING" if args.json else "INFO")
    # It says when it starts and stops, which we say ourselves.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        team = _team_of(args)
    except SeedError as exc:
        for finding in exc.findings:
            console.complain("molecule-local", str(finding) if finding.severity == "error" else f"warning: {finding}")
        return 2
    raise_open_files()
    anyio.run(_serve_until_signal, settings_of(args), bool(args.json), team, bool(args.prune))
    return 0


def settings_of(args: argparse.Namespace) -> LocalSettings:
    """Return the settings of the platform."""
    return LocalSettings(
        data=options.data_folder(args),
        host=args.host,
        port=args.port,
        allowed_hosts=tuple(args.allow_host),
        url_rule=args.url_rule,
        rate_limit=args.rate_limit,
        org_id=args.org_id or "",
        delegation_results_in_inbox=args.delegation_results_in_inbox,
    )


def raise_open_files() -> None:
    """Allow this process as many open files as it may have: every connected agent is one or more."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    # Some systems have a limit of their own below the hard one; the platform then works with what it has.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _team_of(args: argparse.Namespace) -> Team | None:
    """Return the team that is to be at work."""
    if args.seed is None:
        if args.prune:
            raise ConfigurationError("--prune is about the team of a seed; add --seed FILE")
        return None
    if sys.platform == "win32":
        raise ConfigurationError("--seed needs the process groups of Linux or macOS; on Windows, run it in WSL")
    from molecule_runtime.localplatform.team.reading import read_team

    team = read_team(args.seed.expanduser())
    if args.url_rule == "strict" and any(not member.external for member in team.members):
        raise ConfigurationError(
            "--url-rule strict refuses agents on this machine, which the members of the seed are; use local or private"
        )
    return team


def _print_schema() -> int:
    from molecule_runtime.localplatform.team.seed import json_schema

    console.say(json.dumps(json_schema(), indent=2))
    return 0


class _Progress:
    """Tells on stdout what happens to the team, as long as somebody reads it."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._read = True

    def tell(self, report: Report) -> None:
        if not self._read:
            return
        try:
            if self._as_json:
                console.emit(report.body())
            else:
                console.say(console.safe(report.line()))
        except OSError:
            # The reader left. That is no reason to stop, and Python would complain again while it flushes at exit.
            self._read = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _serve_until_signal(settings: LocalSettings, as_json: bool, team: Team | None, prune: bool) -> None:
    import anyio

    from molecule_runtime.localplatform.platform import ADMIN_TOKEN_FILE
    from molecule_runtime.localplatform.server import serve

    endpoint = settings.data / ENDPOINT_FILE
    org = settings.data / ORG_FILE
    # The team ends while the platform still answers, and outside of the receiver: a second signal ends that, too.
    async with serve(settings) as platform, contextlib.AsyncExitStack() as at_work:
        # Signals count from here to the moment one arrives; a second one, during the stop, ends the process at once.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            if settings.org_id:
                await anyio.to_thread.run_sync(write_private, org, settings.org_id)
            else:
                org.unlink(missing_ok=True)
            await anyio.to_thread.run_sync(write_private, endpoint, platform.url)
            token_file = settings.data / ADMIN_TOKEN_FILE
            if as_json:
                console.emit(
                    {
                        "url": platform.url,
                        "data": str(settings.data),
                        "admin_token_file": str(token_file),
                        "pid": os.getpid(),
                    }
                )
            else:
                console.say(_welcome(platform.url, settings, token_file))
            if team is not None:
                # Late: a platform without a team starts sooner.
                from molecule_runtime.localplatform.team.staffing import Staffing, staffed

                progress = _Progress(as_json=as_json)
                await at_work.enter_async_context(staffed(platform, team, progress.tell, Staffing(prune=prune)))
            async for _ in signals:
                break
        endpoint.unlink(missing_ok=True)
        org.unlink(missing_ok=True)
        if not as_json:
            console.say("stopping …")


def _welcome(url: str, settings: LocalSettings, token_file: Path) -> str:
    # Elsewhere than where the other commands look, they must be told.
    data = "" if settings.data == default_data_folder() else f" --data {shlex.quote(str(settings.data))}"
    next_steps = (
        (f"workspace create alice --external --poll{data}", "a place for an agent that lives elsewhere"),
        (f"connect alice --client claude-code{data}", "the configuration that puts it there"),
        (f"chat alice{data}", "talk to it"),
        (f"status{data}", "who is there"),
        ("demo", "watch agents work together"),
    )
    width = max(len(command) for command, _ in next_steps)
    lines = [
        f"molecule-local answers at {url}",
        f"  data folder  {settings.data}",
        f"  admin token  in {token_file}",
        "",
        "Next, in another terminal:",
        *(f"  molecule-local {command.ljust(width)}  {what}" for command, what in next_steps),
        "",
        "Ctrl-C stops it.",
    ]
    if settings.host not in {DEFAULT_HOST, "localhost", "::1"}:
        lines.insert(1, "  careful: it listens beyond this machine, without encryption; tokens can be read on the way")
    return "\n".join(lines)


def _org_id(text: str) -> str:
    if not text or not all(33 <= ord(character) <= 126 for character in text):
        raise argparse.ArgumentTypeError("the id must be printable ASCII without spaces, since a header carries it")
    return text
