"""For agents that are programs: one process for each turn, the prompt on its input, its lines of output as events."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from molecule_runtime.a2a.executors.events import AgentEvent
from molecule_runtime.a2a.executors.failures import (
    OUTPUT_TOO_LARGE,
    SESSION_ERROR,
    TIMEOUT,
    AgentFailure,
    SessionLostError,
    classify,
)
from molecule_runtime.a2a.executors.process_group import ProcessGroup
from molecule_runtime.a2a.executors.streaming import StreamingExecutor
from molecule_runtime.core import delegation_chain, env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import MIN_VALUE_CHARS, redact

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from pathlib import Path

    from molecule_runtime.a2a.executor import Turn
    from molecule_runtime.a2a.executors.attachments import Attachments
    from molecule_runtime.a2a.executors.sessions import Sessions

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "SSL_CERT_FILE")
"""Variables that every program gets; the others only by name."""

_STDERR_TAIL = 8 * 1024
_SECRET_NAME = re.compile(r"(?:TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS?)\Z")

Argv: TypeAlias = Callable[["Turn", str | None], Sequence[str]]
"""The program and its arguments for a turn and the session to continue, if there is one."""

ReadLine: TypeAlias = Callable[[str], Iterable[AgentEvent]]
"""The events of one line of output."""

Prompt: TypeAlias = Callable[["Turn"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CliLimits:
    """What one run of the program may take.

    Attributes:
        seconds: altogether.
        idle_seconds: without a line of output.
        line_bytes: of a line.
        output_bytes: of all lines.
    """

    seconds: float = 1800.0
    idle_seconds: float = 600.0
    line_bytes: int = 1024 * 1024
    output_bytes: int = 64 * 1024 * 1024


class CliExecutor(StreamingExecutor):
    """Runs a program for each turn and streams what `read_line` makes of its output.

    The program gets the prompt on its input, never among its arguments, which everybody on the machine can read, and only those
    variables that are named. It runs in a process group that ends with the turn, however that ends.

    Args:
        argv: never run by a shell. Refused when an argument holds a credential.
        read_line: of the program's stdout, without the newline. May raise `AgentFailure`.
        prompt: what the program reads; the turn's text by default.
        environ: variables to set, over those passed on.
        pass_on: names of further variables of this process that the program gets.
        folder: where the program runs.
        limits: of one run.
        attachments: see `StreamingExecutor`.
        sessions: see `StreamingExecutor`. `read_line` gets no turn: an engine that names its session in its output
            is continued with `session_in`.
        session_in: returns the session id that a line names, or None.
    """

    def __init__(
        self,
        argv: Argv,
        read_line: ReadLine,
        *,
        prompt: Prompt | None = None,
        environ: Mapping[str, str] | None = None,
        pass_on: Sequence[str] = (),
        folder: Path | None = None,
        limits: CliLimits | None = None,
        attachments: Attachments | None = None,
        sessions: Sessions | None = None,
        session_in: Callable[[str], str | None] | None = None,
    ) -> None:
        super().__init__(self._events, attachments=attachments, sessions=sessions)
        self._argv = argv
        self._read_line = read_line
        self._prompt = prompt or _text_of
        self._environ = dict(environ or {})
        self._variables = (*PASSED_ON, *pass_on)
        self._folder = folder
        self._limits = limits or CliLimits()
        self._session_in = session_in

    async def _events(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        session = await self._sessions.get(turn.context_id) if self._sessions is not None else None
        argv = list(self._argv(turn, session))
        current = env.current()
        _refuse_secrets(argv, {**current, **self._environ})
        environ = {name: current[name] for name in self._variables if name in current}
        environ |= delegation_chain.for_a_program() | self._environ
        group = await ProcessGroup.start(argv, environ=environ, folder=self._folder, line_bytes=self._limits.line_bytes)
        try:
            async with _Run(group, self._limits, self._prompt(turn)) as run:
                async with contextlib.aclosing(run.lines()) as lines:
                    async for line in lines:
                        await self._note_session(turn, line)
                        for event in self._read_line(line):
                            yield event
                await run.check()
        except AgentFailure as exc:
            if session is not None and exc.tag == SESSION_ERROR:
                raise SessionLostError(exc.detail) from exc
            raise

    async def _note_session(self, turn: Turn, line: str) -> None:
        if self._sessions is None or self._session_in is None:
            return
        session = self._session_in(line)
        if session:
            await self._sessions.keep(turn.context_id, session)


class _Run:
    """One run of the program, with those who look after its pipes."""

    def __init__(self, group: ProcessGroup, limits: CliLimits, prompt: str) -> None:
        self._group = group
        self._limits = limits
        self._prompt = prompt
        self._stderr = bytearray()
        self._deadline = time.monotonic() + limits.seconds
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Run:
        process = self._group.process
        assert process.stdin is not None and process.stderr is not None  # noqa: S101, PT018 - it was started with pipes
        self._tasks = [
            asyncio.create_task(_write(process.stdin, self._prompt)),
            asyncio.create_task(self._keep_tail(process.stderr)),
            asyncio.create_task(self._watch()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._group.end()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def lines(self) -> AsyncGenerator[str, None]:
        stdout = self._group.process.stdout
        assert stdout is not None  # noqa: S101 - it was started with pipes
        total = 0
        while True:
            left = min(self._limits.idle_seconds, self._deadline - time.monotonic())
            try:
                async with asyncio.timeout(max(left, 0)):
                    line = await stdout.readline()
            except TimeoutError:
                raise AgentFailure(TIMEOUT, self._tail()) from None
            except ValueError:
                raise AgentFailure(OUTPUT_TOO_LARGE, f"a line of more than {self._limits.line_bytes} bytes") from None
            if not line:
                return
            total += len(line)
            if total > self._limits.output_bytes:
                raise AgentFailure(OUTPUT_TOO_LARGE, f"more than {self._limits.output_bytes} bytes of output")
            yield line.decode(errors="replace").rstrip("\r\n")

    async def check(self) -> None:
        """Wait for the program to end.

        Raises:
            AgentFailure: it failed, or it does not end.
        """
        try:
            async with asyncio.timeout(max(min(self._limits.idle_seconds, self._deadline - time.monotonic()), 0)):
                code = await self._group.exited()
                # Its last words; whatever it left running is dead by now.
                await self._tasks[1]
        except TimeoutError:
            raise AgentFailure(TIMEOUT, self._tail()) from None
        if code != 0:
            raise AgentFailure(classify(self._tail(), code), self._tail())

    async def _watch(self) -> None:
        """End what the program leaves running, which would keep its output open for ever."""
        await self._group.exited()
        self._group.kill()

    async def _keep_tail(self, stderr: StreamReader) -> None:
        while chunk := await stderr.read(4096):
            self._stderr += chunk
            del self._stderr[:-_STDERR_TAIL]

    def _tail(self) -> str:
        return self._stderr.decode(errors="replace")


async def _write(stdin: StreamWriter, prompt: str) -> None:
    # A program that does not read its input to the end has its reasons.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(prompt.encode(errors="replace"))
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


def _text_of(turn: Turn) -> str:
    return turn.text


def _refuse_secrets(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    if not argv:
        raise ConfigurationError("argv is empty; it must name the program")
    secrets = [
        (name, value) for name, value in environ.items() if _SECRET_NAME.search(name) and len(value) >= MIN_VALUE_CHARS
    ]
    for number, argument in enumerate(argv):
        named = next((name for name, value in secrets if value in argument), None)
        if named is not None or redact(argument).counts:
            what = f"the value of {named}" if named else "what looks like a credential"
            raise ConfigurationError(
                f"argument {number} of {argv[0]!r} holds {what}, and everybody on this machine can read it there;"
                " pass it as a variable (environ, pass_on) or on the input"
            )
