"""Imports modules in a bare interpreter and fails when an import does more than define things.

Run as `python -I -B -W error import_probe.py [--path FOLDER] MODULE...`; not itself a test module. It forbids, from the
start: network, threads, processes, writing to the file system, and (for our own modules) reading the environment.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import threading
import traceback
from typing import Any, NoReturn

FORBIDDEN_EVENTS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.mkdir",
        "os.posix_spawn",
        "os.putenv",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.system",
        "os.unsetenv",
        "shutil.rmtree",
        "signal.pthread_kill",
        "socket.__new__",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "sqlite3.connect",
        "_thread.start_new_thread",
        "subprocess.Popen",
    }
)
OWN = ("molecule_runtime", "faulty")
"""First parts of the names of the modules under test; `faulty` is the injected fault."""
PASSED_THROUGH = ("__main__", "os", "collections.abc", "_collections_abc")
"""Modules between a reader of the environment and the guard: the guard itself, `os.getenv`, `Mapping.get`."""


class SideEffectError(BaseException):
    """An import did something; not an `Exception`, so that no module can catch it by accident."""


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Raise for an audit event that has no place in an import."""
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event in FORBIDDEN_EVENTS or writes:
        message = f"{event} {arguments[0] if arguments else ''}"
        raise SideEffectError(message)


def refuse_to_start(thread: threading.Thread) -> NoReturn:
    """Stand in for `threading.Thread.start`."""
    message = f"thread {thread.name} started"
    raise SideEffectError(message)


def guard_environment() -> None:
    """Let third parties read the environment on import, but not our own modules."""
    environ_type: Any = type(os.environ)
    original = environ_type.__getitem__

    def read(environ: object, key: str) -> object:
        frame = inspect.currentframe()
        names: list[str] = []
        while frame is not None and (not names or names[-1] in PASSED_THROUGH):
            names.append(str(frame.f_globals.get("__name__")))
            frame = frame.f_back
        if names[-1].split(".")[0] in OWN:
            message = f"environment variable {key} read"
            raise SideEffectError(message)
        return original(environ, key)

    environ_type.__getitem__ = read


def say(line: str) -> None:
    """Report to the test that runs the probe."""
    sys.stdout.write(f"{line}\n")


def main(arguments: list[str]) -> int:
    """Import every named module; print one line for each failure."""
    if arguments[:1] == ["--path"]:
        sys.path.insert(0, arguments[1])
        arguments = arguments[2:]
    if not arguments:
        say("no module named")
        return 2
    thread_type: Any = threading.Thread
    thread_type.start = refuse_to_start
    guard_environment()
    sys.addaudithook(refuse)
    failures = 0
    for name in arguments:
        before = threading.active_count()
        try:
            importlib.import_module(name)
        except (SideEffectError, Exception, SystemExit) as error:
            failures += 1
            say(f"{name}: {type(error).__name__}: {error}")
            if failures == 1:
                traceback.print_exc(limit=-3)
        if threading.active_count() != before:
            failures += 1
            say(f"{name}: left a thread behind")
    say(f"{len(arguments) - failures} of {len(arguments)} imported without side effects")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
