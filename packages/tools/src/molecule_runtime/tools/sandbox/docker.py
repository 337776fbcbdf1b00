"""The backend `docker`: a container per run, without network, capabilities or a writable system, fed over its standard input."""

from __future__ import annotations

import dataclasses
import io
import secrets
import subprocess
import tarfile
from typing import TYPE_CHECKING, ClassVar, Final

import anyio

from molecule_runtime.core import env
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.sandbox.job import MAX_INPUT_BYTES, SandboxUnavailableError
from molecule_runtime.tools.sandbox.languages import INTERPRETERS, SYSTEM_PATH, system_command
from molecule_runtime.tools.sandbox.running import Launch, run
from molecule_runtime.tools.sandbox.workspace_files import read_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.tools.sandbox.job import Job, Outcome

FOLDER: Final = "/work"

CONTAINER_START_SECONDS: Final = 120.0
"""For the container to start, with the download of its image; the code has its own seconds, which `timeout` inside counts."""

_STOP_SECONDS = 20.0
_DAEMON_FAILED = 125
"""Exit status of `docker run` when the container did not start."""
_KILLED = 137
"""Exit status of what `timeout -s KILL` killed, by which it kills itself, too."""

_UNPACK = f'tar -xf - -C {FOLDER} && exec timeout -s KILL "$0" "$@" </dev/null'


class DockerBackend:
    """Runs code in containers of docker, by its command line.

    Args:
        environ: where `DOCKER_HOST` is; the environment of the process unless given. Nothing else of it reaches the command.
    """

    name: ClassVar[str] = "docker"

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ

    async def run(self, job: Job) -> Outcome:
        """Run code; see `Backend.run`. Files are not collected: they end with the container."""
        if job.collect:
            raise ToolRefusedError(
                "collect: the backend docker gives no files back; let the code print what you need, or use bubblewrap"
            )
        docker = system_command("docker", "docker.io")
        name = f"molecule-run-{secrets.token_hex(8)}"
        environ = {"PATH": SYSTEM_PATH, "HOME": "/nonexistent"}
        host = env.DOCKER_HOST.get(self._environ)
        environ |= {env.DOCKER_HOST.name: host} if host else {}
        image = INTERPRETERS[job.language].image

        async def kill(pid: int) -> None:
            del pid
            await _remove([docker, "rm", "--force", name], environ)

        archive = await anyio.to_thread.run_sync(archive_of, job)
        launch = Launch(
            argv=[docker, *arguments(job, name, image)],
            environ=environ,
            seconds=CONTAINER_START_SECONDS + job.limits.seconds,
            kill=kill,
            stdin=archive,
        )
        outcome = await run(launch)
        if outcome.exit_code == _DAEMON_FAILED:
            raise SandboxUnavailableError(
                f"the sandbox (backend docker) did not start, and nothing was run: {outcome.stderr.text.strip()[:500]}. "
                "Start docker and let this process use it (DOCKER_HOST, or the group docker), or set sandbox.backend in config.yaml"
            )
        late = outcome.seconds >= job.limits.seconds and outcome.exit_code == _KILLED
        return dataclasses.replace(
            outcome,
            image=image,
            ended="timeout" if late else outcome.ended,
            exit_code=-1 if late else outcome.exit_code,
        )


def arguments(job: Job, name: str, image: str) -> list[str]:
    """Return the arguments of docker for a job."""
    limits, known = job.limits, INTERPRETERS[job.language]
    tmpfs = f"rw,nosuid,nodev,size={limits.disk},mode=1777"
    return [
        *("run", "--rm", "--interactive", "--init", "--name", name, "--hostname", "sandbox"),
        *("--network", "bridge" if limits.network else "none"),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "65534:65534"),
        *("--memory", str(limits.memory), "--memory-swap", str(limits.memory), "--cpus", str(limits.cpus or 1.0)),
        *("--pids-limit", str(limits.processes), "--ulimit", f"nofile={limits.open_files}", "--ulimit", "core=0"),
        *("--ulimit", f"fsize={limits.disk}", "--shm-size", "16m", "--log-driver", "none"),
        *("--tmpfs", f"{FOLDER}:exec,{tmpfs}", "--tmpfs", f"/tmp:exec,{tmpfs}", "--workdir", FOLDER),  # noqa: S108 - inside
        *("--env", "HOME=/tmp", "--env", "LANG=C.UTF-8", "--entrypoint", "/bin/sh", image),
        *("-c", _UNPACK, f"{limits.seconds:g}", known.command, *known.options, f"{FOLDER}/{known.file}"),
    ]


def archive_of(job: Job) -> bytes:
    """Return the code and its inputs as a tar archive. Blocking."""
    buffer = io.BytesIO()
    contents = {INTERPRETERS[job.language].file: job.code.encode()}
    contents |= {file.name: read_all(file.descriptor, MAX_INPUT_BYTES) or b"" for file in job.inputs}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


async def _remove(command: list[str], environ: dict[str, str]) -> None:
    """Remove a container by force, whether or not it runs."""
    with anyio.move_on_after(_STOP_SECONDS):
        await anyio.run_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, env=environ)
