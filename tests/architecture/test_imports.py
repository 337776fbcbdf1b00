"""Importing any module of the project does nothing but define things."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .example import write
from .rules import load

PROBE = Path(__file__).with_name("import_probe.py")


def probe(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-B", "-W", "error", PROBE, *arguments],
        cwd=home,
        env={"PATH": os.defpath, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_no_module_of_the_project_has_a_side_effect_on_import(repository: Path, tmp_path: Path) -> None:
    modules = [module.name for member in load(repository).members.values() for module in member.modules]
    result = probe(*modules, home=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith(f"{len(modules)} of {len(modules)} imported without side effects\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "report"),
    [
        ("import socket\nsocket.socket()\n", "socket.__new__"),
        ("import socket\nsocket.getaddrinfo('localhost', 80)\n", "socket.getaddrinfo"),
        ("import threading\nthreading.Thread(target=print).start()\n", "started"),
        ("import subprocess\nsubprocess.run(['true'])\n", "subprocess.Popen"),
        ("import os\nos.environ['HOME']\n", "environment variable HOME read"),
        ("import os\nos.environ.get('HOME')\n", "environment variable HOME read"),
        ("import os\nos.getenv('ABSENT')\n", "environment variable ABSENT read"),
        ("from pathlib import Path\nPath('left-behind').write_text('x')\n", "open left-behind"),
        ("from pathlib import Path\nPath('left-behind').mkdir()\n", "os.mkdir"),
        ("import sqlite3\nsqlite3.connect(':memory:')\n", "sqlite3.connect"),
        ("import warnings\nwarnings.warn('old', DeprecationWarning)\n", "DeprecationWarning"),
        ("raise SystemExit(0)\n", "SystemExit"),
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("try:\n    import socket\n    socket.socket()\nexcept Exception:\n    pass\n", "socket.__new__"),
    ],
)
def test_an_import_with_a_side_effect_is_reported(source: str, report: str, tmp_path: Path) -> None:
    write(tmp_path / "modules" / "faulty.py", source)
    result = probe("--path", str(tmp_path / "modules"), "faulty", home=tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert report in result.stdout
    assert not (tmp_path / "left-behind").exists()


def test_a_module_that_only_defines_things_passes(tmp_path: Path) -> None:
    write(tmp_path / "modules" / "faulty.py", "import os\n\ndef read() -> str:\n    return os.environ['HOME']\n")
    result = probe("--path", str(tmp_path / "modules"), "faulty", home=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_probe_of_nothing_fails(tmp_path: Path) -> None:
    assert probe(home=tmp_path).returncode == 2
