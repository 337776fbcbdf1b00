"""The command line, as a real process."""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from tests.support.in_process import Done, run_main

from molecule_runtime.localplatform import cli

if TYPE_CHECKING:
    from collections.abc import Generator

SECONDS = 30
COMMAND = [sys.executable, "-W", "error", "-m", "molecule_runtime.localplatform"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def environment(data: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(data.parent), "MOLECULE_LOCAL_DATA": str(data)}


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(data), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def first_line(stream: IO[str]) -> str:
    """Read one line, but wait only so long."""
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    return lines.get(timeout=SECONDS)


@contextmanager
def up(data: Path, *arguments: str, encoding: str = "utf-8") -> Generator[tuple[subprocess.Popen[str], str]]:
    """Run `molecule-local up`; yields the process and its first line."""
    process = subprocess.Popen(
        [*COMMAND, "up", "--port", "0", *arguments],
        env={**environment(data), "PYTHONIOENCODING": encoding},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process, first_line(process.stdout)
    finally:
        process.kill()
        process.wait(SECONDS)
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_stops_cleanly_on_a_signal(data: Path, number: signal.Signals) -> None:
    with up(data, "--json") as (process, line):
        started = json.loads(line)
        assert started["url"].startswith("http://127.0.0.1:")
        assert started["data"] == str(data)
        token_file = data / "admin_token"
        assert started["admin_token_file"] == str(token_file)
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        assert token_file.read_text() not in line
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err) == (0, "", "")
    assert not (data / "endpoint").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_up_says_where_things_are_and_never_the_token(data: Path, encoding: str) -> None:
    with up(data, encoding=encoding) as (process, line):
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        text = line + process.stdout.read() + process.stderr.read()
    assert "answers at http://127.0.0.1:" in line
    assert str(data) in text
    assert str(data / "admin_token") in text
    assert "Next" in text
    assert (data / "admin_token").read_text() not in text


def test_the_commands_work_on_the_platform_that_runs(data: Path) -> None:
    def told(*arguments: str) -> Done:
        # Each of the commands starts once; what it says besides does not take another process.
        return run_main(cli.main, *arguments, environ=environment(data))

    with up(data, "--json"):
        assert "0 workspaces" in run(data, "status").stdout
        made = json.loads(
            run(data, "workspace", "create", "alice", "--external", "--poll", "--role", "cook", "--json").stdout
        )
        assert made["status"] == "awaiting_agent"
        text = told("workspace", "create", "bob", "--parent", made["id"]).stdout
        assert "WORKSPACE_ID=" in text
        assert "TOKEN" not in text
        text = told("workspace", "create", "carol", "--external").stdout
        assert "MOLECULE_WORKSPACE_TOKEN=" in text

        rows = json.loads(told("workspace", "list", "--json").stdout)
        assert [(row["name"], row["role"], row["delivery_mode"]) for row in rows] == [
            ("alice", "cook", "poll"),
            ("bob", None, "push"),
            ("carol", None, "push"),
        ]
        assert "alice" in told("workspace", "list").stdout
        assert len(json.loads(told("status", "--json").stdout)["workspaces"]) == 3

        token = run(data, "token", "create", made["id"]).stdout.strip()
        listed = told("token", "list", made["id"]).stdout
        assert token not in listed
        line = next(line for line in listed.splitlines() if token[:8] in line)
        revoked = told("token", "revoke", made["id"], line.split()[0])
        assert (revoked.returncode, revoked.stderr) == (0, "")
        assert token[:8] not in told("token", "list", made["id"]).stdout

        refused = run(data, "workspace", "rm", made["id"])
        assert refused.returncode == 1
        assert "--recursive" in refused.stderr
        assert told("workspace", "rm", made["id"], "--recursive").returncode == 0
        gone = told("workspace", "rm", made["id"])
        assert (gone.returncode, len(gone.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["nope"], "nope"),
        (["up", "--port", "x"], "port"),
        (["up", "--port", "70000"], "70000"),
        (["workspace", "list"], "admin token file"),
        (["workspace", "list", "--url", "ftp://x"], "platform_url"),
        (["token", "create"], "WORKSPACE"),
        (["token", "create", "alice"], "admin token file"),
        (["workspace", "lis"], "lis"),
        (["up", "--por", "1"], "--por"),
        (["up", "--rate-limit", "0"], "--rate-limit"),
        (["up", "--url-rule", "none"], "--url-rule"),
        (["up", "--org-id", "a b"], "--org-id"),
    ],
)
def test_wrong_usage_is_exit_code_2_on_stderr(
    arguments: list[str],
    said: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MOLECULE_LOCAL_DATA", str(data))
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, said in captured.err) == ("", True)


