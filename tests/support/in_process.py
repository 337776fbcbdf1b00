"""Runs the `main()` of a command here, with streams and an environment of its own: what it prints, and how it ends.

A Python that starts and imports is most of what such a command costs. What is stopped, killed or looked at from outside needs a process,
and each command has tests that run it as one.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

_ONE_AT_A_TIME = threading.Lock()
"""Streams and environment are those of the whole process."""


@dataclass(frozen=True)
class Done:
    """A command that ended; the names are those of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def run_main(main: Callable[[list[str]], int], *arguments: str, environ: Mapping[str, str], stdin: bytes = b"") -> Done:
    """Call a `main(argv)` as a process with pipes would; `SystemExit` is the exit code that it carries."""
    encoding = environ.get("PYTHONIOENCODING", "utf-8")
    with (
        _ONE_AT_A_TIME,
        _streams(stdin, encoding) as (out, err),
        _logging(),
        mock.patch.dict(os.environ, environ, clear=True),
    ):
        try:
            code = main(list(arguments))
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
        sys.stdout.flush()
        return Done(code, out.getvalue().decode(), err.getvalue().decode())


@contextmanager
def _streams(stdin: bytes, encoding: str) -> Generator[tuple[io.BytesIO, io.BytesIO]]:
    out, err = io.BytesIO(), io.BytesIO()
    with (
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding)),
        mock.patch.object(sys, "stdout", io.TextIOWrapper(out, encoding)),
        mock.patch.object(
            sys, "stderr", io.TextIOWrapper(err, encoding, errors="backslashreplace", write_through=True)
        ),
    ):
        yield out, err


@contextmanager
def _logging() -> Generator[None]:
    """Put back what a command does to the log and to warnings, which are its own as long as it has the process to itself."""
    root = logging.getLogger()
    handlers, show = list(root.handlers), warnings.showwarning
    levels = {logger: logger.level for logger in (root, *_loggers())}
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        warnings.showwarning = show
        root.handlers[:] = handlers
        for logger in _loggers():
            logger.setLevel(levels.get(logger, logging.NOTSET))
        root.setLevel(levels[root])


def _loggers() -> list[logging.Logger]:
    return [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
