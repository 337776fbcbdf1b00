"""What untrusted code cannot do in the sandbox, and what the same code does where somebody asked for none."""

from __future__ import annotations

import os
import shutil
import socket
import string
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from molecule_runtime.tools.sandbox import Job, Limits
from molecule_runtime.tools.sandbox.bubblewrap import BubblewrapBackend
from molecule_runtime.tools.sandbox.unconfined import UnconfinedBackend

from .attacks import ATTACKS, PRELUDE, Attack

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from molecule_runtime.tools.sandbox import Backend, Outcome

pytestmark = pytest.mark.anyio

VICTIMS_ENVIRONMENT = "token-of-the-victim-0001"
LIMITS = Limits(seconds=20, memory=128 << 20, disk=40 << 20)
WAIT_SECONDS = 40

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap (.ci/run does)"
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mapping[str, str]]:
    """Things on this machine that are worth an attack."""
    folder = tmp_path_factory.mktemp("machine")
    secret = folder / "secret"
    secret.write_text(VICTIMS_ENVIRONMENT, encoding="utf-8")
    secret.chmod(0o600)
    abstract = f"molecule-attack-{os.getpid()}"
    with ExitStack() as stack:
        addresses: list[tuple[int, str | tuple[str, int]]] = [
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_UNIX, str(folder / "socket")),
            (socket.AF_UNIX, f"\0{abstract}"),
        ]
        services = [stack.enter_context(socket.socket(family)) for family, _ in addresses]
        for service, (_, address) in zip(services, addresses, strict=True):
            service.bind(address)
            service.listen(64)
        victim = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "import sys; sys.stdin.read()", "victim of the sandbox"],
                stdin=subprocess.PIPE,
                env={"MOLECULE_WORKSPACE_TOKEN": VICTIMS_ENVIRONMENT},
                start_new_session=True,
            )
        )
        stack.callback(victim.kill)
        yield {
            "SECRET": str(secret),
            "SCRATCH": str(folder),
            "HOME": str(Path.home()),
            "TOKEN": VICTIMS_ENVIRONMENT,
            "VICTIM": str(victim.pid),
            "PORT": str(services[0].getsockname()[1]),
            "SOCKET": str(folder / "socket"),
            "ABSTRACT": abstract,
        }


async def _run(backend: Backend, attack: Attack, machine: Mapping[str, str]) -> Outcome:
    code = string.Template(attack.code).substitute(machine)
    if attack.language == "python":
        code = PRELUDE + code
    with anyio.fail_after(WAIT_SECONDS):
        return await backend.run(Job(language=attack.language, code=code, limits=LIMITS))


@needs_bubblewrap
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_fails_in_bubblewrap(attack: Attack, machine: Mapping[str, str]) -> None:
    outcome = await _run(BubblewrapBackend(), attack, machine)
    assert "THROUGH" not in outcome.stdout.text
    # It came to its end, or was stopped for what it used: a mistake in the program would hold anything.
    assert "HELD" in outcome.stdout.text or outcome.ended == "memory", outcome


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_where_nothing_isolates_an_attack_ends_as_it_is_documented(
    attack: Attack, machine: Mapping[str, str]
) -> None:
    outcome = await _run(UnconfinedBackend(), attack, machine)
    said = {word for word in ("THROUGH", "HELD") if word in outcome.stdout.text}
    expected = {"through": {"THROUGH"}, "held": {"HELD"}}.get(attack.unconfined, said)
    assert said == expected, outcome
    assert len(said) == 1, outcome
