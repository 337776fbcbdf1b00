"""run_code: what an agent gets back, what it may pass in and collect, and what is refused before anything runs."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import anyio
import pytest
from tests.support.tenants import Member

from molecule_runtime.core.config import SandboxConfig
from molecule_runtime.tools import Permissions
from molecule_runtime.tools.sandbox import Job, Limits, Sandbox, languages, seccomp
from molecule_runtime.tools.sandbox.cgroup import open_cgroup
from molecule_runtime.tools.sandbox.docker import arguments
from molecule_runtime.tools.sandbox.job import SandboxUnavailableError

from .support import context, done, refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext

pytestmark = pytest.mark.anyio

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap (.ci/run does)"
)


@pytest.fixture
def ctx(pools: ConnectionPools, tmp_path: Path) -> ToolContext:
    sandbox = Sandbox.from_config(SandboxConfig(timeout=2.0))
    base = context(pools, ("http://127.0.0.1:9", Member("alice", "token-of-alice-0001")))
    return dataclasses.replace(base, tier=3, files_root=tmp_path, sandbox=sandbox)


@needs_bubblewrap
async def test_code_gets_files_and_gives_files_back_and_its_exit_code_is_told(ctx: ToolContext, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("41", encoding="utf-8")
    code = "import os; open('out.txt', 'w').write(str(int(open('in.txt').read()) + 1)); os.symlink('/etc/passwd', 'link'); exit(3)"
    result = await done(ctx, "run_code", code=code, files=["in.txt"], collect=["out.txt", "link", "none"])
    assert (result.structured["exit_code"], result.structured["backend"]) == (3, "bubblewrap")
    [file] = result.structured["files"]
    assert (tmp_path / "run_code").is_dir()
    async with await anyio.open_file(file["path"]) as saved:
        assert await saved.read() == "42"
    assert set(result.structured["not_collected"]) == {"link", "none"}


@needs_bubblewrap
@pytest.mark.parametrize(
    ("code", "error"), [("sleep 60 & sleep 60", "did not end within 2 s"), ("yes", "wrote too much")]
)
async def test_what_does_not_end_or_writes_too_much_is_stopped(ctx: ToolContext, code: str, error: str) -> None:
    result = await run(ctx, "run_code", code=code, language="bash")
    assert result.is_error
    assert error in result.structured["error"]
    assert result.structured["exit_code"] == -1
    assert len(result.structured["stdout"]) <= 10_100


async def test_what_is_not_allowed_is_refused_before_anything_runs(ctx: ToolContext, tmp_path: Path) -> None:
    read_only = dataclasses.replace(ctx, permissions=Permissions(("read-only",)))
    assert "'code.run' denied" in await refused(read_only, "run_code", code="1")
    assert "from tier 3 on" in await refused(dataclasses.replace(ctx, tier=1), "run_code", code="1")
    assert "cannot be read" in await refused(dataclasses.replace(ctx, sandbox=None), "run_code", code="1")
    assert "plain file name" in await refused(ctx, "run_code", code="1", collect=["../x"])
    assert "'..'" in await refused(ctx, "run_code", code="1", files=["../x"])
    (tmp_path / "main.py").write_text("", encoding="utf-8")
    assert "which is the code" in await refused(ctx, "run_code", code="1", files=["main.py"])


async def test_no_backend_is_replaced_by_another(
    ctx: ToolContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def named(backend: str) -> ToolContext:
        return dataclasses.replace(
            ctx, sandbox=Sandbox.from_config(SandboxConfig.model_validate({"backend": backend}), {})
        )

    assert "molecule-runtime-tools[e2b]" in await refused(named("e2b"), "run_code", code="1")
    monkeypatch.setattr(languages, "SYSTEM_PATH", str(tmp_path))
    for backend, package in (("bubblewrap", "bubblewrap"), ("subprocess", "bubblewrap"), ("docker", "docker.io")):
        assert f"apt-get install {package}" in await refused(named(backend), "run_code", code="1")


def test_a_container_has_no_network_no_rights_and_limits() -> None:
    line = " ".join(arguments(Job(language="node", code="", limits=Limits(seconds=5)), "name", "node:20-slim"))
    for part in ("--network none", "--read-only", "--cap-drop ALL", "no-new-privileges", "--user 65534:65534"):
        assert part in line
    for part in (
        "--memory 268435456",
        "--memory-swap 268435456",
        "--pids-limit 64",
        "--name name",
        "5 node /work/main.js",
    ):
        assert part in line


def test_a_machine_without_a_filter_of_system_calls_is_refused() -> None:
    assert len(seccomp.program("aarch64")) % 8 == 0
    with pytest.raises(SandboxUnavailableError, match="no filter of system calls for a riscv64 machine"):
        seccomp.program("riscv64")


def test_a_control_group_has_the_limits_where_one_may_be_made(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/us\n", encoding="ascii")
    (tmp_path / "us").mkdir()
    assert open_cgroup(Limits(), tmp_path, own) is None
    (tmp_path / "us" / "cgroup.subtree_control").write_text("cpu memory pids", encoding="ascii")
    group = open_cgroup(Limits(cpus=0.5, processes=9), tmp_path, own)
    assert group is not None
    assert (group.path / "pids.max").read_text(encoding="ascii") == "11"
    assert (group.path / "cpu.max").read_text(encoding="ascii") == "50000 100000"
