"""The gate before the code: a launcher inside the sandbox lowers its limits, says that it is confined, and waits until it is let go on."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molecule_runtime.tools.sandbox.job import Limits

CANNOT_START: Final = 125
"""Exit status of a launcher that never ran the code."""

# The limits hold for everything that comes after; only a process with privileges, which none has here, could raise them again.
# The kernel's killer of last resort should take these processes rather than the runtime.
_SCRIPT: Final = f"""\
ready=$1 go=$2
ulimit -c 0 && ulimit -d "$3" && ulimit -f "$4" && ulimit -n "$5" && ulimit -u "$6" || exit {CANNOT_START}
{{ echo 1000 >/proc/self/oom_score_adj; }} 2>/dev/null
printf . >&"$ready" || exit {CANNOT_START}
exec {{ready}}>&-
IFS= read -r -N 1 -u "$go" || exit {CANNOT_START}
exec {{go}}<&-
shift 6
exec "$@"
"""


@dataclass(slots=True, kw_only=True)
class Gate:
    """Two pipes between a launcher and this process.

    Attributes:
        ready: the launcher's end for saying that it is confined.
        go: the launcher's end for waiting.
    """

    ready: int
    go: int
    _said: int
    _lift: int

    @classmethod
    def open(cls, stack: ExitStack) -> Gate:
        """Open it; the stack closes this process' ends, and `started` the launcher's."""
        said, ready = os.pipe()
        go, lift = os.pipe()
        gate = cls(ready=ready, go=go, _said=said, _lift=lift)
        stack.callback(gate.close)
        os.set_blocking(said, False)
        return gate

    def launcher(self, bash: str, limits: Limits, command: Sequence[str]) -> list[str]:
        """Return the command of a launcher that becomes `command` when the gate is lifted."""
        numbers = (
            self.ready,
            self.go,
            limits.memory // 1024,
            limits.disk // 1024,
            limits.open_files,
            limits.processes,
        )
        return [bash, "-c", _SCRIPT, "launcher", *map(str, numbers), *command]

    def started(self) -> None:
        """Close the launcher's ends in this process, so that its death is seen."""
        for end in (self.ready, self.go):
            if end >= 0:
                os.close(end)
        self.ready = self.go = -1

    async def reached(self) -> bool:
        """Wait for the launcher; False where it ended before."""
        await anyio.wait_readable(self._said)
        return bool(os.read(self._said, 1))

    def lift(self) -> None:
        """Let the code run."""
        with suppress(BrokenPipeError):
            os.write(self._lift, b"\n")

    def close(self) -> None:
        """Close everything that is still open."""
        self.started()
        os.close(self._said)
        os.close(self._lift)
