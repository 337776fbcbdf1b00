"""The sandbox of a runtime that is nobody: isolation must not hang on being root, and an attack comes from the victim's own user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import nobody
from .attacks import ATTACKS, PRELUDE
from .nobody import NOBODY

pytestmark = [
    pytest.mark.skipif(
        shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap (.ci/run does)"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="these tests are nobody already, and so is what test_attacks.py runs"),
]

CHOSEN = (
    "read a private file",
    "list the folder of the secrets",
    "find a token in any process",
    "see the processes of the machine",
    "go through the root of another process",
    "read the memory of another process",
    "leave a file for others",
    "reach a service on loopback",
    "reach an abstract socket",
    "reach a socket in a folder",
    "signal a process outside",
    "become root",
    "have a capability",
    "bomb with memory",
)

TELL = "import os; print(os.getuid(), os.getgid(), os.getcwd(), sorted(os.environ))"


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What a runtime that is nobody got from its sandbox, by program."""
    attacks = [attack for attack in ATTACKS if attack.name in CHOSEN]
    assert len(attacks) == len(CHOSEN)
    programs = [
        *((attack.name, attack.language, PRELUDE + attack.code) for attack in attacks if attack.language == "python"),
        ("tell", "python", TELL),
        ("spin", "bash", "sleep 1000 & exit 3"),
    ]
    ran = subprocess.run(
        [sys.executable, str(Path(nobody.__file__))],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )
    assert ran.returncode == 0, ran.stderr
    answered: dict[str, Any] = json.loads(ran.stdout)
    return answered


def test_a_runtime_that_is_nobody_runs_code_in_the_sandbox(answers: dict[str, Any]) -> None:
    assert answers["users"] == [NOBODY] * 3
    code, said, remarks, ended = answers["outcomes"]["tell"]
    assert (code, remarks, ended) == (0, "", "")
    assert said.startswith(f"{NOBODY} {NOBODY} /work ")
    assert "TOKEN" not in said
    assert answers["outcomes"]["spin"][0] == 3


@pytest.mark.parametrize("name", CHOSEN)
def test_an_attack_on_the_same_user_fails(name: str, answers: dict[str, Any]) -> None:
    # Outside the sandbox the same user may do it: what holds is the sandbox, and not the rights of the system.
    assert answers["seen"] is True
    _, said, _, ended = answers["outcomes"][name]
    assert "THROUGH" not in said
    assert "HELD" in said or ended == "memory", answers["outcomes"][name]
