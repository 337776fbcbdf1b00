"""Attacks on a sandbox: small programs that say THROUGH when they got what they must not get, and HELD when they did not.

`$NAME` stands for what the test puts on the machine: `$SECRET` a private file with `$TOKEN` in it, `$SCRATCH` a folder to write
into, `$VICTIM` the number of a process with that token in its environment, `$PORT` of a service on loopback, `$SOCKET` and
`$ABSTRACT` of services on Unix sockets. All are harmless where they succeed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from molecule_runtime.tools.sandbox.job import Language

Unconfined: TypeAlias = Literal["through", "held", "rights"]
"""What the backend `none` makes of it: lets it through, holds it (by what holds there, too), or it hangs on the rights of the
runtime's user and on the machine."""


@dataclass(frozen=True)
class Attack:
    """One program; python unless it says otherwise, with everything of `PRELUDE` at hand."""

    name: str
    code: str
    unconfined: Unconfined
    language: Language = "python"


PRELUDE = """
import ctypes, errno, fcntl, mmap, os, signal, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def through(what=''):
    print('THROUGH', what, flush=True)
def attack(run):
    try:
        through(run())
    except (OSError, MemoryError, AssertionError, LookupError, ValueError) as exc:
        print('HELD', type(exc).__name__, exc, flush=True)
"""


def _one(name: str, expression: str, unconfined: Unconfined) -> Attack:
    return Attack(name, f"attack(lambda: {expression})", unconfined)


def _body(name: str, body: str, unconfined: Unconfined) -> Attack:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return Attack(name, f"def run():\n{lines}\nattack(run)", unconfined)


def _system_call(name: str, x86: int, arm: int, arguments: str, unconfined: Unconfined = "rights") -> Attack:
    return _one(name, f"call({x86} if os.uname().machine == 'x86_64' else {arm}, {arguments})", unconfined)


