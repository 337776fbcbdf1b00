"""Processes of our commands that are forked from one which has imported everything already.

A command spends one or two seconds of processor time on imports before it does anything. These are processes of their own all the same,
with pipes, an environment, a folder, signals and an exit code of their own, and they run `main()` as the whole process. How a cold one
starts is told by the tests of each command (`test_command.py` in the tests of the wheels, `test_launch.py` in those of mcp), of the demo
and of the seeded team.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process, UNIXSocketStream
from tests.support.warm_launcher import locked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO, TextIO

_SECONDS = 90.0


class WarmProcess:
    """A process; its methods are those of `subprocess.Popen`."""

    def __init__(
        self, command: str, arguments: Sequence[str], environ: Mapping[str, str], folder: Path, streams: Sequence[int]
    ) -> None:
        """Start it with these descriptors as stdin, stdout and stderr."""
        request = {
            "arguments": list(arguments),
            "environ": dict(environ),
            "folder": str(folder),
            "umask": int(re.findall(r"^Umask:\s*(\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)[0], 8),
        }
        self._command = command
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_socket_of(command))
        data = repr(request).encode() + b"\n"
        self._connection.sendall(data[socket.send_fds(self._connection, [data], streams) :])
        # The number is its own until its end was told, and the handle for ever.
        pid, (self._handle,), _, _ = socket.recv_fds(self._connection, 64, 1, socket.MSG_CMSG_CLOEXEC)
        self.pid = int(pid)

    def fileno(self) -> int:
        """Return a descriptor that is readable when it has ended."""
        return self._connection.fileno()

    def poll(self) -> int | None:
        """Return the exit code, if it has ended."""
        return self._ended(0)

    def wait(self, timeout: float = _SECONDS) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(self._command, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float) -> int | None:
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        ended = poller.poll(seconds * 1000)
        with self._lock:
            if ended and self.returncode is None:
                self.returncode = int(self._connection.recv(64))
            return self.returncode

    def __del__(self) -> None:
        """Let go of the handles."""
        self._connection.close()
        os.close(self._handle)


def start(
    command: str, arguments: Sequence[str] = (), *, environ: Mapping[str, str], folder: Path, log: Path
) -> WarmProcess:
    """Run a command in a folder; what it prints is added to a file."""
    with Path(os.devnull).open("rb") as nothing, log.open("ab") as output:
        streams = (nothing.fileno(), output.fileno(), output.fileno())
        return WarmProcess(command, arguments, environ, folder, streams)


def run_program(text: str, *arguments: str) -> tuple[WarmProcess, TextIO]:
    """Run a program as `python -c` does; what it prints is read from the stream."""
    reading, writing = os.pipe()
    with Path(os.devnull).open("rb") as nothing, os.fdopen(writing, "wb") as output:
        streams = (nothing.fileno(), output.fileno(), 2)
        return WarmProcess("python", ["-c", text, *arguments], os.environ, Path.cwd(), streams), os.fdopen(reading)


async def open_process(
    command: str,
    arguments: Sequence[str] = (),
    *,
    environ: Mapping[str, str],
    stderr: IO[Any] | None = None,
    stdin: int = subprocess.PIPE,
) -> Process:
    """Run a command as `anyio.open_process` does: with pipes, unless its stdin is `DEVNULL` or its stderr is a file."""
    with ExitStack() as theirs:
        sending: UNIXSocketStream | None = None
        if stdin == subprocess.PIPE:
            # A socket in both directions, as asyncio has it.
            ours, other = socket.socketpair()
            reading = other.detach()
            sending = await UNIXSocketStream.from_socket(ours)
        else:
            reading = os.open(os.devnull, os.O_RDONLY)
        theirs.callback(os.close, reading)
        said, writing = await _Output.opened(theirs)
        complaints: _Output | None = None
        if stderr is None:
            complaints, complaining = await _Output.opened(theirs)
        else:
            complaining = stderr.fileno()
        streams = (reading, writing, complaining)
        folder = Path.cwd()
        process = await anyio.to_thread.run_sync(WarmProcess, command, arguments, environ, folder, streams)
        return _Opened(process, sending, said, complaints)


def stand_in(command: str, pid_file: Path) -> list[str]:
    """Return a command line that runs a command for a program that starts it itself; the file tells the number of the process."""
    # As little as possible of Python: it only passes things on.
    return [
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("warm_stand_in.py")),
        _socket_of(command),
        str(pid_file),
    ]


class _Output(ByteReceiveStream):
    """What comes out of a pipe."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._reader = reader
        self._transport = transport

    @classmethod
    async def opened(cls, theirs: ExitStack) -> tuple[_Output, int]:
        """Open a pipe; its other end is for the process, and is closed here with the stack."""
        readable, writing = os.pipe()
        theirs.callback(os.close, writing)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(readable, "rb", buffering=0)
        )
        return cls(reader, transport), writing

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self._reader.read(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        self._transport.close()
        await anyio.lowlevel.checkpoint()


class _Opened(Process):
    def __init__(
        self, process: WarmProcess, stdin: UNIXSocketStream | None, stdout: _Output, stderr: _Output | None
    ) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True) as scope:
            for stream in (self._stdin, self._stdout, self._stderr):
                if stream is not None:
                    await stream.aclose()
            scope.shield = False
            try:
                await self.wait()
            except BaseException:
                scope.shield = True
                self.kill()
                await self.wait()
                raise

    async def wait(self) -> int:
        while (code := self._process.poll()) is None:
            await anyio.wait_readable(self._process)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, signal: int) -> None:
        self._process.send_signal(signal)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def stdin(self) -> UNIXSocketStream | None:
        return self._stdin

    @property
    def stdout(self) -> _Output:
        return self._stdout

    @property
    def stderr(self) -> _Output | None:
        return self._stderr


_launching = threading.Lock()
_sockets: dict[str, str] = {}
_using: list[int] = []
_started: list[subprocess.Popen[bytes]] = []


def _socket_of(command: str) -> str:
    """Return the socket of the process that those of a command are forked from; one for all workers of a run of the tests."""
    with _launching:
        if command not in _sockets:
            run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
            _sockets[command] = _launched(command, Path(tempfile.gettempdir(), f"warm-{os.getuid()}-{run}"))
        return _sockets[command]


def _launched(command: str, folder: Path) -> str:
    """Take part in the use of a launcher, until this process ends; the first one starts it, and it ends after the last one."""
    path, users = folder / command, folder / f"{command}.users"
    with locked(folder):
        if path.exists():
            _using.append(os.open(users, os.O_WRONLY))
            return str(path)
        os.mkfifo(users, 0o600)
        reading = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
        _using.append(os.open(users, os.O_WRONLY))
        launcher = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_launcher.py")), command, str(folder)],
            stdin=reading,
            stdout=subprocess.PIPE,
        )
        os.close(reading)
        _started.append(launcher)
        assert launcher.stdout is not None
        assert launcher.stdout.readline(), f"the launcher of {command} does not start"
        return str(path)


@atexit.register
def _leave() -> None:
    for using in _using:
        os.close(using)
    # Not before: others may wait for what this process uses.
    for launcher in _started:
        launcher.communicate()
