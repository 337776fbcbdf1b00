"""The subcommands of `molecule-runtime`: `check` tells what keeps a workspace from running, `schema` describes config.yaml."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.a2a.errors import BootError
from molecule_runtime.a2a.settings import CONTAINER_PLATFORM_URL, LAPTOP_PLATFORM_URL
from molecule_runtime.core import env
from molecule_runtime.core.config import LoadedConfig, json_schema, load
from molecule_runtime.core.secretfile import expand_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molecule_runtime.core.config import WorkspaceConfig

logger = logging.getLogger(__name__)

OK, FAILURES, UNUSABLE = 0, 1, 2
"""Exit codes of `check`."""

NAMES = ("check", "schema")


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand that the arguments begin with and return its exit code."""
    options = _parser().parse_args(arguments)
    return _schema() if options.command == "schema" else _check(options)


def require_preflight(config_path: Path, config: WorkspaceConfig) -> None:
    """Run the cheap local checks before the adapter is loaded (contract `workspace-host.md` 7).

    Raises:
        BootError: with every failure.
    """
    from molecule_runtime.core import preflight

    loaded = LoadedConfig(path=config_path / "config.yaml", config=config)
    # An adapter that needs no prompt is not asked at every start for the file that nobody named.
    checks = [check for check in preflight.BOOT_CHECKS if check.id != "prompts" or config.prompt_files]
    report = preflight.run_checks(checks, preflight.Context(loaded=loaded))
    for result in report.warnings:
        logger.warning("%s: %s; %s", result.check, result.reason, result.fix)
    if report.failures:
        found = "; ".join(f"{result.reason}: {result.fix}" for result in report.failures)
        raise BootError(f"preflight failed: {found}")


def _check(options: argparse.Namespace) -> int:
    # HTTP and the rest take time to import: not for `schema`, and not for `--help`.
    from molecule_runtime.core import preflight

    environ = env.current()
    folder = expand_home(options.config or env.WORKSPACE_CONFIG_PATH.get(environ))
    in_container = Path("/.dockerenv").exists() or env.DOCKER_VERSION.is_set(environ)
    context = preflight.Context(
        loaded=load(folder, environ, strict=options.strict),
        environ=environ,
        platform_url=CONTAINER_PLATFORM_URL if in_container else LAPTOP_PLATFORM_URL,
        offline=options.offline,
    )
    report = preflight.run_preflight(context)
    code = OK if report.ok else UNUSABLE if not report.usable else FAILURES
    if options.json:
        _print(preflight.render_json(report, exit_code=code))
    else:
        _print(preflight.render_full(report, colour=preflight.wants_colour(sys.stdout, environ)))
    return code


def _schema() -> int:
    _print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return OK


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the command's own output
    except BrokenPipeError:
        # `| head` has seen enough; the interpreter would flush into the closed pipe once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="molecule-runtime", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check",
        help="tell what keeps this workspace from running",
        description="Check config.yaml, the environment, the adapter and the platform, and say what to mend. The token is"
        " tried with a heartbeat and never by registering, which would replace the card of a workspace that runs.",
        epilog="exit codes: 0 ok, 1 something keeps the workspace from running, 2 config.yaml cannot be used",
        allow_abbrev=False,
    )
    check.add_argument("--config", metavar="DIR", help="folder of config.yaml (default: WORKSPACE_CONFIG_PATH)")
    check.add_argument("--strict", action="store_true", help="a key that nothing knows makes config.yaml unusable")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.add_argument("--offline", action="store_true", help="ask nothing of the platform")
    commands.add_parser(
        "schema",
        help="print the JSON Schema of config.yaml",
        description="Print the JSON Schema of config.yaml, for editors.",
        allow_abbrev=False,
    )
    return parser
