"""`molecule-runtime check` and `schema`, as commands: most of them in this process, and each once as a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.in_process import Done, run_main
from tests.support.warm import WarmProcess

from molecule_runtime.core.config import json_schema
from molecule_runtime.core.preflight import ALL_CHECKS

from .support import Answer, ScriptedPlatform

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Path(sys.executable).with_name("molecule-runtime")

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="molecule-runtime-a2a is not installed")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "configs").mkdir(mode=0o755)
    (tmp_path / "configs" / "system-prompt.md").write_text("Be brief.", encoding="utf-8")
    (tmp_path / "configs" / "config.yaml").write_text(
        "name: x\nruntime: calculator\na2a: {port: 0x2711}\n", encoding="utf-8"
    )
    return {
        "WORKSPACE_CONFIG_PATH": str(tmp_path / "configs"),
        "CONFIGS_DIR": str(tmp_path / "state"),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PYTHONWARNINGS": "error",
        "MOLECULE_BIND_HOST": "127.0.0.1",
    }


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    from molecule_runtime.a2a.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **changes: str) -> Done:
        return run_main(main, *arguments, environ={**environ, **changes})

    return call


def write(environ: dict[str, str], text: str) -> None:
    Path(environ["WORKSPACE_CONFIG_PATH"], "config.yaml").write_text(text, encoding="utf-8")


def test_a_workspace_that_is_well_ends_with_0_offline(environ: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [str(COMMAND), "check", "--offline"], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "FAIL" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 failed")


def test_a_workspace_that_is_well_ends_with_0_on_its_platform(run: Any, platform: ScriptedPlatform) -> None:
    platform.on("GET", "/health", Answer(body={"status": "ok"}))
    platform.on("POST", "/registry/heartbeat", Answer(body={"status": "ok"}))
    token = "token-of-workspace-one-1234"  # noqa: S105 - made up
    done = run("check", WORKSPACE_ID="ws-1", PLATFORM_URL=platform.url, MOLECULE_WORKSPACE_TOKEN=token)
    assert done.returncode == 0, done.stdout
    assert token not in done.stdout
    assert platform.to("POST", "/registry/register") == []


def test_a_failure_ends_with_1_and_names_its_fix(run: Any, environ: dict[str, str]) -> None:
    write(environ, "runtime: calculator\nenv: {required: [A_KEY]}\n")
    done = run("check", "--offline")
    assert done.returncode == 1
    assert "FAIL  env.required: A_KEY is not set (env.required in config.yaml)" in done.stdout
    assert "      Fix: set A_KEY in the workspace's secrets" in done.stdout
    assert run("check", "--offline", A_KEY="x").returncode == 0


@pytest.mark.parametrize("text", ["tier: x", "a: [", "- list", None])
def test_a_config_that_cannot_be_used_ends_with_2_and_the_other_checks_still_run(
    run: Any, environ: dict[str, str], text: str | None
) -> None:
    path = Path(environ["WORKSPACE_CONFIG_PATH"], "config.yaml")
    path.unlink() if text is None else write(environ, text)
    done = run("check", "--offline", ADAPTER_MODULE="no_such_module")
    assert done.returncode == 2
    assert "FAIL  config: " in done.stdout
    assert "FAIL  runtime.adapter: " in done.stdout
    assert "SKIP  skills: config.yaml cannot be used" in done.stdout


def test_an_unknown_key_fails_only_when_strict(run: Any, environ: dict[str, str]) -> None:
    write(environ, "runtime: calculator\nnaem: x\n")
    loose, strict = run("check", "--offline"), run("check", "--offline", "--strict")
    assert (loose.returncode, strict.returncode) == (0, 2)
    assert "WARN  config: " in loose.stdout
    assert "FAIL  config: " in strict.stdout
    assert all("Fix: did you mean name?" in done.stdout for done in (loose, strict))


def test_the_folder_may_be_named(run: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text("name: other\nruntime: calculator\n", encoding="utf-8")
    done = run("check", "--offline", "--config", str(other))
    assert done.stdout.splitlines()[0] == str(other / "config.yaml")


def test_the_json_form_is_one_object_with_every_check(run: Any, environ: dict[str, str]) -> None:
    write(environ, "runtime: calculator\ntier: x\n")
    done = run("check", "--offline", "--json")
    data = json.loads(done.stdout)
    assert (done.returncode, data["exit_code"], data["ok"], data["usable"]) == (2, 2, False, False)
    assert {result["check"] for result in data["results"]} == {check.id for check in ALL_CHECKS}
    (finding,) = data["findings"]
    assert (finding["key"], finding["line"], finding["column"], finding["value"]) == ("tier", 2, 7, "'x'")


def test_a_bad_adapter_neither_hangs_nor_ends_the_command(run: Any, tmp_path: Path) -> None:
    (tmp_path / "bad_adapter.py").write_text("import os; os._exit(0)", encoding="utf-8")
    done = run("check", "--offline", ADAPTER_MODULE="bad_adapter")
    assert done.returncode == 1
    assert "ended its process with exit code 0" in done.stdout


def test_colour_is_for_a_terminal_only(run: Any, environ: dict[str, str]) -> None:
    assert "\x1b" not in run("check", "--offline").stdout
    assert "\x1b[" in in_terminal(environ)
    assert "\x1b" not in in_terminal({**environ, "NO_COLOR": "1"})


def in_terminal(environ: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    process = WarmProcess("molecule-runtime", ["check", "--offline"], environ, Path.cwd(), (theirs, theirs, theirs))
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:
        # Linux ends the stream of a closed terminal so.
        pass
    finally:
        os.close(ours)
        process.wait(90)
    return text.decode()


def test_schema_prints_the_json_schema(run: Any) -> None:
    done = run("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json_schema()


def test_a_reader_that_has_seen_enough_is_no_error(environ: dict[str, str]) -> None:
    line = f"'{COMMAND}' schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=environ, capture_output=True, text=True, timeout=90)
    assert (done.stdout.splitlines(), done.stderr) == (["{", "0"], "")


def test_the_host_refuses_to_start_on_a_failure_before_it_loads_the_adapter(
    run: Any, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "loud_adapter.py").write_text("print('IMPORTED', flush=True)", encoding="utf-8")
    write(environ, "runtime: loud\nenv: {required: [A_KEY, B_KEY]}\n")
    done = run(WORKSPACE_ID="ws-1", PLATFORM_URL="http://127.0.0.1:1", ADAPTER_MODULE="loud_adapter")
    assert done.returncode == 1
    assert "A_KEY is not set" in done.stderr
    assert "B_KEY is not set" in done.stderr
    assert "IMPORTED" not in done.stdout + done.stderr


def test_a_wrong_option_is_wrong_usage(run: Any) -> None:
    assert run("check", "--verbose").returncode == 2
    assert run("check", "--help").returncode == 0
