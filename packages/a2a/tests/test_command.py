"""The `molecule-runtime` command: signals, exit codes, and one clear line for every bad input."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from molecule_runtime.a2a import cli
from molecule_runtime.core.envelope import Failure, read_answer
from molecule_runtime.core.version import version_of

from .support import (
    COMMAND,
    DEADLINE,
    ECHO,
    FakePlatform,
    Workspace,
    ask,
    command,
    ended,
    process,
    ready,
    serving,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from molecule_runtime.core.envelope import Answer

    Make = Callable[..., Workspace]

pytestmark = pytest.mark.anyio

GATED_ANSWER = ECHO.replace(
    'return f"You said: {turn.text}"',
    """import httpx
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                await client.get(self.config.platform.target.platform_url + "/gate/turn")
            return f"You said: {turn.text}" """,
)


def complaint(log: str) -> str:
    """Return the one line that the command says to its user, without the log."""
    lines = [line for line in log.splitlines() if line.startswith("molecule-runtime: ")]
    assert len(lines) == 1, log
    assert "Traceback" not in log
    return lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_host_cleanly(make_workspace: Make, number: signal.Signals) -> None:
    workspace = make_workspace()
    async with process(workspace) as host:
        await ready(workspace)
        host.popen.send_signal(number)
        assert await host.exit_code() == 0
        assert number.name in host.log()
        assert "Traceback" not in host.log()
        with pytest.raises(httpx.ConnectError):
            await ask(workspace, "hello")


async def test_a_signal_during_the_adapters_setup_stops_the_host_cleanly(
    make_workspace: Make, platform: FakePlatform
) -> None:
    source = ECHO.replace(
        "self.config = config",
        """import httpx
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                await client.get(config.platform.target.platform_url + "/gate/setup")""",
    )
    workspace = make_workspace(source)
    waiting, _ = platform.gate("setup")
    async with process(workspace) as host:
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        host.popen.send_signal(signal.SIGTERM)
        assert await host.exit_code() == 0
    assert platform.registrations == []


async def test_a_running_turn_is_finished_before_the_host_ends(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace(GATED_ANSWER)
    waiting, opened = platform.gate("turn")
    answers: list[str] = []
    async with process(workspace) as host, anyio.create_task_group() as tasks:
        await ready(workspace)

        async def talk() -> None:
            answers.append(text_of(await ask(workspace, "hello")))

        tasks.start_soon(talk)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        host.popen.send_signal(signal.SIGTERM)
        await host.says("waiting up to 10 s for 1 running turn(s)")
        opened.set()
        assert await host.exit_code() == 0
    assert answers == ["You said: hello"]


async def test_a_turn_that_does_not_end_is_cancelled_and_its_sender_told(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED_ANSWER)
    waiting, _ = platform.gate("turn")
    answers: list[Answer] = []
    async with anyio.create_task_group() as tasks, serving(workspace, drain=0.1) as stop:
        await ready(workspace)

        async def talk() -> None:
            answers.append(read_answer(await ask(workspace, "hello")))

        tasks.start_soon(talk)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        stop.request("test")
    assert answers == [Failure(message="Agent error: the workspace is stopping; send the message again")]


async def test_a_second_signal_ends_the_host_at_once(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace(GATED_ANSWER)
    waiting, _ = platform.gate("turn")
    async with process(workspace) as host, anyio.create_task_group() as tasks:
        await ready(workspace)

        async def talk() -> None:
            with pytest.raises(httpx.TransportError):
                await ask(workspace, "hello")

        tasks.start_soon(talk)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        host.popen.send_signal(signal.SIGTERM)
        await host.says("running turn(s)")
        host.popen.send_signal(signal.SIGTERM)
        assert await host.exit_code() == 128 + signal.SIGTERM


async def test_a_host_ends_although_the_adapter_left_a_thread_behind(make_workspace: Make) -> None:
    source = ECHO.replace(
        "self.config = config",
        """import threading
            from molecule_runtime.a2a import cli
            cli.DRAIN_SECONDS, cli._EXIT_GRACE = 0.0, 3.0
            threading.Thread(target=threading.Event().wait).start()""",
    )
    workspace = make_workspace(source)
    async with process(workspace) as host:
        await ready(workspace)
        host.popen.send_signal(signal.SIGTERM)
        assert await host.exit_code() == 0


async def test_arguments_that_nobody_knows_are_tolerated(make_workspace: Make) -> None:
    workspace = make_workspace()
    async with process(workspace, "--channel", "x", "positional") as host:
        await ready(workspace)
        assert "ignoring 3 argument(s)" in host.log()


async def test_the_log_goes_to_stderr_in_the_format_that_is_asked_for(make_workspace: Make) -> None:
    workspace = make_workspace(config="observability: {log_level: WARNING}")
    # The installed command, with whatever its imports have to say.
    async with command(workspace) as host:
        await ready(workspace)
        host.popen.send_signal(signal.SIGTERM)
        assert await host.exit_code() == 0
        # At WARNING neither the host, the SDK nor the server has anything to say about a normal life.
        assert host.log() == ""


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"WORKSPACE_ID": ""}, 2, ["WORKSPACE_ID is not set"]),
        ({"WORKSPACE_ID": "Not Valid"}, 2, ["WORKSPACE_ID", "'Not Valid'"]),
        ({"PLATFORM_URL": "ftp://x"}, 2, ["PLATFORM_URL", "'ftp://x'"]),
        ({"PLATFORM_URL": "http://user:hunter22@x"}, 2, ["PLATFORM_URL"]),
        ({"MOLECULE_WORKSPACE_URL": "somewhere"}, 2, ["MOLECULE_WORKSPACE_URL", "'somewhere'"]),
        ({"MOLECULE_DELIVERY_MODE": "pigeon"}, 2, ["MOLECULE_DELIVERY_MODE", "'pigeon'", "push or poll"]),
        ({"CONFIGS_DIR": "/proc/nothing"}, 2, ["CONFIGS_DIR", "/proc/nothing"]),
        ({"LOG_LEVEL": "LOUD"}, 2, ["LOG_LEVEL", "LOUD"]),
        ({"WORKSPACE_CONFIG_PATH": "/nonexistent"}, 2, ["/nonexistent/config.yaml", "WORKSPACE_CONFIG_PATH"]),
        ({"MOLECULE_BIND_HOST": "203.0.113.1"}, 1, ["203.0.113.1", "MOLECULE_BIND_HOST"]),
        ({"ADAPTER_MODULE": "no_such_adapter"}, 1, ["ADAPTER_MODULE 'no_such_adapter'", "ModuleNotFoundError"]),
    ],
)
async def test_a_bad_setting_is_one_clear_line(
    make_workspace: Make, changes: dict[str, str], code: int, words: list[str]
) -> None:
    workspace = make_workspace()
    done = await ended(workspace, **changes)
    assert done.code == code
    line = complaint(done.log)
    assert all(word in line for word in words), line
    assert "hunter22" not in done.log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a2a: [", ["config.yaml is not valid YAML"]),
        ("- a list", ["config.yaml", "mapping"]),
        ("a2a: {port: 99999}", ["a2a.port", "99999"]),
        ("a2a: {delivery_mode: pigeon}", ["a2a.delivery_mode", "poll"]),
        ("observability: {log_level: LOUD}", ["observability.log_level", "LOUD"]),
        ("runtime: no-such-runtime", ["'no-such-runtime'", "calculator"]),
    ],
)
async def test_a_bad_config_file_is_one_clear_line(make_workspace: Make, text: str, words: list[str]) -> None:
    workspace = make_workspace("")
    (workspace.root / "configs" / "config.yaml").write_text(text)
    done = await ended(workspace)
    assert done.code == 2
    line = complaint(done.log)
    assert all(word in line for word in words), line


async def test_a_config_file_that_may_not_be_read_is_one_clear_line(make_workspace: Make) -> None:
    workspace = make_workspace("")
    path = workspace.root / "configs" / "config.yaml"
    path.unlink()
    path.mkdir()
    async with command(workspace) as host:
        assert await host.exit_code() == 2
        assert "cannot be read" in complaint(host.log())


async def test_a_port_that_is_taken_is_one_clear_line(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace()
    with socket.create_server(("127.0.0.1", workspace.port)):
        async with process(workspace) as host:
            assert await host.exit_code() == 1
            assert f"a2a.port {workspace.port} is taken" in complaint(host.log())
    assert platform.registrations == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise OSError('disk is\\n full')", ["OSError: disk is full"]),
        ("import does_not_exist", ["ModuleNotFoundError", "does_not_exist"]),
        ("def (", ["SyntaxError"]),
        ("import sys; sys.exit(0)", ["SystemExit"]),
        ("x = 1", ["defines no adapter"]),
        ("Adapter = 3", ["not an adapter class"]),
        (
            "from molecule_runtime.core.adapter import BaseAdapter\nclass Adapter(BaseAdapter): pass",
            ["TypeError", "abstract"],
        ),
    ],
)
async def test_an_adapter_that_cannot_be_loaded_is_one_clear_line(
    make_workspace: Make, source: str, words: list[str]
) -> None:
    workspace = make_workspace(source)
    done = await ended(workspace)
    assert done.code == 1
    line = complaint(done.log)
    assert all(word in line for word in words), line


async def test_the_traceback_of_an_adapter_is_shown_when_it_is_asked_for(make_workspace: Make) -> None:
    workspace = make_workspace("raise OSError('disk is full')")
    done = await ended(workspace, LOG_LEVEL="DEBUG")
    assert done.code == 1
    assert "Traceback" in done.log


@pytest.mark.parametrize("words", [[COMMAND], [sys.executable, "-m", "molecule_runtime.a2a"]])
def test_help_and_version_need_no_settings(words: list[str], tmp_path: Path) -> None:
    said = subprocess.run(
        [*words, "--help"], capture_output=True, text=True, timeout=DEADLINE, check=True, cwd=tmp_path
    )
    assert "WORKSPACE_ID" in said.stdout
    said = subprocess.run(
        [*words, "--version"], capture_output=True, text=True, timeout=DEADLINE, check=True, cwd=tmp_path
    )
    assert version_of("molecule-runtime-a2a") in said.stdout


def test_the_command_line_loads_neither_the_sdk_nor_a_server() -> None:
    code = (
        "import sys, molecule_runtime.a2a.cli; print([m for m in ('a2a', 'uvicorn', 'starlette') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert said.stdout.strip() == "[]"


def test_the_host_loads_nothing_that_it_does_not_use() -> None:
    unused = (
        "grpc",
        "fastapi",
        "sqlalchemy",
        "cryptography",
        "rich",
        "pygments",
        "langchain_core",
        "opentelemetry.sdk",
        "mcp",
    )
    code = (
        "import sys\n"
        "from molecule_runtime.core.starting import loading\n"
        "with loading():\n    import molecule_runtime.a2a.boot\n"
        f"print([name for name in {unused!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_names_that_other_programs_start_it_by_are_one_function() -> None:
    assert cli.main_sync is cli.main
