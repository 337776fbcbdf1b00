"""What the README says is so."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from molecule_runtime.core import env, env_reference

from .support import DEADLINE, TOKEN, Answer, ScriptedPlatform

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found.group(1)


def run(name: str, environ: dict[str, str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    home = {"HOME": str(tmp_path), "CONFIGS_DIR": str(tmp_path / "configs")}
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", example(name)],
        env=home | environ, capture_output=True, text=True, timeout=6 * DEADLINE, check=False,
    )  # fmt: skip


def test_the_table_of_variables_is_that_of_the_code() -> None:
    assert env_reference.README == README
    assert env_reference.main(["--check"]) == 0, "run: python -m molecule_runtime.core.env_reference"
    table = TEXT.partition(env_reference.TABLE.begin)[2].partition(env_reference.TABLE.end)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [variable.name for variable in env.ALL]


def test_a_table_that_is_out_of_date_is_found_and_mended(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(TEXT.replace("`WORKSPACE_ID`", "`WORKSPACE`"), encoding="utf-8")
    assert env_reference.main(["--check"], file=copy) == 1
    assert env_reference.main([], file=copy) == 0
    assert env_reference.main(["--check"], file=copy) == 0
    copy.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="once each"):
        env_reference.main([], file=copy)


def test_every_public_module_and_name_in_the_table_exists() -> None:
    rows = re.findall(r"^\| `(molecule_runtime[\w.]*)` \| (.*) \|$", TEXT, re.MULTILINE)
    assert len(rows) > 20
    for module, meaning in rows:
        imported = importlib.import_module(module)
        for name in re.findall(r"`(\w+)`", meaning):
            assert hasattr(imported, name), f"{module}.{name}"


def test_the_example_of_the_client_runs(platform: ScriptedPlatform, tmp_path: Path) -> None:
    platform.on("GET", "/registry/ws-1/peers", Answer(body=[{"id": "ws-2"}]))
    platform.on("POST", "/workspaces/ws-2/a2a", Answer(body={"result": {"parts": [{"text": "I am two"}]}}))
    environ = {"WORKSPACE_ID": "ws-1", "PLATFORM_URL": platform.url, "MOLECULE_WORKSPACE_TOKEN": TOKEN}
    done = run("client", environ, tmp_path)
    assert done.stderr == ""
    assert "I am two" in done.stdout
    assert [request.bearer for request in platform.requests] == [TOKEN, TOKEN]


def test_the_example_of_the_target_runs(tmp_path: Path) -> None:
    done = run("target", {"WORKSPACE_ID": "ws-1", "MOLECULE_WORKSPACE_TOKEN": TOKEN}, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "ws-1 (PLATFORM_URL)")
    done = run("target", {}, tmp_path)
    assert done.returncode == 1
    assert "WORKSPACE_ID" in done.stderr
