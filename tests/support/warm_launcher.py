"""A process that has imported one of our commands and forks a process of it for each connection to its socket; see `warm.py`.

Run as `python warm_launcher.py COMMAND FOLDER`: it says on stdout that it listens, and ends when its stdin does.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

COMMANDS = {
    "molecule-runtime": (
        "molecule_runtime.a2a.cli",
        # What `main()` imports when it has found nothing wrong, and what a host then uses.
        ("molecule_runtime.a2a.boot", "molecule_runtime.a2a.smoke"),
    ),
    "molecule-mcp": (
        "molecule_runtime.mcp.launch",
        (
            "molecule_runtime.mcp.cli",
            "molecule_runtime.mcp.early",
            "molecule_runtime.mcp.ending",
            "molecule_runtime.mcp.http_server",
            "molecule_runtime.mcp.stdio",
            "molecule_runtime.mcp.wire",
            "molecule_runtime.tools.telemetry_sdk",
        ),
    ),
    "molecule-local": (
        "molecule_runtime.localplatform.cli",
        (
            "molecule_runtime.localplatform.commands.chat",
            "molecule_runtime.localplatform.commands.frames",
            "molecule_runtime.localplatform.commands.logs",
            "molecule_runtime.localplatform.commands.up",
            "molecule_runtime.localplatform.commands.watch",
            "molecule_runtime.localplatform.server",
            "molecule_runtime.localplatform.team.staffing",
        ),
    ),
}
"""For each command the module whose `main()` it is, and what that imports later."""

PYTHON = ("molecule_runtime.tools", "molecule_runtime.tools.audit", "molecule_runtime.mcp.store")
"""What programs that are given with `python -c` import."""


@dataclass(frozen=True)
class _Child:
    pid: int
    handle: int
    connection: socket.socket

    def close(self) -> None:
        os.close(self.handle)
        self.connection.close()


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Make a folder and have it for oneself."""
    handle = _lock(folder)
    try:
        yield
    finally:
        os.close(handle)


def _lock(folder: Path) -> int:
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        # Somebody may remove it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == folder.stat().st_ino:
                    return handle
            os.close(handle)


def serve(command: str, folder: Path) -> None:
    """Fork a process for each connection and tell it how that ended; ends with stdin, that is when nobody uses it any more."""
    main: Callable[[], int | None] = _program
    later: tuple[str, ...] = PYTHON
    if command != "python":
        module, later = COMMANDS[command]
        main = importlib.import_module(module).main
    for name in later:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork would lose the other threads"
    gc.collect()
    gc.freeze()
    children: dict[int, _Child] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / command))
        listener.listen(64)
        os.write(1, b"listening\n")
        poll, poll_of_stdin = select.poll(), select.poll()
        for one in (poll, poll_of_stdin):
            one.register(0)
        poll.register(listener, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == 0:
                    with locked(folder):
                        if not poll_of_stdin.poll(0):
                            # Somebody has come meanwhile.
                            continue
                        for name in (command, f"{command}.users"):
                            (folder / name).unlink()
                        with contextlib.suppress(OSError):
                            folder.rmdir()
                        return
                if (child := children.pop(descriptor, None)) is not None:
                    poll.unregister(descriptor)
                    _tell_end(child)
                    continue
                connection, _ = listener.accept()
                request, given = _receive(connection)
                pid = os.fork()
                if not pid:
                    for forked in children.values():
                        forked.close()
                    connection.close()
                    listener.close()
                    _become(command, request, given)
                    sys.exit(main())
                for number in given:
                    os.close(number)
                handle = os.pidfd_open(pid)
                children[handle] = _Child(pid, handle, connection)
                poll.register(handle, select.POLLIN)
                socket.send_fds(connection, [str(pid).encode()], [handle])


def _program() -> None:
    """Be `python -c`."""
    option, text, *arguments = sys.argv[1:]
    assert option == "-c"
    sys.argv[:] = [option, *arguments]
    exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as Python does it


def _tell_end(child: _Child) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    # Perhaps nobody wants to know.
    with contextlib.suppress(OSError):
        child.connection.sendall(str(code).encode())
    child.close()


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read a line that is a Python literal; what will be stdin, stdout and stderr comes along."""
    data, given, _, _ = socket.recv_fds(connection, 65536, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(65536)
    return ast.literal_eval(data.decode()), given


def _become(command: str, request: dict[str, Any], given: list[int]) -> None:
    """Put on what a process gets from whoever starts it."""
    for number, opened in enumerate(given):
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    environ: dict[str, str] = request["environ"]
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    if "PYTHONWARNINGS" in environ:
        assert environ["PYTHONWARNINGS"] == "error", "other ones are not needed yet"
        warnings.simplefilter("error")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:] = [command, *request["arguments"]]
    # The folder of this file is first, as that of a script is.
    sys.path[0:1] = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    importlib.invalidate_caches()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
