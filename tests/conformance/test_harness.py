"""The harness of the conformance suites: who is asked, what is left out, and what the suites may use."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .platform.local import molecule_local
from .platform.site import Server, agent_on, client_of, http_answer

SUITE = Path(__file__).parent / "platform"
MODULES = sorted(SUITE.glob("*.py"))
RUN_SECONDS = 100

EXAMPLE = """
import pytest

@pytest.mark.contract("4.1", "24.1", era="april")
def test_on_both(): pass

@pytest.mark.contract("24.3", era="june")
def test_of_june(): pass

@pytest.mark.contract("9.3", "ours", era="june")
def test_of_ours(): pass
"""


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest there with the harness's own settings, and with the plugins that it needs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MOLECULE_", "PYTEST_"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugins = ("-p", "anyio.pytest_plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "addopts=--import-mode=importlib", *plugins, *arguments],
        cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
    )  # fmt: skip


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of its own with the same harness."""
    shutil.copytree(SUITE, tmp_path / "suite", ignore=shutil.ignore_patterns("test_*.py", "__pycache__"))
    marker = "contract(*sections, era): as in the repository"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = .\nmarkers =\n    {marker}\n", encoding="utf-8")
    (tmp_path / "suite" / "test_example.py").write_text(EXAMPLE, encoding="utf-8")
    return tmp_path


def test_what_needs_june_is_left_out_against_a_server_of_april(suite: Path) -> None:
    done = run(suite, "suite", "--platform-era", "april")
    assert "1 passed, 2 deselected" in done.stdout, done.stdout
    done = run(suite, "suite", MOLECULE_CONFORMANCE_ERA="april")
    assert "1 passed, 2 deselected" in done.stdout, done.stdout


def test_everything_runs_against_a_server_of_june_and_an_option_wins_over_the_environment(suite: Path) -> None:
    done = run(suite, "suite", "--platform-era=june", MOLECULE_CONFORMANCE_ERA="april")
    assert "3 passed in" in done.stdout, done.stdout


def test_what_only_molecule_local_does_is_left_out_against_another_server(suite: Path) -> None:
    done = run(suite, "suite", "--platform-url", "http://localhost:9")
    assert "2 passed, 1 deselected" in done.stdout, done.stdout
    done = run(suite, "suite", MOLECULE_CONFORMANCE_URL="http://localhost:9", MOLECULE_CONFORMANCE_ERA="april")
    assert "1 passed, 2 deselected" in done.stdout, done.stdout


def test_an_era_that_nobody_knows_is_refused(suite: Path) -> None:
    done = run(suite, "suite", MOLECULE_CONFORMANCE_ERA="may")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "april or june" in done.stderr


UNMARKED = (
    "",
    "@pytest.mark.contract(era='june')",
    "@pytest.mark.contract('4.1')",
    "@pytest.mark.contract('4.1', era='may')",
    "@pytest.mark.contract('registry', era='june')",
)


def test_tests_that_do_not_say_what_they_pin_are_errors(suite: Path) -> None:
    for number, marker in enumerate(UNMARKED):
        text = f"import pytest\n\n{marker}\ndef test_of_nothing(): pass\n"
        (suite / "suite" / f"test_unmarked_{number}.py").write_text(text, encoding="utf-8")
    done = run(suite, "suite", "--collect-only")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert f"{len(UNMARKED)} errors" in done.stdout, done.stdout
    for number in range(len(UNMARKED)):
        assert f"test_unmarked_{number}.py::test_of_nothing: " in done.stdout


def test_the_suite_runs_against_a_server_given_by_its_address(tmp_path: Path) -> None:
    with molecule_local(tmp_path) as running:
        token_file = tmp_path / "token"
        token_file.write_text(running.admin_token, encoding="utf-8")
        root = SUITE.parents[2]
        named = ("--platform-url", running.url, "--platform-token-file", str(token_file))
        selected = ("-o", "timeout=60", f"{SUITE}/test_health.py")
        by_option = run(root, *selected, *named)
        by_variable = run(
            root, *selected, MOLECULE_CONFORMANCE_URL=running.url, MOLECULE_CONFORMANCE_ADMIN_TOKEN=running.admin_token
        )
    assert by_option.returncode == 0, by_option.stdout
    assert by_variable.returncode == 0, by_variable.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_suite_uses_nothing_of_our_code(path: Path) -> None:
    assert imported(path.read_text(encoding="utf-8")) <= ALLOWED | sys.stdlib_module_names


def test_an_import_of_our_code_would_be_found() -> None:
    text = "if TYPE_CHECKING:\n    from molecule_runtime.core import env\nimport molecule_runtime.core"
    assert imported(text) == {"molecule_runtime"}


ALLOWED = {"anyio", "httpx", "pytest", "websockets"}


def imported(text: str) -> set[str]:
    """Return the top names of what a module imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_client_waits_where_the_server_limits_the_rate(anyio_backend: str) -> None:
    del anyio_backend
    async with agent_on("localhost") as limited:
        answers = [
            http_answer({"error": "rate limit exceeded", "retry_after": 0}, 429, headers="Retry-After: 0\r\n"),
            http_answer({"error": "the workspace has 50 live tokens"}, 429, headers="Retry-After: 0\r\n"),
        ]

        async def answer(_: object) -> bytes:
            return answers.pop(0)

        limited.answer = answer
        server = Server(url=limited.url.rstrip("/"), admin_token="", era="june", agent_host="localhost")
        async with client_of(server) as http:
            refused = await http.get("/")
    assert refused.status_code == 429
    assert not answers


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_connections_that_come_while_an_agent_ends_are_closed(anyio_backend: str) -> None:
    del anyio_backend

    async def knock(port: int) -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.abort()

    for rounds in range(40):
        async with asyncio.TaskGroup() as group, agent_on("localhost") as agent:
            port = int(agent.url.rsplit(":", 1)[1].rstrip("/"))
            for _ in range(3):
                group.create_task(knock(port))
            # The agent ends while they are on their way, each time a little later.
            for _ in range(rounds % 8):
                await asyncio.sleep(0)
    # What was left open is a warning now, and a warning is an error.
    gc.collect()
