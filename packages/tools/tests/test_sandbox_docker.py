"""run_code in docker: what the command `docker` is told, and that the container ends with the run. The command here plays one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Member

from molecule_runtime.tools import dispatch
from molecule_runtime.tools.sandbox import Limits, Sandbox, docker, languages
from molecule_runtime.tools.sandbox.docker import DockerBackend

from .support import context, done, refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext

pytestmark = pytest.mark.anyio

TOKEN = "token-of-alice-0001"  # noqa: S105 - made up

FAKE = """#!{python} -IS
# Writes down how it was called. A container is not its client's child: what goes on ends when it is removed by its name.
import io, json, os, pathlib, select, sys, tarfile
folder = pathlib.Path(__file__).parent.parent
arguments, plays = sys.argv[1:], json.loads((folder / "plays").read_text())
def note(**more):
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps({{"arguments": arguments, "environ": dict(os.environ), **more}}) + chr(10))
if arguments[0] == "run":
    with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as archive:
        note(files={{entry.name: archive.extractfile(entry).read().decode() for entry in archive}})
    sys.stderr.write(plays.get("stderr", ""))
    sys.stdout.write(plays.get("stdout", ""))
    sys.stdout.flush()
    while plays.get("floods"):
        sys.stdout.write("y" * 65536)
    if plays.get("stays"):
        select.select([], [], [])
    sys.exit(plays.get("exit_code", 0))
