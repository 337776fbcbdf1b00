"""The backend `none`: no isolation at all. It must be asked for by name, and no other falls back to it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import anyio.to_thread

from molecule_runtime.tools.sandbox.gate import Gate
from molecule_runtime.tools.sandbox.job import MAX_INPUT_BYTES
from molecule_runtime.tools.sandbox.languages import INTERPRETERS, SYSTEM_PATH, command_line, system_command
from molecule_runtime.tools.sandbox.running import Launch, run
from molecule_runtime.tools.sandbox.workspace_files import collect, read_all

if TYPE_CHECKING:
    from molecule_runtime.tools.sandbox.job import Job, Outcome


class UnconfinedBackend:
    """Runs code as this user, with this user's files and network. What stays is a deadline, bounds of size and an empty environment."""

    name: ClassVar[str] = "none"

    async def run(self, job: Job) -> Outcome:
        """Run code; see `Backend.run`. A process that left its session is not found, and lives on."""
        bash = system_command("bash", "bash")
        with ExitStack() as stack:
            folder = await anyio.to_thread.run_sync(_folder, job, stack)
            gate = Gate.open(stack)
            command = gate.launcher(bash, job.limits, command_line(job.language, folder))
            launch = Launch(
                argv=command,
                environ={"PATH": SYSTEM_PATH, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
                seconds=job.limits.seconds,
                kill=_kill_group,
                gate=gate,
                pass_fds=(gate.ready, gate.go),
                cwd=folder,
            )
            outcome = await run(launch)
            if not job.collect:
                return outcome
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            files, refused = await anyio.to_thread.run_sync(collect, descriptor, job.collect)
            return dataclasses.replace(outcome, files=files, not_collected=refused)


def _folder(job: Job, stack: ExitStack) -> str:
    folder = tempfile.mkdtemp(prefix="molecule-run-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, INTERPRETERS[job.language].file).write_text(job.code, encoding="utf-8")
    for file in job.inputs:
        Path(folder, file.name).write_bytes(read_all(file.descriptor, MAX_INPUT_BYTES) or b"")
    return folder


async def _kill_group(pid: int) -> None:
    # The process leads a session of its own, so this is its group as long as one member lives.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
