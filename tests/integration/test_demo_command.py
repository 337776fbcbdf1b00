"""`molecule-local demo` as a person or a script runs it."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.in_process import Done, run_main

from molecule_runtime.localplatform.cli import main
from molecule_runtime.localplatform.demo.narrator import Narrator

COMMAND = [sys.executable, "-m", "molecule_runtime.localplatform", "demo"]
SECONDS = 100


def run(*arguments: str) -> Done:
    """Run it in this process: to its end, or to a refusal. Those that are stopped or lose their reader are processes of their own."""
    return run_main(main, "demo", "--once", *arguments, environ=os.environ)


def events(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def secrets_below(folder: Path) -> list[str]:
    names = {".auth_token", ".platform_inbound_secret", "admin_token"}
    return [path.read_text().strip() for path in folder.rglob("*") if path.name in names]


def processes_that_mention(text: str) -> list[str]:
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                found += [
                    process.name
                    for part in ("cmdline", "environ")
                    if text in (process / part).read_text(errors="replace")
                ]
            except OSError:
                continue
    return found


def is_host_of(name: str, pid: str) -> bool:
    return f"MOLECULE_AGENT_NAME={name}\0" in Path("/proc", pid, "environ").read_text(errors="replace")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run in events."""
    return tmp_path_factory.mktemp("run") / "demo"


@pytest.fixture(scope="module")
def finished(data: Path) -> subprocess.CompletedProcess[str]:
    """A run in events about a table of the user's own; it stays up, loses a host, and is stopped by Ctrl-C."""
    table = data.parent / "fruit.csv"
    table.write_text("fruit,price_eur\napple,2\npear,3\nfig,7\n")
    question = "Which fruit has the highest price"
    arguments = ["--json", "--data", str(data), "--csv", str(table), "--question", question]
    with (
        (data.parent / "stderr").open("w+") as stderr,
        subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True, stdin=subprocess.DEVNULL
        ) as process,
    ):
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                event = json.loads(line)["event"]
                if event == "staying":
                    assert process.poll() is None
                    atlas = [pid for pid in processes_that_mention(str(data)) if is_host_of("atlas", pid)]
                    os.kill(int(atlas[0]), signal.SIGKILL)
                elif event == "host_ended":
                    process.send_signal(signal.SIGINT)
            code = process.wait(SECONDS)
        finally:
            process.kill()
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, code, "".join(said), stderr.read())


def test_the_demo_runs_to_its_end_and_says_so_in_events(finished: subprocess.CompletedProcess[str], data: Path) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    seen = events(finished.stdout)
    assert {event["who"] for event in seen if event["event"] == "online"} == {"lead", "calc", "atlas", "scout"}
    arrows = {(event["source"], event["target"]) for event in seen if event["event"] == "message"}
    assert arrows >= {
        ("scout", "calc"),
        ("scout", "atlas"),
        ("scout", "lead"),
        ("lead", "calc"),
        ("lead", "atlas"),
        ("lead", "scout"),
        ("you", "lead"),
        ("scout", "you"),
    }
    done = next(event for event in seen if event["event"] == "done")
    assert done["ok"] is True
    configs = {event["client"]: event["text"] for event in seen if event["event"] == "mcp_config"}
    assert set(configs) == {"claude-code", "codex"}
    # The run left its secrets in the folder, so that this can be checked: none of them was printed.
    secrets = secrets_below(data)
    assert len(secrets) >= 5
    for secret in secrets:
        assert secret not in finished.stdout + finished.stderr
        assert not [log for log in data.rglob("*.log") if secret in log.read_text()]
    assert not processes_that_mention(str(data))


def test_the_demo_prints_names_and_arrows_for_people() -> None:
    finished = run()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for piece in (
        "scout ──▶ calc",
        "scout ◀── calc",
        "lead ──▶ atlas",
        "395",
        "Jupiter",
        "claude mcp add molecule",
        "[mcp_servers.molecule]",
    ):
        assert piece in finished.stdout
    assert "\x1b[" not in finished.stdout
    assert finished.stderr == ""


def test_the_demo_stays_up_until_ctrl_c_and_says_at_once_which_host_died(
    finished: subprocess.CompletedProcess[str],
) -> None:
    seen = [event for event in events(finished.stdout) if event["event"] != "platform_event"]
    staying = [event["event"] for event in seen].index("staying")
    # The rest of the team stays.
    (ended,) = [event for event in seen[staying + 1 :] if event["event"] == "host_ended"]
    assert (ended["event"], ended["who"], ended["code"]) == ("host_ended", "atlas", -signal.SIGKILL)


def test_a_table_of_the_users_own_is_answered_about(finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    answers = [
        event["text"] for event in events(finished.stdout) if event["event"] == "answer" and event["source"] == "atlas"
    ]
    assert any("fig" in answer for answer in answers)


def test_a_step_that_fails_makes_the_demo_fail_with_the_reason(tmp_path: Path) -> None:
    table = tmp_path / "broken.csv"
    table.write_bytes(b"\xff\xfe\x00not a table")
    finished = run("--json", "--csv", str(table), "--step-timeout", "30")
    assert finished.returncode == 1
    failed = next(event for event in events(finished.stdout) if event["event"] == "failed")
    assert "atlas" in failed["reason"]
    assert "is not UTF-8 text" in failed["reason"]
    assert failed["reason"].splitlines()[0] in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_terminal_without_arrows_gets_others() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    narrator = Narrator(as_json=False, out=out)
    narrator.message("scout", "calc", "¿cuánto es 17 * 23?")
    narrator.answer("scout", "calc", "391", milliseconds=5)
    out.seek(0)
    said = out.read()
    assert "scout --> calc" in said
    assert "17 * 23" in said
    assert "scout <-- calc" in said


def test_a_reader_that_leaves_ends_the_demo_with_one_line(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--once", "--data", str(tmp_path / "demo")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(SECONDS) == 1
    assert said == "molecule-local demo: standard output cannot be written to: Broken pipe\n"
    assert not processes_that_mention(str(tmp_path / "demo"))


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finished = run("--data", str(tmp_path / "file"))
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"molecule-local demo: --data {str(tmp_path / 'file')!r} cannot be used")
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--csv", "/nowhere/table.csv"], "/nowhere/table.csv"),
        (["--port", "70000"], "70000"),
        (["--port", "x"], "--port"),
        (["--step-timeout", "0"], "--step-timeout"),
    ],
)
def test_wrong_arguments_are_refused_with_exit_2_and_the_value(arguments: list[str], names: str) -> None:
    finished = run(*arguments)
    assert finished.returncode == 2
    assert names in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        finished = run("--port", port, "--data", str(tmp_path / "demo"))
    assert finished.returncode == 2
    assert port in finished.stderr
    assert "Traceback" not in finished.stderr
