"""Follows the file of workspaces while the process runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.core.targets import examine_targets, fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from molecule_runtime.core.targets import Findings, Fingerprint, WorkspaceTarget

LOOK_SECONDS: Final = 2.0
"""Between looks at the file: one stat(2) each, on a thread, since a folder may be on a network."""

TRY_AGAIN_LOOKS: Final = 5
"""Looks after which settings that cannot be used are read again: the token file that they name may be there by now."""


class FileWatch:
    """Tells what the settings say each time the file changed.

    A file that cannot be used is told only when it has stayed as it is from one look to the next: somebody may be writing it.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str] | None,
        *,
        on_targets: Callable[[list[WorkspaceTarget]], Awaitable[None]],
        on_problems: Callable[[list[str]], None],
    ) -> None:
        self._path = path
        self._environ = environ
        self._on_targets = on_targets
        self._on_problems = on_problems
        # In tuples, since None is what a missing file looks like.
        self._settled: tuple[Fingerprint | None] | None = None
        self._doubtful: tuple[Fingerprint | None] | None = None
        self._told: list[str] = []
        self._looks = 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        seen = (await anyio.to_thread.run_sync(fingerprint, self._path),)
        self._looks += 1
        again = bool(self._told) and self._looks % TRY_AGAIN_LOOKS == 0
        if seen == self._settled and not again:
            return
        found: Findings = await anyio.to_thread.run_sync(examine_targets, self._environ)
        if not found.errors:
            self._settled, self._doubtful, self._told = seen, None, []
            await self._on_targets(found.targets)
        elif seen != self._doubtful:
            # Not settled: the next look reads it again.
            self._doubtful = seen
        else:
            self._settled = seen
            if found.errors != self._told:
                self._told = found.errors
                self._on_problems(found.errors)
