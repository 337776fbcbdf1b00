"""The command molecule-audit: verify the ledger, look at its end, export it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, TextIO

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.errors import ConfigurationError, PlatformError
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.core.version import version_of
from molecule_runtime.tools.audit import keys
from molecule_runtime.tools.audit.checkpoints import read as read_checkpoints
from molecule_runtime.tools.audit.ledger import Ledger
from molecule_runtime.tools.audit.records import Record, canonical_json
from molecule_runtime.tools.audit.trail import AuditSettings, load_audit_settings
from molecule_runtime.tools.audit.verify import Verification, records, verify, verify_export
from molecule_runtime.tools.errors import AuditError, LedgerKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from molecule_runtime.tools.audit.checkpoints import Checkpoint

DISTRIBUTION: Final = "molecule-runtime-tools"

EXIT_OK: Final = 0
EXIT_BROKEN: Final = 1
EXIT_CONFIGURATION: Final = 2
EXIT_DATABASE: Final = 3
"""Contract `workspace-host.md` 20."""

_EPILOG: Final = """\
Exit codes: 0 the ledger is valid or empty, 1 it is broken, 2 the configuration is wrong (a key is missing), 3 a file cannot be read.
"""

_VARIABLES: Final = (env.AUDIT_LEDGER_DB, env.AUDIT_LEDGER_SALT, env.AUDIT_LEDGER_KEY_FILE, env.CONFIGS_DIR)


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    width = max(len(variable.name) for variable in _VARIABLES)
    lines = [f"  {variable.name:<{width}}  {variable.meaning}" for variable in _VARIABLES]
    parser = argparse.ArgumentParser(
        prog="molecule-audit",
        description="Verify and read the audit ledger: the signed chain of what the agents of this machine did.",
        epilog="Environment:\n" + "\n".join(lines) + "\n\n" + _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"molecule-audit {version_of(DISTRIBUTION)}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--db", default="", metavar="FILE", help="the ledger, over AUDIT_LEDGER_DB")
    common.add_argument("--json", action="store_true", help="print JSON")
    agent = argparse.ArgumentParser(add_help=False)
    agent.add_argument("--agent-id", metavar="ID", help="only the records of this workspace")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    checking = commands.add_parser("verify", parents=[common, agent], help="is every record there, and unchanged?")
    checking.add_argument("--file", metavar="EXPORT", help="verify this export instead of the ledger")
    checking.add_argument(
        "--checkpoints", metavar="FILE", help="signed checkpoints that were kept elsewhere (JSON lines)"
    )
    checking.add_argument(
        "--anchored",
        action="store_true",
        help="compare with the checkpoints in the platform's activity log too, for the workspaces of the environment",
    )
    checking.add_argument("--partial", action="store_true", help="the oldest segments are archived elsewhere")
    checking.set_defaults(run=_verify)

    tail = commands.add_parser("tail", parents=[common, agent], help="the newest records")
    tail.add_argument("-n", "--lines", type=_count, default=20, metavar="N", help="how many; default 20")
    tail.set_defaults(run=_tail)

    export = commands.add_parser("export", parents=[common, agent], help="every record as a JSON line, oldest first")
    export.add_argument("-o", "--output", metavar="FILE", help="write there (0600; must not exist) instead of stdout")
    export.set_defaults(run=_export)

    checkpoint = commands.add_parser(
        "checkpoint", parents=[common], help="sign how far the ledger has come, and print it"
    )
    checkpoint.set_defaults(run=_checkpoint)
    rotate = commands.add_parser("rotate", parents=[common], help="begin a new segment, or sign with a new key")
    rotate.add_argument(
        "--key", action="store_true", help="put a new key in front of the key file; old ones go on verifying"
    )
    rotate.set_defaults(run=_rotate)
    return parser


def main(argv: Sequence[str] | None = None, *, environ: Mapping[str, str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    environ = env.current() if environ is None else environ
    arguments.environ = environ
    run: Callable[[argparse.Namespace, AuditSettings], int] = arguments.run
    try:
        is_named = arguments.db or env.AUDIT_LEDGER_DB.is_set(environ)
        folder = None if is_named else configs_dir.resolve(environ)
        settings = load_audit_settings(environ, folder=folder, ledger=arguments.db)
        if settings is None:
            return _refuse("the audit ledger is off (AUDIT_LEDGER_DB); name one with --db", EXIT_CONFIGURATION)
        return run(arguments, settings)
    except (ConfigurationError, LedgerKeyError) as exc:
        return _refuse(str(exc), EXIT_CONFIGURATION)
    except (AuditError, ValueError) as exc:
        return _refuse(str(exc), EXIT_DATABASE)
    except BrokenPipeError:
        # Who read this has seen enough; Python would complain once more when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _verify(arguments: argparse.Namespace, settings: AuditSettings) -> int:
    anchors: list[Checkpoint] = []
    if arguments.anchored:
        import anyio

        try:
            anchors = anyio.run(_anchored, arguments.environ)
        except PlatformError as exc:
            return _refuse(f"the platform's activity log cannot be read: {exc}", EXIT_DATABASE)
    if arguments.checkpoints:
        try:
            anchors += read_checkpoints(expand_home(arguments.checkpoints))
        except OSError as exc:
            return _refuse(f"{arguments.checkpoints} cannot be read: {exc.strerror or exc}", EXIT_DATABASE)
    if arguments.file:
        ring = keys.open_ring(settings.key_file, salt=settings.salt, create=False)
        try:
            with expand_home(arguments.file).open(encoding="utf-8") as lines:
                found = verify_export(lines, ring, anchors=anchors)
        except (OSError, UnicodeDecodeError) as exc:
            return _refuse(f"{arguments.file} cannot be read: {exc}", EXIT_DATABASE)
        return _report(found, arguments, what=arguments.file)
    ring = keys.open_ring(settings.key_file, salt=settings.salt, create=False)
    found = verify(settings.ledger, ring, agent_id=arguments.agent_id, anchors=anchors, partial=arguments.partial)
    return _report(found, arguments, what=str(settings.ledger))


async def _anchored(environ: Mapping[str, str]) -> list[Checkpoint]:
    # Late: nothing else here talks to a platform, and httpx is slow to load.
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.core.targets import resolve_targets
    from molecule_runtime.tools.audit.checkpoints import anchored

    found: list[Checkpoint] = []
    async with ConnectionPools() as pools:
        for target in resolve_targets(environ):
            async with PlatformClient(target, pools) as client:
                found += await anchored(client)
    return found


def _report(found: Verification, arguments: argparse.Namespace, *, what: str) -> int:
    if arguments.json:
        _say(json.dumps({"valid": found.valid, **asdict(found)}))
    elif found.valid:
        of = f" of {arguments.agent_id}" if arguments.agent_id else ""
        _say(
            f"valid: {what} has {found.events} records{of}; the last is {found.last_seq}"
            if found.last_seq
            else f"{what} has no records"
        )
    else:
        _say(f"BROKEN: {found.problem}" + (f" (record {found.first_bad_id})" if found.first_bad_id else ""))
    return EXIT_OK if found.valid else EXIT_BROKEN


def _tail(arguments: argparse.Namespace, settings: AuditSettings) -> int:
    for record in deque(records(settings.ledger, agent_id=arguments.agent_id), maxlen=arguments.lines):
        _say(_line(record) if arguments.json else _in_words(record))
    return EXIT_OK


def _export(arguments: argparse.Namespace, settings: AuditSettings) -> int:
    with _output(arguments.output) as out:
        for record in records(settings.ledger, agent_id=arguments.agent_id):
            out.write(_line(record) + "\n")
    return EXIT_OK


def _checkpoint(arguments: argparse.Namespace, settings: AuditSettings) -> int:
    ring = keys.open_ring(settings.key_file, salt=settings.salt, create=False)
    made = Ledger(settings.ledger, ring).checkpoint()
    if made is None:
        return _refuse(f"{settings.ledger} has no records", EXIT_OK)
    # The very line of the checkpoints' file, so that it can be kept elsewhere and given to verify --checkpoints.
    _say(canonical_json(made.to_json()).decode())
    return EXIT_OK


def _rotate(arguments: argparse.Namespace, settings: AuditSettings) -> int:
    if arguments.key:
        current = keys.rotate(settings.key_file, salt=settings.salt).current.id
        _say(json.dumps({"key_id": current}) if arguments.json else f"new records are signed with the key {current}")
        return EXIT_OK
    Ledger(settings.ledger, keys.open_ring(settings.key_file, salt=settings.salt, create=False)).rotate()
    _say(json.dumps({"rotated": True}) if arguments.json else "the next record begins a new segment")
    return EXIT_OK


def _line(record: Record) -> str:
    """Return the stable form of an export: one object with sorted keys; a filter aside, `verify --file` takes it back."""
    return canonical_json(record.to_json()).decode()


def _in_words(record: Record) -> str:
    parts = [
        str(record.seq),
        record.timestamp,
        record.agent_id or "-",
        record.operation,
        record.model_used,
        record.outcome,
    ]
    # What stands in a record came from a model: no control character of it reaches the terminal.
    return "".join(character if character.isprintable() else "?" for character in "  ".join(parts))


@contextmanager
def _output(path: str | None) -> Generator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        descriptor = os.open(expand_home(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be made: {exc.strerror or exc}") from exc
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        yield out


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise ValueError(text)
    return number


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the command's own output


def _refuse(reason: str, code: int) -> int:
    print(f"molecule-audit: {reason}", file=sys.stderr)  # noqa: T201 - the command's own error line
    return code


if __name__ == "__main__":
    sys.exit(main())
