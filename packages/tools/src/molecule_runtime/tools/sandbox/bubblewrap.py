"""The backend `bubblewrap`: namespaces, a read-only system, a filter of system calls, limits, and nothing of this process."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import anyio
import anyio.to_thread

from molecule_runtime.tools.sandbox import seccomp
from molecule_runtime.tools.sandbox.cgroup import Cgroup, open_cgroup
from molecule_runtime.tools.sandbox.gate import Gate
from molecule_runtime.tools.sandbox.job import Outcome, SandboxUnavailableError
from molecule_runtime.tools.sandbox.languages import INTERPRETERS, SYSTEM_PATH, command_line, system_command
from molecule_runtime.tools.sandbox.memory_watch import exceeded
from molecule_runtime.tools.sandbox.running import Launch, run
from molecule_runtime.tools.sandbox.workspace_files import collect, in_memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from molecule_runtime.tools.sandbox.job import Job, Limits

FOLDER: Final = "/work"
"""Where the code lies and starts, inside."""

ENVIRON: Final = {"PATH": SYSTEM_PATH, "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - inside, and private
"""All of the environment of the code."""

_NOBODY = 65534
_USERS: Final = range(60600, 61000)
"""Where this process is root the sandbox must not be: root outside owns files under /proc/sys inside. One number out of many for each
run, so that runs do not share a count of processes; no distribution gives these to anybody."""

_SHARED_MEMORY = 16 * 1024 * 1024
_PASSWD = b"nobody:x:65534:65534:nobody:/tmp:/usr/sbin/nologin\n"
_GROUP = b"nogroup:x:65534:\n"
_NETWORK_FILES: Final = ("/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts", "/etc/ssl/certs", "/etc/pki")
_INFO_BYTES = 4096


class BubblewrapBackend:
    """Runs code with bubblewrap."""

    name: ClassVar[str] = "bubblewrap"

    async def run(self, job: Job) -> Outcome:
        """Run code; see `Backend.run`."""
        bwrap = system_command("bwrap", "bubblewrap")
        bash = system_command("bash", "bash")
        with ExitStack() as stack:
            inside = _Inside(stack, await anyio.to_thread.run_sync(open_cgroup, job.limits))
            gate = Gate.open(stack)
            info, info_write = os.pipe()
            stack.callback(os.close, info)
            written = stack.enter_context(ExitStack())
            written.callback(os.close, info_write)
            fds = [gate.ready, gate.go, info_write]
            command = gate.launcher(bash, job.limits, command_line(job.language, FOLDER))
            argv = [bwrap, "--info-fd", str(info_write), *_namespaces(job.limits), *_system(job.limits)]
            argv += [*_files(job, fds, stack), "--", *command]

            def at_gate() -> None:
                written.close()
                inside.enter(info)

            launch = Launch(
                argv=argv,
                environ={},
                seconds=job.limits.seconds,
                kill=inside.kill,
                watch=partial(inside.exceeded, job.limits.memory),
                gate=gate,
                at_gate=at_gate,
                pass_fds=fds,
                user=secrets.choice(_USERS) if os.geteuid() == 0 else None,
            )
            try:
                outcome = await run(launch)
            except SandboxUnavailableError as exc:
                raise SandboxUnavailableError(_remedy(str(exc))) from None
            if not job.collect:
                return outcome
            files, refused = await anyio.to_thread.run_sync(collect, inside.folder, job.collect)
            return dataclasses.replace(outcome, files=files, not_collected=refused)


@dataclass(slots=True)
class _Inside:
    """What this process holds of a sandbox while it runs and, for its files, after.

    Attributes:
        folder: a descriptor of the code's folder. It keeps the files although everything else of the sandbox is gone by then, so that
            nothing can change them while they are read; they never were on a disk.
    """

    stack: ExitStack
    cgroup: Cgroup | None
    folder: int = -1
    _first: int = -1
    _proc: int = -1

    def enter(self, info: int) -> None:
        """Take hold of the sandbox; its launcher waits at the gate, so its first process is alive."""
        pid = int(json.loads(os.read(info, _INFO_BYTES))["child-pid"])
        self._first = os.pidfd_open(pid)
        self.stack.callback(os.close, self._first)
        self.folder = self._opened(f"/proc/{pid}/root{FOLDER}")
        self._proc = self._opened(f"/proc/{pid}/root/proc")
        if self.cgroup is not None:
            self.stack.callback(self.cgroup.remove)
            self.cgroup.add_tree(pid)

    def _opened(self, folder: str) -> int:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.stack.callback(os.close, descriptor)
        return descriptor

    async def exceeded(self, limit: int) -> None:
        """Return when its processes have more memory than that together."""
        await exceeded(self._proc, limit)

    async def kill(self, pid: int) -> None:
        """Kill its first process, with which the kernel ends all others of the namespace, and wait until it is gone."""
        del pid
        if self._first < 0:
            # Not yet entered: its first process dies with bubblewrap (--die-with-parent).
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        await anyio.wait_readable(self._first)


def _namespaces(limits: Limits) -> list[str]:
    options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    options += [] if limits.network else ["--unshare-net"]
    options += ["--uid", str(_NOBODY), "--gid", str(_NOBODY), "--hostname", "sandbox"]
    options += ["--die-with-parent", "--new-session", "--clearenv", "--chdir", FOLDER]
    for name, value in ENVIRON.items():
        options += ["--setenv", name, value]
    return options


def _system(limits: Limits) -> list[str]:
    """Return the file system: the programs of this one, read-only, and folders in memory that are bounded."""
    options = ["--ro-bind", "/usr", "/usr"]
    for folder in (Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib32"), Path("/lib64")):
        if folder.is_symlink():
            options += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            options += ["--ro-bind", str(folder), str(folder)]
    for path in ("/etc/alternatives", "/etc/ld.so.cache", *(_NETWORK_FILES if limits.network else ())):
        options += ["--ro-bind-try", path, path]
    options += ["--proc", "/proc", "--dev", "/dev"]
    for path, size in (("/dev/shm", _SHARED_MEMORY), ("/tmp", limits.disk), (FOLDER, limits.disk)):  # noqa: S108 - inside
        options += ["--size", str(size), "--tmpfs", path]
    return options


def _files(job: Job, fds: list[int], stack: ExitStack) -> Iterable[str]:
    """Give the sandbox its own copies of the code and the inputs; then close what it could else fill without a bound."""

    def given(option: str, descriptor: int, path: str) -> list[str]:
        fds.append(descriptor)
        return ["--perms", "0644", option, str(descriptor), path]

    yield from given("--ro-bind-data", in_memory(_PASSWD, stack), "/etc/passwd")
    yield from given("--ro-bind-data", in_memory(_GROUP, stack), "/etc/group")
    yield from given("--file", in_memory(job.code.encode(), stack), f"{FOLDER}/{INTERPRETERS[job.language].file}")
    for file in job.inputs:
        os.lseek(file.descriptor, 0, os.SEEK_SET)
        yield from given("--file", file.descriptor, f"{FOLDER}/{file.name}")
    yield from ("--remount-ro", "/dev", "--remount-ro", "/")
    filter_fd = in_memory(seccomp.program(), stack)
    fds.append(filter_fd)
    yield from ("--seccomp", str(filter_fd))


def _remedy(said: str) -> str:
    text = f"the sandbox (backend bubblewrap) did not start, and nothing was run: {said[:500]}"
    if "namespace" in said.lower() or "uid map" in said.lower() or "Operation not permitted" in said:
        text += (
            ". Bubblewrap needs user namespaces: allow them (sysctl kernel.unprivileged_userns_clone=1, "
            "user.max_user_namespaces above 0, kernel.apparmor_restrict_unprivileged_userns=0; in a container a seccomp profile "
            "that allows them), or set sandbox.backend in config.yaml to docker or e2b"
        )
    return text
