from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from molecule_runtime.skills import watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from molecule_runtime.skills import Discovery

GOOD = "---\nname: x\ndescription: y\n---\n"
QUIET = 0.1
BOUND = 20.0


def add(skills_dir: Path, name: str, text: str = GOOD) -> None:
    (skills_dir / name).mkdir(parents=True, exist_ok=True)
    (skills_dir / name / "SKILL.md").write_text(text, encoding="utf-8")


def ids(found: Discovery) -> list[str]:
    return [skill.id for skill in found]


class Watching:
    """Collects what a watch yields; `until` waits for a state without a clock."""

    def __init__(self, quiet: float) -> None:
        self.quiet = quiet
        self.seen: list[Discovery] = []
        self.stop = asyncio.Event()
        self._changed = asyncio.Condition()

    async def collect(self, skills_dir: Path, runtime: str | None) -> None:
        async with aclosing(watch(skills_dir, runtime=runtime, stop_event=self.stop, debounce=self.quiet)) as found:
            async for skills in found:
                async with self._changed:
                    self.seen.append(skills)
                    self._changed.notify_all()

    async def until(self, change: Callable[[], object], expected: list[str]) -> Discovery:
        """Make a change, again and again until it is seen: the watch may not have begun yet when it is first made."""
        before = len(self.seen)
        async with asyncio.timeout(BOUND), self._changed:
            while not (len(self.seen) > before and ids(self.seen[-1]) == expected):
                change()
                try:
                    async with asyncio.timeout(5 * self.quiet):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        return self.seen[-1]


@asynccontextmanager
async def watching(
    skills_dir: Path, *, runtime: str | None = None, quiet: float = QUIET
) -> AsyncGenerator[Watching, None]:
    state = Watching(quiet)
    async with asyncio.timeout(2 * BOUND), asyncio.TaskGroup() as tasks:
        tasks.create_task(state.collect(skills_dir, runtime))
        yield state
        state.stop.set()


def test_added_changed_and_removed_skills_are_yielded_as_the_new_whole(tmp_path: Path) -> None:
    async def main() -> None:
        add(tmp_path, "a")
        async with watching(tmp_path) as state:
            await state.until(lambda: add(tmp_path, "b"), ["a", "b"])
            found = await state.until(lambda: add(tmp_path, "b", GOOD.replace("y", "z")), ["a", "b"])
            assert found[1].description == "z"
            await state.until(lambda: shutil.rmtree(tmp_path / "a", ignore_errors=True), ["b"])

    asyncio.run(main())


def test_a_skill_that_breaks_is_yielded_as_an_error_beside_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        add(tmp_path, "a")
        add(tmp_path, "b")
        async with watching(tmp_path) as state:
            found = await state.until(lambda: add(tmp_path, "b", "---\n"), ["a"])
            assert [error.skill for error in found.errors] == ["b"]

    asyncio.run(main())


def test_many_changes_at_once_are_one_reload(tmp_path: Path) -> None:
    async def main() -> None:
        async with watching(tmp_path, quiet=0.5) as state:
            await state.until(lambda: add(tmp_path, "first"), ["first"])
            before = len(state.seen)
            names = [f"s{number}" for number in range(20)]

            def write_all() -> None:
                for name in names:
                    add(tmp_path, name)

            await state.until(write_all, sorted(["first", *names]))
            assert len(state.seen) == before + 1

    asyncio.run(main())


def test_a_folder_that_appears_later_is_watched(tmp_path: Path) -> None:
    skills_dir = tmp_path / "configs" / "skills"

    async def main() -> None:
        async with watching(skills_dir) as state:
            await state.until(lambda: add(skills_dir, "a"), ["a"])
            await state.until(lambda: add(skills_dir, "b"), ["a", "b"])

    asyncio.run(main())


def test_a_folder_that_is_removed_or_replaced_is_still_watched(tmp_path: Path) -> None:
    skills_dir = tmp_path / "skills"
    add(skills_dir, "a")

    def replace() -> None:
        if skills_dir.exists():
            skills_dir.rename(tmp_path / "old")
        add(skills_dir, "b")

    async def main() -> None:
        async with watching(skills_dir) as state:
            await state.until(lambda: add(skills_dir, "a2"), ["a", "a2"])
            await state.until(replace, ["b"])
            await state.until(lambda: add(skills_dir, "c"), ["b", "c"])
            await state.until(lambda: shutil.rmtree(skills_dir, ignore_errors=True), [])
            await state.until(lambda: add(skills_dir, "d"), ["d"])

    asyncio.run(main())


def test_only_skills_of_the_named_runtime_are_yielded(tmp_path: Path) -> None:
    async def main() -> None:
        add(tmp_path, "other", GOOD.replace("name", "runtime: hermes\nname"))
        async with watching(tmp_path, runtime="langgraph") as state:
            await state.until(lambda: add(tmp_path, "mine"), ["mine"])

    asyncio.run(main())


def test_a_stop_event_that_is_set_ends_the_iteration_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        stop.set()
        async with asyncio.timeout(BOUND):
            assert [found async for found in watch(tmp_path, stop_event=stop)] == []

    asyncio.run(main())


def test_cancelling_the_iterating_task_ends_the_watch(tmp_path: Path) -> None:
    async def main() -> None:
        async def iterate() -> None:
            async for _ in watch(tmp_path):
                raise NotImplementedError

        task = asyncio.create_task(iterate())
        await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(BOUND):
            await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
