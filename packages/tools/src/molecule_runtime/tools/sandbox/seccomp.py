"""The filter of system calls for untrusted code: a BPF program without what reaches out of namespaces or far into the kernel.

Numbers and layouts: linux/seccomp.h, linux/filter.h, linux/audit.h, arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux 6.12. What is forbidden fails with EPERM, as for a user who lacks the right.
Among it is memory that no process need have mapped (shmget, memfd_create), since nobody would count it.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from molecule_runtime.tools.sandbox.job import SandboxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_ALLOW = 0x7FFF0000
_FAIL = 0x00050000
_KILL = 0x80000000

# Offsets in struct seccomp_data; the arguments are 64 bits wide, and both machines are little-endian: the low half comes first.
_NUMBER = 0
_MACHINE = 4
_ARGUMENTS = 16

_X32 = 0x40000000
"""The second ABI of an x86-64 kernel, under whose numbers everything could be called once more."""

_NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET: a new user namespace would bring back every capability inside it."""

_TERMINAL_REQUESTS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put text into the input of a terminal."""

_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK, which a network namespace holds; AF_VSOCK (to the hypervisor), for one, is in none."""

# Both tables count alike from 424 on.
_COMMON: Final[Mapping[str, int]] = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    audit: int
    clone: int
    clone3: int
    ioctl: int
    socket: int
    denied: Mapping[str, int]


_MACHINES: Final[Mapping[str, _Machine]] = {
    "x86_64": _Machine(
        audit=0xC000003E,
        clone=56,
        clone3=435,
        ioctl=16,
        socket=41,
        denied={
            **_COMMON,
            "ptrace": 101,
            "syslog": 103,
            "shmget": 29,
            "memfd_create": 319,
            "uselib": 134,
            "personality": 135,
            "vhangup": 153,
            "modify_ldt": 154,
            "pivot_root": 155,
            "adjtimex": 159,
            "chroot": 161,
            "acct": 163,
            "settimeofday": 164,
            "mount": 165,
            "umount2": 166,
            "swapon": 167,
            "swapoff": 168,
            "reboot": 169,
            "sethostname": 170,
            "setdomainname": 171,
            "iopl": 172,
            "ioperm": 173,
            "init_module": 175,
            "delete_module": 176,
            "quotactl": 179,
            "lookup_dcookie": 212,
            "clock_settime": 227,
            "kexec_load": 246,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "migrate_pages": 256,
            "unshare": 272,
            "move_pages": 279,
            "perf_event_open": 298,
            "fanotify_init": 300,
            "name_to_handle_at": 303,
            "open_by_handle_at": 304,
            "clock_adjtime": 305,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "kcmp": 312,
            "finit_module": 313,
            "kexec_file_load": 320,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        clone=220,
        clone3=435,
        ioctl=29,
        socket=198,
        denied={
            **_COMMON,
            "lookup_dcookie": 18,
            "umount2": 39,
            "mount": 40,
            "pivot_root": 41,
            "chroot": 51,
            "vhangup": 58,
            "quotactl": 60,
            "acct": 89,
            "personality": 92,
            "unshare": 97,
            "kexec_load": 104,
            "init_module": 105,
            "delete_module": 106,
            "clock_settime": 112,
            "syslog": 116,
            "ptrace": 117,
            "reboot": 142,
            "sethostname": 161,
            "setdomainname": 162,
            "settimeofday": 170,
            "adjtimex": 171,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "swapon": 224,
            "swapoff": 225,
            "migrate_pages": 238,
            "move_pages": 239,
            "perf_event_open": 241,
            "fanotify_init": 262,
            "name_to_handle_at": 264,
            "open_by_handle_at": 265,
            "clock_adjtime": 266,
            "setns": 268,
            "memfd_create": 279,
            "shmget": 194,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "kcmp": 272,
            "finit_module": 273,
            "bpf": 280,
            "userfaultfd": 282,
            "kexec_file_load": 294,
        },
    ),
}


def program(machine: str = "") -> bytes:
    """Return the filter for a machine (`platform.machine()`), this one unless named.

    Raises:
        SandboxUnavailableError: its system calls are not known here.
    """
    name = machine or platform.machine()
    known = _MACHINES.get(name)
    if known is None:
        raise SandboxUnavailableError(
            f"sandbox.backend bubblewrap has no filter of system calls for a {name} machine, only for {', '.join(_MACHINES)}; "
            "use docker (sandbox.backend in config.yaml)"
        )
    return b"".join(_instructions(known))


def _instructions(machine: _Machine) -> Iterable[bytes]:
    yield _op(_LOAD, _MACHINE)
    # Another machine's numbers (32-bit code on a 64-bit kernel) mean other calls.
    yield _op(_EQUAL, machine.audit, then=1)
    yield _op(_RETURN, _KILL)
    yield _op(_LOAD, _NUMBER)
    yield from _rule(_AT_LEAST, _X32, errno.EPERM)
    # Its flags lie in memory, where a filter cannot look; libc takes clone when it is not there.
    yield from _rule(_EQUAL, machine.clone3, errno.ENOSYS)
    for number in sorted(machine.denied.values()):
        yield from _rule(_EQUAL, number, errno.EPERM)
    yield from _argument(machine.clone, 0, list(_rule(_ANY_BIT, _NEW_NAMESPACE, errno.EPERM)))
    requests = [op for request in _TERMINAL_REQUESTS for op in _rule(_EQUAL, request, errno.EPERM)]
    yield from _argument(machine.ioctl, 1, requests)
    allowed = [op for family in _FAMILIES for op in (_op(_EQUAL, family, otherwise=1), _op(_RETURN, _ALLOW))]
    yield from _argument(machine.socket, 0, [*allowed, _op(_RETURN, _FAIL | errno.EAFNOSUPPORT)])
    yield _op(_RETURN, _ALLOW)


def _rule(test: int, value: int, error: int) -> Iterable[bytes]:
    yield _op(test, value, otherwise=1)
    yield _op(_RETURN, _FAIL | error)


def _argument(number: int, index: int, checks: list[bytes]) -> Iterable[bytes]:
    """Check an argument of one call; whatever the checks let pass is allowed."""
    yield _op(_EQUAL, number, otherwise=len(checks) + 2)
    yield _op(_LOAD, _ARGUMENTS + 8 * index)
    yield from checks
    yield _op(_RETURN, _ALLOW)


def _op(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """Encode a struct sock_filter; `then` and `otherwise` are instructions to skip."""
    return struct.pack("=HBBI", code, then, otherwise, value)
