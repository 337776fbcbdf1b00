"""Hot reload: the skills again, each time their folder has changed and then stayed quiet."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from stat import S_ISDIR
from typing import TYPE_CHECKING, Final

from watchfiles import DefaultFilter, awatch  # pyright: ignore[reportUnknownVariableType] (its types mention trio, which is not installed)

from molecule_runtime.skills.loader import discover

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from molecule_runtime.skills.loader import Discovery

DEBOUNCE_SECONDS: Final = 2.0

_MAX_UNREAD = 15
"""A folder that never falls quiet is read anyway after this many groups of changes."""


async def watch(
    skills_dir: Path,
    *,
    runtime: str | None = None,
    stop_event: asyncio.Event | None = None,
    debounce: float = DEBOUNCE_SECONDS,
) -> AsyncGenerator[Discovery, None]:
    """Yield the skills after each change below a folder.

    The skills as they are at the start are not yielded; call `discover` for those. The folder may be missing: it is watched for
    from the nearest folder above that exists. Reading happens in a thread, so the event loop is not held up.

    Args:
        skills_dir: the folder of the skills, usually `<configs>/skills`.
        runtime: leave out skills that are meant for other runtimes.
        stop_event: ends the iteration when set. It is also set when the iterating task is cancelled.
        debounce: seconds without a further change after which a change counts as finished.
    """
    stop = stop_event or asyncio.Event()
    unread = 0
    while not stop.is_set():
        place = _Place.of(skills_dir)
        changes = awatch(
            place.folder,
            watch_filter=DefaultFilter(),
            recursive=place.complete,
            stop_event=stop,
            # With a timeout of the quiet time, an empty set says that nothing has happened for that long.
            rust_timeout=max(1, round(debounce * 1000)),
            yield_on_timeout=True,
        )
        async with aclosing(changes):
            async for changed in changes:
                now = _Place.of(skills_dir)
                if now != place:
                    # The folder appeared, disappeared or was replaced: watch the right one before reading it, so that
                    # nothing is missed in between.
                    unread += place.complete or now.complete
                    break
                unread += bool(changed) and place.complete
                if unread and (not changed or unread >= _MAX_UNREAD):
                    unread = 0
                    yield await asyncio.to_thread(discover, skills_dir, runtime=runtime)
            else:
                return


@dataclass(frozen=True, slots=True)
class _Place:
    """What is being watched, told apart from a folder that later takes its name."""

    folder: Path
    device: int
    inode: int
    complete: bool
    """Whether it is the skills folder itself and not one above."""

    @classmethod
    def of(cls, skills_dir: Path) -> _Place:
        """Return the skills folder, or the nearest folder above it that exists."""
        wanted = skills_dir.absolute()
        for folder in (wanted, *wanted.parents):
            try:
                found = folder.stat()
            except OSError:
                continue
            if S_ISDIR(found.st_mode):
                return cls(folder, found.st_dev, found.st_ino, folder == wanted)
        message = f"no folder exists above {wanted}"
        raise FileNotFoundError(message)
