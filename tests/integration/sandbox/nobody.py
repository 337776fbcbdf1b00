"""A runtime that is nobody, and its sandbox; run as root, with what to try as JSON on stdin. It answers with JSON on stdout.

All is imported as root, and for that run once, since the folders of Python may be root's. Then it is nobody, for good.
"""

from __future__ import annotations

import json
import os
import socket
import string
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.tools.sandbox import Job, Limits
from molecule_runtime.tools.sandbox.bubblewrap import BubblewrapBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

NOBODY = 65534
LIMITS = Limits(seconds=20, memory=128 << 20, disk=40 << 20)
TOKEN = "token-of-nobody-0001"  # noqa: S105 - made up


def main() -> None:
    programs: list[tuple[str, str, str]] = json.load(sys.stdin)
    anyio.run(run, [("as root", "bash", "true")], {"TOKEN": TOKEN})
    os.chdir("/")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with ExitStack() as stack:
        names = machine(stack)
        answers = anyio.run(run, programs, names)
        seen = TOKEN.encode() in Path("/proc", names["VICTIM"], "environ").read_bytes()
    print(json.dumps({"users": os.getresuid(), "seen": seen, "outcomes": answers}))  # noqa: T201 - its answer


def machine(stack: ExitStack) -> Mapping[str, str]:
    """Make what is worth an attack, all of it nobody's."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(TOKEN, encoding="utf-8")
    abstract = f"molecule-nobody-{os.getpid()}"
    places: list[tuple[int, str | tuple[str, int]]] = [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_UNIX, str(folder / "socket")),
        (socket.AF_UNIX, f"\0{abstract}"),
    ]
    services = [stack.enter_context(socket.socket(family)) for family, _ in places]
    for service, (_, place) in zip(services, places, strict=True):
        service.bind(place)
        service.listen(64)
    victim = stack.enter_context(
        subprocess.Popen(["sleep", "1000"], env={"PATH": os.defpath, "TOKEN": TOKEN}, start_new_session=True)
    )
    stack.callback(victim.kill)
    return {
        "SECRET": str(secret),
        "SCRATCH": str(folder),
        "TOKEN": TOKEN,
        "VICTIM": str(victim.pid),
        "PORT": str(services[0].getsockname()[1]),
        "SOCKET": str(folder / "socket"),
        "ABSTRACT": abstract,
    }


async def run(programs: list[tuple[str, Any, str]], names: Mapping[str, str]) -> dict[str, list[Any]]:
    outcomes: dict[str, list[Any]] = {}
    for name, language, code in programs:
        with anyio.fail_after(60):
            outcome = await BubblewrapBackend().run(
                Job(language=language, code=string.Template(code).safe_substitute(names), limits=LIMITS)
            )
        outcomes[name] = [outcome.exit_code, outcome.stdout.text, outcome.stderr.text, outcome.ended]
    return outcomes


if __name__ == "__main__":
    main()
