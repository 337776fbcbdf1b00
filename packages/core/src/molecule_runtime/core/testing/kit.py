"""What every part of the suite shares: the settings that an author may change, and how a check speaks."""

from __future__ import annotations

import asyncio
import contextlib
import unittest.mock
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast
from unittest import SkipTest

from molecule_runtime.core import env
from molecule_runtime.core.testing.host import FakeHost

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from pathlib import Path

    from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter
    from molecule_runtime.core.testing.platform import FakePlatform

_T = TypeVar("_T")

DEADLINE = 60.0
"""Seconds for anything that the suite waits for in an adapter."""


def expect(condition: object, message: str) -> None:
    """Fail the check unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def skip(reason: str) -> NoReturn:
    """Skip the check; the suite never passes one that it could not make."""
    raise SkipTest(reason)


def shown(exc: BaseException) -> str:
    """Return an exception in one line."""
    return f"{type(exc).__name__}: {exc}"


def claimed(value: object) -> Any:
    """Return a value whose type is what the adapter says it is, and not yet believed."""
    return value


class Kit:
    """Settings of the suite, to be changed in the subclass where an adapter needs it."""

    adapter_class: ClassVar[type[BaseAdapter]]
    """The adapter under test."""
    model: ClassVar[str] = "openai:gpt-conformance"
    runtime_config: ClassVar[dict[str, Any]] = {}
    """With which setup succeeds."""
    failing_runtime_config: ClassVar[dict[str, Any] | None] = None
    """With which setup must fail; None skips that check."""
    environ: ClassVar[dict[str, str]] = {}
    """Variables that the adapter needs, such as a key of its engine. HOME is always a fresh folder."""
    message: ClassVar[str] = "Hello! This is a conformance test; answer in one word."
    """What the executor is asked."""
    max_import_ratio: ClassVar[float] = 10.0
    """Time to import the adapter's module, as a multiple of that of core's own dependencies in the same run."""

    def make_adapter(self) -> BaseAdapter:
        """Return a fresh adapter, as the host makes it."""
        return self.adapter_class()

    def prepare(self, config: AdapterConfig) -> None:
        """Put files that the adapter needs into `config.config_path`; the default writes a prompt file only."""

    def prepare_platform(self, platform: FakePlatform) -> None:
        """Put peers and answers on the platform."""

    def give_session(self, adapter: BaseAdapter, session_id: str) -> None:
        """Make `session_id` the session of a running adapter; the default follows the convention of `_executor._session_id`."""
        cast("Any", adapter)._executor = _ExecutorWithSession(session_id)

    def restored_session(self, adapter: BaseAdapter) -> str | None:
        """Return the session that an adapter resumes after `restore_state`."""
        session: object = cast("Any", adapter)._snapshot_session_id
        return session if isinstance(session, str) else None

    # --- for the checks ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _environment(self, folder: Path) -> Generator[None]:
        """Give the adapter a home of its own, so that nothing reaches the files of whoever runs the suite."""
        home = folder / "home"
        home.mkdir(exist_ok=True)
        own = {"HOME": str(home), "PLUGINS_DIR": str(folder / "plugins"), **self.environ}
        with unittest.mock.patch.dict(cast("dict[str, str]", env.current()), own):
            for name in ("CODEX_HOME", "HERMES_HOME", "MOLECULE_PLATFORM_AGENT_IMAGE_BAKED"):
                if name not in self.environ:
                    cast("dict[str, str]", env.current()).pop(name, None)
            yield

    def _host(self, folder: Path, *, runtime_config: dict[str, Any] | None = None) -> FakeHost:
        host = FakeHost(
            self.make_adapter(),
            folder,
            model=self.model,
            runtime_config=dict(self.runtime_config if runtime_config is None else runtime_config),
        )
        self.prepare_platform(host.platform)
        self.prepare(host.config)
        return host

    def _run(self, folder: Path, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end, within the deadline and in the adapter's own home."""

        async def bounded() -> _T:
            return await asyncio.wait_for(work, DEADLINE)

        with self._environment(folder):
            try:
                return asyncio.run(bounded())
            except TimeoutError:
                raise AssertionError(f"not finished within {DEADLINE:.0f} s") from None


class _ExecutorWithSession:
    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