def test_help_and_version_are_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--version"], ["up", "--help"], ["workspace", "create", "--help"]):
        assert cli.main(arguments) == 0
        assert capsys.readouterr().out


COMMANDS = [
    [command.name] for command in cli.COMMANDS if command.name not in {"demo", "workspace", "token", "requests"}
]
VERBS = [
    *(["workspace", verb] for verb in ("create", "list", "rm")),
    *(["token", verb] for verb in ("create", "list", "revoke")),
    *(["requests", verb] for verb in ("list", "show", "approve", "reject", "done", "answer")),
]


@pytest.mark.parametrize("command", [*COMMANDS, *VERBS], ids=" ".join)
def test_every_command_explains_itself_with_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--help"]) == 0
    captured = capsys.readouterr()
    help_text, _, examples = captured.out.partition("examples:\n")
    assert "--data DIR" in help_text
    assert f"molecule-local {' '.join(command)}" in examples
    # What is shown can be typed: every option of the examples is one of the command.
    for option in re.findall(
        r"(?<= )--?[a-z][a-z-]*", "\n".join(examples.split("|")[0] for examples in examples.splitlines())
    ):
        assert option in help_text, option


@pytest.mark.parametrize(
    "readme", [Path(__file__).parents[1] / "README.md", Path(__file__).parents[3] / "README.md"], ids=str
)
def test_every_command_of_the_readme_exists(readme: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    found = 0
    for line in "\n".join(text for language, text in blocks if language in {"", "console"}).splitlines():
        if "molecule-local " not in line.partition(" #")[0]:
            continue
        words = shlex.split(line, comments=True)
        words = words[words.index("molecule-local") + 1 :]
        arguments = list(itertools.takewhile(lambda word: word not in {"|", "&", "&&", ">", ">>"}, words))
        assert callable(cli.parser_for(arguments).parse_args(arguments).run), line
        found += 1
    assert found >= 7


def test_without_a_command_the_help_is_on_stderr_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for command in cli.COMMANDS:
        assert re.search(rf"^    {command.name}\s+{command.summary}$", captured.err, re.MULTILINE)


def test_help_loads_nothing_that_takes_its_time() -> None:
    heavy = ("starlette", "uvicorn", "httpx", "pydantic", "anyio", "asyncio", "sqlite3", "websockets", "yaml")
    commands = [["--help"], *([*command, "--help"] for command in COMMANDS), ["requests", "list", "--help"]]
    code = (
        "import sys; from molecule_runtime.localplatform.cli import main;"
        f" [main(command) for command in {commands!r}]; print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_platform_loads_nothing_that_it_does_not_use() -> None:
    unused = (
        "a2a",
        "mcp",
        "fastapi",
        "sqlalchemy",
        "cryptography",
        "rich",
        "pygments",
        "opentelemetry",
        "starlette.testclient",
    )
    code = (
        "import sys\n"
        "from molecule_runtime.core.starting import loading\n"
        "with loading():\n    import molecule_runtime.localplatform.server\n"
        f"print([name for name in {unused!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_data_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from molecule_runtime.localplatform.settings import default_data_folder

    monkeypatch.setenv("HOME", str(tmp_path))
    cases: list[tuple[dict[str, Any], Path]] = [
        ({}, tmp_path / ".local/share/molecule-local"),
        ({"XDG_DATA_HOME": "/xdg"}, tmp_path.__class__("/xdg/molecule-local")),
        ({"XDG_DATA_HOME": "relative"}, tmp_path / ".local/share/molecule-local"),
        ({"XDG_DATA_HOME": "/xdg", "MOLECULE_LOCAL_DATA": "~/mine"}, tmp_path / "mine"),
    ]
    for variables, expected in cases:
        assert default_data_folder(variables) == expected
