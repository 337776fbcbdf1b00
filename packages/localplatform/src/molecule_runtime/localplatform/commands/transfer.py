"""`molecule-local export` and `import`: the database as portable JSON. They work on its file, not through a running platform."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from molecule_runtime.core import console
from molecule_runtime.localplatform import timestamps
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.errors import CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Generator

_STANDARD = "-"
_COPIED_BYTES = 1024 * 1024


def add_export_arguments(parser: options.Parser) -> None:
    """Add the arguments of `export`."""
    options.add_data(parser)
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default=_STANDARD, help="where to (default: -, the standard output)"
    )
    parser.add_argument(
        "--with-secrets",
        action="store_true",
        help="tokens, inbound secrets and the values of secrets, too; without it agents get new tokens when they register",
    )
    parser.add_argument("--json", action="store_true", help="with FILE: print how many rows of what as JSON")
    parser.add_examples("""
molecule-local export team.json
molecule-local export --with-secrets backup.json
molecule-local export | gzip > team.json.gz
""")
    parser.set_defaults(run=run_export)


def add_import_arguments(parser: options.Parser) -> None:
    """Add the arguments of `import`."""
    options.add_data(parser)
    parser.add_argument("file", metavar="FILE", help="an export (- is the standard input)")
    parser.add_argument(
        "--replace", action="store_true", help="in place of what is there, of which a copy stays in the data folder"
    )
    parser.add_argument("--json", action="store_true", help="print how many rows of what as JSON")
    parser.add_examples("""
molecule-local import team.json
molecule-local import team.json --data ./copy && molecule-local up --data ./copy
molecule-local import backup.json --replace
""")
    parser.set_defaults(run=run_import)


def run_export(args: argparse.Namespace) -> int:
    """Write an export."""
    from molecule_runtime.localplatform import portable
    from molecule_runtime.localplatform.platform import DATABASE_FILE

    database = options.data_folder(args) / DATABASE_FILE
    now = timestamps.from_seconds(time.time())

    def write_with(write: Callable[[bytes], object]) -> dict[str, int]:
        return portable.export(database, write, with_secrets=args.with_secrets, now=now)

    if args.file == _STANDARD:
        write_with(sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return 0
    target = Path(args.file).expanduser()
    with _replacing(target) as handle:
        counts = write_with(handle.write)
    _report(args, counts, f"exported to {target}", file=str(target))
    if not args.json and not args.with_secrets:
        console.remark("without tokens and secrets; --with-secrets has them, too")
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Read an export into the data folder."""
    from molecule_runtime.localplatform import portable
    from molecule_runtime.localplatform.platform import DATABASE_FILE, locked, prepare_folder

    folder = options.data_folder(args)
    prepare_folder(folder)
    database = folder / DATABASE_FILE
    with locked(folder), contextlib.ExitStack() as stack:
        replaced = not portable.is_empty(database)
        if replaced and not args.replace:
            raise CommandError(
                f"{str(database)!r} holds a team already; name another folder with --data, or use --replace (a copy of it is kept)"
            )
        scratch = folder / f".import.{secrets.token_hex(8)}"
        stack.callback(scratch.unlink, missing_ok=True)
        source = stack.enter_context(_source(args.file, folder))
        header = portable.read_header(source)
        source.seek(0)
        counts = portable.build(scratch, source, header)
        backup = _exchange(scratch, database, keep=replaced)
    _report(
        args, counts, f"imported into {folder}", database=str(database), backup=None if backup is None else str(backup)
    )
    if not args.json:
        if backup is not None:
            console.say(f"what was there before is in {backup}")
        if not header.with_secrets:
            console.say(
                "the export had no tokens: agents get new ones when they register; `molecule-local token create` makes others"
            )
    return 0


def _report(args: argparse.Namespace, counts: dict[str, int], done: str, **more: str | None) -> None:
    if args.json:
        console.emit({**more, "rows": counts})
        return
    told = [f"{number} {table}" for table, number in counts.items() if number]
    console.say(f"{done}: {', '.join(told) or 'nothing, it is empty'}")


@contextlib.contextmanager
def _replacing(target: Path) -> Generator[IO[bytes]]:
    """Write a file that takes its place when it is complete; only its owner may read it."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise CommandError(f"{str(target)!r} cannot be written: {exc.strerror or exc}") from None


@contextlib.contextmanager
def _source(name: str, folder: Path) -> Generator[IO[str]]:
    """Open an export for reading it twice."""
    with contextlib.ExitStack() as stack:
        path = Path(name).expanduser()
        try:
            if name == _STANDARD or not path.is_file():
                # A pipe cannot be read twice.
                path = folder / f".import.{secrets.token_hex(8)}.json"
                stack.callback(path.unlink, missing_ok=True)
                piped = (
                    sys.stdin.buffer if name == _STANDARD else stack.enter_context(Path(name).expanduser().open("rb"))
                )
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                    shutil.copyfileobj(piped, handle, _COPIED_BYTES)
            source = stack.enter_context(path.open(encoding="utf-8"))
        except OSError as exc:
            raise CommandError(f"{name!r} cannot be read: {exc.strerror or exc}") from None
        yield source


def _exchange(scratch: Path, database: Path, *, keep: bool) -> Path | None:
    """Put a new database in the place of the old one, at once; returns where the old one is kept."""
    from molecule_runtime.localplatform import portable

    backup: Path | None = None
    try:
        if database.exists():
            portable.settle(database)
        if keep:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            backup = database.with_name(f"{database.name}.before-import-{stamp}-{secrets.token_hex(2)}")
            try:
                backup.hardlink_to(database)
            except OSError:  # not on every file system
                shutil.copy2(database, backup)
        with scratch.open("rb") as handle:
            os.fsync(handle.fileno())
        scratch.replace(database)
        descriptor = os.open(database.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise CommandError(f"{str(database)!r} cannot be replaced: {exc.strerror or exc}") from None
    return backup
