"""The server under test, its era, and the marker that says what a test pins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from .site import Agent, Era, Server, Site, agent_on

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

START_SECONDS = 60.0
OPTIONS = {
    "--platform-url": ("MOLECULE_CONFORMANCE_URL", "server under test (default: start molecule-local)"),
    "--platform-token-file": ("MOLECULE_CONFORMANCE_ADMIN_TOKEN_FILE", "file with its admin token"),
    "--platform-era": ("MOLECULE_CONFORMANCE_ERA", "june (default) or april: what the server speaks"),
    "--platform-agent-host": (
        "MOLECULE_CONFORMANCE_AGENT_HOST",
        "name under which it reaches this machine (default: localhost)",
    ),
}
"""Option, its variable and its meaning. Options exist only when this folder is named on the command line, so each has a variable."""

ADMIN_TOKEN = "MOLECULE_CONFORMANCE_ADMIN_TOKEN"  # noqa: S105 - the name of a variable


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("platform conformance")
    for option, (variable, meaning) in OPTIONS.items():
        group.addoption(option, default=None, help=f"{meaning}; or ${variable}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse tests of this folder that do not say what they pin, and leave out those that the server is too old for."""
    here = Path(__file__).parent
    own = [item for item in items if item.path.is_relative_to(here)]
    unmarked = [item.nodeid for item in own if not _era_of(item)]
    if unmarked:
        raise pytest.UsageError(f"no @pytest.mark.contract('section', era='april' or 'june') on: {', '.join(unmarked)}")
    if era_of(config) == "june":
        return
    too_new = [item for item in own if _era_of(item) == "june"]
    config.hook.pytest_deselected(items=too_new)
    left_out = set(too_new)
    items[:] = [item for item in items if item not in left_out]


def _era_of(item: pytest.Item) -> str:
    marker = item.get_closest_marker("contract")
    if marker is None or not marker.args or not all(isinstance(section, str) and section for section in marker.args):
        return ""
    era = marker.kwargs.get("era")
    return era if era in {"april", "june"} else ""


def _setting(config: pytest.Config, option: str) -> str:
    given = config.getoption(option, default=None)
    return str(given if given is not None else os.environ.get(OPTIONS[option][0], "")).strip()


def era_of(config: pytest.Config) -> Era:
    """Return the era of the server under test."""
    era = _setting(config, "--platform-era") or "june"
    if era not in {"april", "june"}:
        raise pytest.UsageError(f"era {era!r} must be april or june")
    return cast("Era", era)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The server under test; without an address `molecule-local`, started for this run."""
    config = request.config
    common: dict[str, Any] = {
        "era": era_of(config),
        "agent_host": _setting(config, "--platform-agent-host") or "localhost",
    }
    if url := _setting(config, "--platform-url"):
        token_file = _setting(config, "--platform-token-file")
        token = Path(token_file).read_text(encoding="utf-8") if token_file else os.environ.get(ADMIN_TOKEN, "")
        yield Server(url=url.rstrip("/"), admin_token=token.strip(), **common)
        return
    folder = tmp_path_factory.mktemp("molecule-local")
    command = [
        sys.executable,
        "-m",
        "molecule_runtime.localplatform",
        "up",
        "--port",
        "0",
        "--data",
        str(folder),
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            token = Path(started["admin_token_file"]).read_text(encoding="utf-8").strip()
            yield Server(url=started["url"], admin_token=token, **common)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_SECONDS)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def site(server: Server, anyio_backend: str) -> AsyncGenerator[Site]:
    """The server with a client of this test's own; what the test creates is removed in the end."""
    del anyio_backend
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http:
        site = Site(server, http)
        yield site
        await site.remove_created()


@pytest.fixture
async def agent(server: Server, anyio_backend: str) -> AsyncGenerator[Agent]:
    """An agent that the server can reach."""
    del anyio_backend
    async with agent_on(server.agent_host) as running:
        yield running