note()
"""


@dataclass(frozen=True)
class Docker:
    """A `docker` on the path of the system."""

    folder: Path

    def plays(self, **container: Any) -> None:
        """Choose what the container does."""
        (self.folder / "plays").write_text(json.dumps(container), encoding="utf-8")

    def calls(self) -> list[dict[str, Any]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self) -> list[str]:
        return [call["arguments"][0] for call in self.calls()]

    def container(self) -> str:
        """Return the name of the one that was started."""
        (line,) = [call["arguments"] for call in self.calls() if call["arguments"][0] == "run"]
        return str(line[line.index("--name") + 1])


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    command = tmp_path / "docker" / "bin" / "docker"
    command.parent.mkdir(parents=True)
    command.write_text(FAKE.format(python=sys.executable), encoding="utf-8")
    command.chmod(0o755)
    # Nothing else is there that a run could fall back to.
    monkeypatch.setattr(languages, "SYSTEM_PATH", str(command.parent))
    made = Docker(tmp_path / "docker")
    made.plays()
    return made


def in_docker(pools: ConnectionPools, files: Path, seconds: float = 30, **environ: str) -> ToolContext:
    base = context(pools, ("http://127.0.0.1:9", Member("alice", TOKEN)))
    sandbox = Sandbox(backend=DockerBackend(environ), limits=Limits(seconds=seconds))
    return dataclasses.replace(base, tier=3, files_root=files, sandbox=sandbox)


def following(line: list[str], option: str) -> list[str]:
    return [line[index + 1] for index, word in enumerate(line) if word == option]


async def test_a_container_gets_the_code_and_the_files_and_nothing_of_this_machine(
    fake: Docker, pools: ConnectionPools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLECULE_WORKSPACE_TOKEN", TOKEN)
    (tmp_path / "in.txt").write_text("41", encoding="utf-8")
    fake.plays(stdout="42\n", stderr="a remark", exit_code=3)
    result = await done(in_docker(pools, tmp_path), "run_code", code="print(6 * 7)", files=["in.txt"])
    assert result.structured["exit_code"] == 3
    assert (result.structured["stdout"], result.structured["stderr"]) == ("42\n", "a remark")
    assert (result.structured["backend"], result.structured["image"]) == ("docker", "python:3.11-slim")
    started, removed = fake.calls()
    assert started["files"] == {"main.py": "print(6 * 7)", "in.txt": "41"}
    line: list[str] = started["arguments"]
    assert following(line, "--network") == ["none"]
    assert following(line, "--cap-drop") == ["ALL"]
    assert following(line, "--security-opt") == ["no-new-privileges"]
    assert following(line, "--user") == ["65534:65534"]
    assert following(line, "--memory") == following(line, "--memory-swap") == [str(256 << 20)]
    assert following(line, "--pids-limit") == ["64"]
    assert following(line, "--env") == ["HOME=/tmp", "LANG=C.UTF-8"]
    assert {"--read-only", "--rm"} <= set(line)
    assert not {"--volume", "-v", "--mount", "--privileged", "--env-file", "--pid", "--device"} & set(line)
    # What docker itself gets to know is where it is, and nothing else of our environment.
    assert set(started["environ"]) - {"LC_CTYPE"} == {"PATH", "HOME"}
    assert TOKEN not in json.dumps(fake.calls())
    assert removed["arguments"] == ["rm", "--force", fake.container()]


async def test_where_docker_is_may_be_said(fake: Docker, pools: ConnectionPools, tmp_path: Path) -> None:
    await done(in_docker(pools, tmp_path, DOCKER_HOST="tcp://docker:2375"), "run_code", code="1")
    assert {call["environ"]["DOCKER_HOST"] for call in fake.calls()} == {"tcp://docker:2375"}


async def test_a_container_that_does_not_end_is_removed(
    fake: Docker, pools: ConnectionPools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "CONTAINER_START_SECONDS", 0.5)
    fake.plays(stdout="begun", stays=True)
    result = await run(in_docker(pools, tmp_path, seconds=0.5), "run_code", code="while True: pass")
    assert (result.is_error, result.error_type, result.structured["exit_code"]) == (True, "timeout", -1)
    assert "did not end within 0.5 s" in result.structured["error"]
    assert fake.calls()[-1]["arguments"][0] == "rm"


async def test_code_that_the_container_itself_stopped_in_time_is_a_timeout(
    fake: Docker, pools: ConnectionPools, tmp_path: Path
) -> None:
    # As `timeout -s KILL` inside ends, when the seconds are over.
    fake.plays(stdout="begun", exit_code=137)
    result = await run(in_docker(pools, tmp_path, seconds=0.001), "run_code", code="while True: pass")
    assert (result.error_type, result.structured["stdout"]) == ("timeout", "begun")


async def test_a_container_that_floods_is_removed(fake: Docker, pools: ConnectionPools, tmp_path: Path) -> None:
    fake.plays(floods=True)
    result = await run(in_docker(pools, tmp_path), "run_code", code="while True: print('y')")
    assert "wrote too much" in result.structured["error"]
    assert len(result.structured["stdout"]) <= 10_100
    assert fake.calls()[-1]["arguments"] == ["rm", "--force", fake.container()]


async def test_a_container_whose_run_is_cancelled_is_removed(
    fake: Docker, pools: ConnectionPools, tmp_path: Path
) -> None:
    fake.plays(stays=True)
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(dispatch, "run_code", {"code": "while True: pass"}, in_docker(pools, tmp_path))
            while not fake.calls():  # noqa: ASYNC110 - nothing announces it
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert fake.calls()[-1]["arguments"] == ["rm", "--force", fake.container()]


async def test_a_docker_that_cannot_start_a_container_is_refused_and_nothing_else_runs_the_code(
    fake: Docker, pools: ConnectionPools, tmp_path: Path
) -> None:
    fake.plays(stderr="docker: no such image", exit_code=125)
    reason = await refused(in_docker(pools, tmp_path), "run_code", code="open('ran', 'w')")
    assert "the sandbox (backend docker) did not start, and nothing was run: docker: no such image" in reason
    assert "DOCKER_HOST" in reason
    assert fake.verbs().count("run") == 1


@pytest.mark.skipif(shutil.which("docker") is None, reason="the command docker is not installed")
async def test_the_real_docker_without_its_daemon_is_a_refusal_with_a_remedy(
    pools: ConnectionPools, tmp_path: Path
) -> None:
    nowhere = f"unix://{tmp_path}/no-daemon.sock"
    reason = await refused(in_docker(pools, tmp_path, DOCKER_HOST=nowhere), "run_code", code="1")
    assert "the sandbox (backend docker) did not start, and nothing was run" in reason
    assert "Start docker and let this process use it" in reason


async def test_files_cannot_be_collected_from_a_container(fake: Docker, pools: ConnectionPools, tmp_path: Path) -> None:
    reason = await refused(in_docker(pools, tmp_path), "run_code", code="1", collect=["out.txt"])
    assert "use bubblewrap" in reason
    assert fake.calls() == []
