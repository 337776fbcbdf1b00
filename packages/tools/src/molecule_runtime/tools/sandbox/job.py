"""What a sandbox is asked to run, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol, TypeAlias

from molecule_runtime.tools.errors import ToolRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from molecule_runtime.core.config import SandboxConfig

MIB: Final = 1024 * 1024

MAX_OUTPUT_CHARS: Final = 10_000
"""Kept of each stream; contract `workspace-host.md` 19.7."""

MAX_PRODUCED_BYTES: Final = 8 * MIB
"""Of both streams together. What writes more is ended: reading it on would only keep this process busy."""

MAX_INPUT_BYTES: Final = 32 * MIB
"""Of all files that are passed in."""

MAX_COLLECTED_BYTES: Final = 32 * MIB
"""Of all files that are collected."""

Language: TypeAlias = Literal["python", "node", "bash"]
"""What code may be written in; contract `workspace-host.md` 19.7."""

Ended: TypeAlias = Literal["", "timeout", "output", "memory"]
"""Why a sandbox ended a run; `""` where it ended by itself."""

_UNITS: Final[Mapping[str, int]] = {"b": 1, "k": 1024, "m": MIB, "g": 1024 * MIB}
_LEAST_MEMORY = 16 * MIB


class SandboxUnavailableError(ToolRefusedError):
    """The backend that is configured cannot be used; the message says what to do. Nothing was run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use.

    Attributes:
        memory: bytes of the whole run, beside what its files take.
        seconds: wall clock.
        cpus: processors, where the backend can limit them (docker, cgroup v2).
        network: whether it may use the network, with all that this machine can reach.
        processes: processes and threads at a time.
        disk: bytes in its folder, and as many in its /tmp.
        open_files: of one process.
    """

    memory: int = 256 * MIB
    seconds: float = 30.0
    cpus: float | None = None
    network: bool = False
    processes: int = 64
    disk: int = 64 * MIB
    open_files: int = 256

    @classmethod
    def from_config(cls, config: SandboxConfig) -> Limits:
        """Take the limits of a `sandbox` block."""
        return cls(
            memory=max(memory_bytes(config.memory_limit), _LEAST_MEMORY),
            seconds=config.timeout,
            cpus=config.cpu_limit,
            network=config.network is True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file for the code, open for reading at its start."""

    name: str
    descriptor: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run: the code lies with the inputs in a folder of its own, which is where it starts.

    Attributes:
        collect: names of files in that folder that are wanted afterwards.
    """

    language: Language
    code: str = field(repr=False)
    limits: Limits
    inputs: Sequence[InputFile] = ()
    collect: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What a stream brought: its beginning, and how many bytes it was in all."""

    text: str
    truncated: bool
    produced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        exit_code: of the code; 128 and the number of the signal that ended it; -1 where the sandbox ended it.
        ended: why the sandbox ended it.
        files: those collected, by name.
        not_collected: why a wanted file is not among them, by name.
    """

    exit_code: int
    stdout: Captured
    stderr: Captured
    seconds: float
    ended: Ended = ""
    image: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    not_collected: Mapping[str, str] = field(default_factory=dict[str, str])


class Backend(Protocol):
    """One way to isolate code. It never falls back to another."""

    name: ClassVar[str]
    """The name that the configuration has for it."""

    async def run(self, job: Job) -> Outcome:
        """Run code and return what came of it; when this returns or raises, nothing of it is alive any more.

        Raises:
            SandboxUnavailableError: it cannot be used here.
        """
        ...


def memory_bytes(text: str) -> int:
    """Read `256m`, `1g` or a number of bytes; the configuration has checked the form."""
    unit = text[-1:].lower()
    return int(text[:-1]) * _UNITS[unit] if unit in _UNITS else int(text)