ATTACKS = (
    # Secrets
    _one("read a private file", "open('$SECRET').read()", "through"),
    _one("list the folder of the secrets", "os.listdir(os.path.dirname('$SECRET'))", "through"),
    _one("list the home of the user", "os.listdir('$HOME')", "through"),
    _one("read the passwords of the system", "open('/etc/shadow').read()", "rights"),
    _one("read the keys of the machine", "os.listdir('/etc/ssl/private')", "rights"),
    _body("read the environment", "assert '$TOKEN' in str(os.environ)", "held"),
    _body(
        "read the environment of another process",
        "assert b'$TOKEN' in open('/proc/$VICTIM/environ', 'rb').read()",
        "through",
    ),
    _body(
        "find a token in any process",
        """
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        if b'$TOKEN' in open(f'/proc/{pid}/environ', 'rb').read():
            return pid
    except OSError:
        pass
assert False
""",
        "through",
    ),
    _body(
        "see the processes of the machine",
        """
pids = [pid for pid in os.listdir('/proc') if pid.isdigit() and int(pid) != os.getpid()]
assert '$VICTIM' in pids and b'victim of the' in open('/proc/$VICTIM/cmdline', 'rb').read()
""",
        "through",
    ),
    _one("go through the root of another process", "open('/proc/$VICTIM/root$SECRET').read()", "through"),
    _one("go through the root of the first process", "open('/proc/1/root$SECRET').read()", "rights"),
    _one("read the memory of another process", "open('/proc/$VICTIM/mem', 'rb')", "rights"),
    # Links and mounts
    _body(
        "follow a link to a private file",
        "os.symlink('$SECRET', 'link')\nreturn open('link').read()",
        "through",
    ),
    _one("link a private file hard", "os.link('$SECRET', 'hard')", "rights"),
    # In a folder of its own, and undone: over /tmp it would hide the files of the whole machine where it succeeds.
    _body(
        "mount a file system",
        """
os.mkdir('mounted')
call(165 if os.uname().machine == 'x86_64' else 40, b'none', b'mounted', b'tmpfs', 0, 0)
call(166 if os.uname().machine == 'x86_64' else 39, b'mounted', 0)
""",
        "rights",
    ),
    _system_call("unmount what hides something", 166, 39, "b'/etc/passwd', 2", "held"),
    _system_call("change the root", 161, 51, "b'/usr'"),
    _system_call("open a file by its number", 304, 265, "-100, 0, 0", "held"),
    # The system
    _one(
        "write into the system",
        "os.open('/usr/share', os.O_TMPFILE | os.O_RDWR)",
        "rights",
    ),
    _one("leave a file for others", "open('$SCRATCH/left', 'w')", "through"),
    _one(
        "fill what has no bound", "[os.open(folder, os.O_TMPFILE | os.O_WRONLY) for folder in ('/', '/dev')]", "rights"
    ),
    _one("set a kernel's parameter", "open('/proc/sys/vm/swappiness', 'r+')", "rights"),
    _one("write the handler of crashes", "open('/proc/sys/kernel/core_pattern', 'r+')", "rights"),
    _one("press the keys of the kernel", "open('/proc/sysrq-trigger', 'w')", "rights"),
    _one("read the kernel's log", "call(103 if os.uname().machine == 'x86_64' else 116, 10, 0, 0)", "rights"),
    _one("make a device", "os.mknod('disk', 0o60600, os.makedev(8, 0))", "rights"),
    _one("change the name of the machine", "socket.sethostname(socket.gethostname())", "rights"),
    # The network
    _one("reach a service on loopback", "socket.create_connection(('127.0.0.1', int('$PORT')), 2)", "through"),
    _body(
        "reach the metadata of the cloud",
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nudp.connect(('169.254.169.254', 80))",
        "rights",
    ),
    _body(
        "reach the internet",
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nudp.connect(('192.0.2.1', 53))",
        "rights",
    ),
    _body("see network interfaces", "assert [name for _, name in socket.if_nameindex() if name != 'lo']", "rights"),
    _body("reach an abstract socket", "socket.socket(socket.AF_UNIX).connect('\\0$ABSTRACT')", "through"),
    _body("reach a socket in a folder", "socket.socket(socket.AF_UNIX).connect('$SOCKET')", "through"),
    _one("reach the hypervisor", "socket.socket(40, socket.SOCK_STREAM)", "rights"),
    _one("read packets", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "rights"),
    Attack(
        "reach a service from node",
        "const s = require('net').connect($PORT, '127.0.0.1'); "
        "s.on('connect', () => { console.log('THROUGH'); s.destroy(); }); s.on('error', e => console.log('HELD', e.code));",
        "through",
        "node",
    ),
    Attack(
        "reach a service from bash",
        "if exec 9<>/dev/tcp/127.0.0.1/$PORT; then echo THROUGH; else echo HELD; fi",
        "through",
        "bash",
    ),
    # Other processes
    _one("signal a process outside", "os.kill(int('$VICTIM'), 0)", "through"),
    _one("signal every process outside", "os.killpg(os.getpgid(int('$VICTIM')), 0)", "through"),
    _system_call("trace a process", 101, 117, "0x4206, int('$VICTIM'), 0, 0"),
    _body(
        "trace a child",
        """
child = os.fork()
if child == 0:
    time.sleep(5)
    os._exit(0)
try:
    call(101 if os.uname().machine == 'x86_64' else 117, 0x4206, child, 0, 0)
finally:
    os.kill(child, 9)
""",
        "rights",
    ),
    _system_call("read the memory of a process by a call", 310, 270, "os.getpid(), 0, 0, 0, 0, 0", "through"),
    _system_call("use the keys of the kernel", 250, 219, "0, -3, 0", "rights"),
    # Privileges
    _body("become root", "os.setuid(0)\nassert os.geteuid() == 0 and os.access('/root', os.R_OK)", "rights"),
    _body(
        "keep the rights of a program that has some",
        "assert 'NoNewPrivs:\\t1' not in open('/proc/self/status').read()",
        "through",
    ),
    _body("have a capability", "assert 'CapEff:\\t0000000000000000' not in open('/proc/self/status').read()", "rights"),
    _system_call("make a user namespace", 272, 97, "0x10000000"),
    _body(
        "make a user namespace with a child",
        "if call(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0) == 0:\n    os._exit(0)",
        "rights",
    ),
    _system_call("enter another namespace", 308, 268, "os.open('/proc/self/ns/uts', os.O_RDONLY), 0"),
    _system_call("load a program into the kernel", 321, 280, "5, 0, 0", "held"),
    _system_call("open a ring of system calls", 425, 425, "4, ctypes.create_string_buffer(120)", "rights"),
    _system_call("handle the faults of others", 323, 282, "0", "rights"),
    _system_call("count events of the machine", 298, 241, "ctypes.create_string_buffer(128), 0, -1, -1, 0", "rights"),
    # The terminal
    _one("have a terminal", "os.open('/dev/tty', os.O_RDWR)", "held"),
    _body(
        "type into a terminal",
        "master, terminal = os.openpty()\nfcntl.ioctl(terminal, 0x5412, b'x')",
        "rights",
    ),
    # Resources
    _body(
        "bomb with forks",
        """
children = []
try:
    for _ in range(90):
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        children.append(child)
finally:
    for child in children:
        os.kill(child, 9)
""",
        "rights",
    ),
    _body("bomb with memory", "block = bytearray(300 << 20)", "held"),
    _body(
        "bomb with shared memory",
        "block = mmap.mmap(-1, 300 << 20)\nfor page in range(0, len(block), 4096):\n    block[page] = 1\ntime.sleep(1)",
        "through",
    ),
    _body("hide memory in a file without a name", "return os.memfd_create('x')", "through"),
    _body(
        "fill the disk with one file",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nos.posix_fallocate(os.open('big', os.O_CREAT | os.O_RDWR), 0, 80 << 20)",
        "held",
    ),
    _body(
        "fill the disk with many files",
        "for number in range(4):\n    os.posix_fallocate(os.open(f'big{number}', os.O_CREAT | os.O_RDWR), 0, 20 << 20)",
        "through",
    ),
    _body("open files without end", "held = [os.open('/', os.O_RDONLY) for _ in range(1000)]", "held"),
    _body(
        "leave a core file", "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))", "rights"
    ),
)
