"""run_code and the processes that code starts: with the run they end, however it ends; and what `none` leaves behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Member

from molecule_runtime.core.config import SandboxConfig
from molecule_runtime.tools import dispatch
from molecule_runtime.tools.sandbox import Sandbox

from .support import context, done, run

if TYPE_CHECKING:
    from collections.abc import Generator

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext

pytestmark = pytest.mark.anyio

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap (.ci/run does)"
)

DAEMON = """
# Left alone twice and in a session of its own, and deaf to every signal that can be ignored.
setsid bash -c '(trap "" TERM HUP INT; exec -a {mark}-daemon sleep 1000) & exit' </dev/null >/dev/null 2>&1
(exec -a {mark}-child sleep 1000) </dev/null >/dev/null 2>&1 &
until [ "$(grep -lsa {pattern} /proc/[0-9]*/cmdline | wc -l)" -ge 2 ]; do :; done
"""


def daemon(mark: str) -> str:
    """Return a program that ends when a daemon and a child of it run."""
    # The pattern is not what it stands for, so that grep does not find itself.
    return DAEMON.format(mark=mark, pattern=f"[{mark[0]}]{mark[1:]}")


def marked(mark: str) -> dict[str, int]:
    """Return what runs under a mark, by the rest of its name."""
    found: dict[str, int] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                name = (process / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
                if name.startswith(mark):
                    found[name.removeprefix(f"{mark}-")] = int(process.name)
    return found


@pytest.fixture
def mark() -> Generator[str]:
    """A word in the names of processes; whatever still runs under it in the end is killed."""
    word = f"marked-{uuid.uuid4().hex}"
    yield word
    for pid in marked(word).values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def in_sandbox(
    pools: ConnectionPools, backend: Literal["bubblewrap", "none"], files: Path, timeout: float = 30
) -> ToolContext:
    base = context(pools, ("http://127.0.0.1:9", Member("alice", "token-of-alice-0001")))
    sandbox = Sandbox.from_config(SandboxConfig(backend=backend, timeout=timeout))
    return dataclasses.replace(base, tier=3, files_root=files, sandbox=sandbox)


@contextmanager
def nothing_new_in(folder: Path) -> Generator[None]:
    before = set(folder.glob("molecule-run-*"))
    yield
    assert set(folder.glob("molecule-run-*")) <= before


@needs_bubblewrap
@pytest.mark.parametrize("how", ["cancelled", "late", "ended"])
async def test_nothing_that_code_started_outlives_its_run(
    how: str, mark: str, pools: ConnectionPools, tmp_path: Path
) -> None:
    code = daemon(mark) + ("" if how == "ended" else "sleep 1000")
    ctx = in_sandbox(pools, "bubblewrap", tmp_path, timeout=3 if how == "late" else 60)
    if how != "cancelled":
        result = await run(ctx, "run_code", code=code, language="bash")
        assert result.is_error is (how == "late"), result.text
        assert result.structured["exit_code"] == (-1 if how == "late" else 0)
    else:
        with anyio.fail_after(WAIT_SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(dispatch, "run_code", {"code": code, "language": "bash"}, ctx)
                while marked(mark).keys() < {"daemon", "child"}:  # noqa: ASYNC110 - nothing announces it
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
    assert marked(mark) == {}


async def test_without_isolation_a_cancelled_run_ends_with_all_of_its_session(
    mark: str, pools: ConnectionPools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = in_sandbox(pools, "none", tmp_path)
    code = f"(exec -a {mark}-child sleep 1000) & exec -a {mark}-code sleep 1000"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with nothing_new_in(tmp_path), anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(dispatch, "run_code", {"code": code, "language": "bash"}, ctx)
            while marked(mark).keys() != {"child", "code"}:  # noqa: ASYNC110 - nothing announces it
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    await until_only(mark)


async def test_without_isolation_a_daemon_outlives_its_run(mark: str, pools: ConnectionPools, tmp_path: Path) -> None:
    # Documented, and why `none` must be asked for by name: only what stayed in the session of the code is found.
    result = await done(in_sandbox(pools, "none", tmp_path), "run_code", code=daemon(mark), language="bash")
    assert result.structured["exit_code"] == 0
    await until_only(mark, "daemon")


async def until_only(mark: str, *names: str) -> None:
    """Wait until nothing else runs under a mark: what is killed with its group may be seen for another moment."""
    with anyio.fail_after(WAIT_SECONDS):
        while marked(mark).keys() - set(names):  # noqa: ASYNC110 - nothing announces it
            await anyio.sleep(0.01)
    assert marked(mark).keys() == set(names)
