"""The `molecule-runtime` command: settings, config and log in, exit code out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from molecule_runtime.a2a import commands
from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.a2a.stopping import StopSignal
from molecule_runtime.core import env, logs
from molecule_runtime.core.config import load_config
from molecule_runtime.core.errors import ConfigurationError, MoleculeError
from molecule_runtime.core.starting import loading
from molecule_runtime.core.version import version_of

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

DISTRIBUTION = "molecule-runtime-a2a"

OK, BOOT_FAILED, BAD_CONFIGURATION = 0, 1, 2

_VARIABLES = (
    env.WORKSPACE_ID,
    env.WORKSPACE_CONFIG_PATH,
    env.CONFIGS_DIR,
    env.PLATFORM_URL,
    env.MOLECULE_WORKSPACE_TOKEN,
    env.MOLECULE_WORKSPACE_TOKEN_FILE,
    env.MOLECULE_ORG_ID,
    env.ADAPTER_MODULE,
    env.MOLECULE_WORKSPACE_URL,
    env.MOLECULE_BIND_HOST,
    env.MOLECULE_DELIVERY_MODE,
    env.LOG_LEVEL,
    env.LOG_FORMAT,
    env.MOLECULE_A2A_TOKEN,
    env.MOLECULE_A2A_TOKEN_FILE,
    env.MOLECULE_A2A_REQUIRE_AUTH,
    env.AGENT_SNAPSHOT_PATH,
    env.MOLECULE_SMOKE_MODE,
    env.MOLECULE_SMOKE_TIMEOUT_SECS,
)

DRAIN_SECONDS = 10.0
"""How long running turns may go on after a request to stop."""

_EXIT_GRACE = 5.0
"""Seconds after the last deadline of a shutdown until the process ends whatever is left."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one workspace until SIGTERM or SIGINT.

    Returns:
        0 after a clean stop, 1 when the workspace could not be brought up, 2 when its settings cannot be used.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in commands.NAMES:
        return commands.run(arguments)
    _, extra = _parser().parse_known_args(arguments)
    stop = StopSignal()
    guard = _Guard(stop)
    if argv is None:
        # Only as the whole process: a caller in Python keeps its own.
        guard.start()
    try:
        with stop.installed():
            _run(stop, extra, whole_process=argv is None)
        logger.info("stopped")
        guard.code = OK
    except ConfigurationError as exc:
        guard.code = _refuse(exc, BAD_CONFIGURATION)
    except MoleculeError as exc:
        guard.code = _refuse(exc, BOOT_FAILED)
    stop.request("the end of main()")
    return guard.code


main_sync = main
"""The name under which earlier versions exported it; a release without it broke every workspace (contract `workspace-host.md` 5)."""


def _run(stop: StopSignal, extra: Sequence[str], *, whole_process: bool) -> None:
    logs.configure()
    logging.captureWarnings(capture=True)
    if extra:
        # Templates pass the container's own arguments on ("$@").
        logger.info("ignoring %d argument(s) that are not known here", len(extra))
    settings = load_settings()
    config = load_config(settings.config_path)
    if not env.LOG_LEVEL.is_set():
        try:
            logs.configure(default_level=config.observability.log_level)
        except ConfigurationError as exc:
            raise ConfigurationError(
                f"{settings.config_path / 'config.yaml'}: observability.log_level: {str(exc).removeprefix('LOG_LEVEL ')}"
            ) from None
    commands.require_preflight(settings.config_path, config)
    # The SDK and the server take most of a second to import: not for --help and not for a typing error.
    with loading() if whole_process else nullcontext():
        import anyio

        from molecule_runtime.a2a import boot, smoke

    with logs.bind(workspace_id=settings.target.id):
        if smoke.is_smoke_mode():
            seconds = smoke.smoke_seconds()
            anyio.run(lambda: smoke.smoke(settings, config, stop, seconds=seconds, whole_process=whole_process))
            return
        anyio.run(boot.serve, settings, config, stop, DRAIN_SECONDS)


def _refuse(exc: MoleculeError, code: int) -> int:
    logger.debug("refused", exc_info=exc)
    print(f"molecule-runtime: {' '.join(str(exc).split())}", file=sys.stderr)  # noqa: T201 - the command's own output
    return code


class _Guard(threading.Thread):
    """Ends the process when a shutdown does not: an adapter may block the event loop or leave a thread behind for ever."""

    def __init__(self, stop: StopSignal) -> None:
        super().__init__(name="molecule-exit-guard", daemon=True)
        self.code = BOOT_FAILED
        self._stop_signal = stop

    def run(self) -> None:
        self._stop_signal.block()
        time.sleep(DRAIN_SECONDS + _EXIT_GRACE)
        logger.error("the shutdown did not finish in time; ending the process")
        sys.stderr.flush()
        os._exit(self.code)


def _parser() -> argparse.ArgumentParser:
    width = max(len(variable.name) for variable in _VARIABLES)
    lines = [
        f"  {variable.name:<{width}}  {variable.meaning}{f' Default: {variable.default}.' if variable.default else ''}"
        for variable in _VARIABLES
    ]
    parser = argparse.ArgumentParser(
        prog="molecule-runtime",
        description="Serve one agent over A2A and keep it registered with the platform. Settings come from the environment"
        " and from config.yaml in WORKSPACE_CONFIG_PATH.",
        epilog="environment variables:\n"
        + "\n".join(lines)
        + "\n\nsubcommands:\n  check   tell what keeps this workspace from running\n  schema  print the JSON Schema of config.yaml"
        + "\n\nexit codes: 0 stopped, 1 boot failed, 2 configuration",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"molecule-runtime {version_of(DISTRIBUTION)}")
    return parser
