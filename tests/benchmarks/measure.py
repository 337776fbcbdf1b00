"""Times whole commands, in turn, so that the ratio of two holds when the machine's speed drifts."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds of one command over several runs."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.seconds)


def compare(commands: Mapping[str, Sequence[str]], *, runs: int, timeout: float = 120.0) -> list[Timing]:
    """Run every command `runs` times, one after the other in each round, after one round that does not count.

    Raises:
        subprocess.CalledProcessError: a command failed; its output is in the exception.
    """
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for counted in range(runs + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(list(command), check=True, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
            if counted:
                taken[name].append(time.perf_counter() - started)
    return [Timing(name, tuple(seconds)) for name, seconds in taken.items()]


def report(timings: Sequence[Timing], *, floor: str) -> str:
    """Return a table of medians, spreads and ratios to the command named `floor`."""
    base = next(timing.median for timing in timings if timing.name == floor)
    width = max(len(timing.name) for timing in timings)
    lines = [f"{'command':<{width}}  {'median s':>9}  {'min':>7}  {'max':>7}  {'ratio':>6}"]
    lines += [
        f"{timing.name:<{width}}  {timing.median:9.3f}  {min(timing.seconds):7.3f}  {max(timing.seconds):7.3f}  {timing.median / base:6.2f}"
        for timing in timings
    ]
    return "\n".join(lines)
