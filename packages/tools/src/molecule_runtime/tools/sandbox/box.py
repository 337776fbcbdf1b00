"""The sandbox of a workspace: the backend that its configuration names, its limits, and how many runs there are at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.sandbox.bubblewrap import BubblewrapBackend
from molecule_runtime.tools.sandbox.cloud import CloudBackend
from molecule_runtime.tools.sandbox.docker import CONTAINER_START_SECONDS, DockerBackend
from molecule_runtime.tools.sandbox.job import Limits
from molecule_runtime.tools.sandbox.unconfined import UnconfinedBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.config import SandboxConfig
    from molecule_runtime.tools.sandbox.job import Backend, Job, Outcome

MAX_RUNS: Final = 4
"""At a time in one process."""

QUEUE_SECONDS: Final = 30.0
"""That a run waits for one of the others to end."""

LEAST_TIER: Final = 3
"""The tier from which on a workspace may run code (contract `workspace-host.md` 29.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """Where `run_code` runs."""

    backend: Backend
    limits: Limits
    _places: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MAX_RUNS))

    @classmethod
    def from_config(cls, config: SandboxConfig, environ: Mapping[str, str] | None = None) -> Sandbox:
        """Take a `sandbox` block. Whether its backend can be used shows in the first run: nothing else is taken in its place."""
        return cls(backend=_backend(config.backend, environ), limits=Limits.from_config(config))

    @property
    def deadline(self) -> float:
        """Seconds that a run may take with everything around it."""
        return QUEUE_SECONDS + CONTAINER_START_SECONDS + self.limits.seconds

    async def run(self, job: Job) -> Outcome:
        """Run code; see `Backend.run`.

        Raises:
            ToolRefusedError: too many runs are under way.
            SandboxUnavailableError: the backend cannot be used here.
        """
        try:
            with anyio.fail_after(QUEUE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise ToolRefusedError(
                f"{MAX_RUNS} runs of code are under way, and none ended within {QUEUE_SECONDS:.0f} s; try again later"
            ) from None
        try:
            return await self.backend.run(job)
        finally:
            self._places.release()


def _backend(name: str, environ: Mapping[str, str] | None) -> Backend:
    match name:
        case "docker":
            return DockerBackend(environ)
        case "e2b":
            return CloudBackend(environ)
        case "none":
            return UnconfinedBackend()
        case _:
            # `subprocess` was the predecessor's name for no isolation at all; whoever still has it asked for a sandbox, and gets one.
            return BubblewrapBackend()
