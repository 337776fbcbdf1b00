"""The agent under test, and the marker that says what a test pins."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .local import GUARDED, OPEN, TOKEN, molecule_runtime
from .site import WAIT_SECONDS, Agent, Webhook, webhook_on

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

OPTIONS = {
    "--a2a-url": ("A2A_CONFORMANCE_URL", "agent under test (default: start molecule-runtime)"),
    "--a2a-webhook-host": (
        "A2A_CONFORMANCE_WEBHOOK_HOST",
        "address at which it reaches this machine (default: 127.0.0.1)",
    ),
}
"""Option, its variable and its meaning. Options exist only when this folder is named on the command line, so each has a variable."""

_VERSIONS = {"1.0", "0.3.0", "json-rpc"}
_SECTION = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("a2a conformance")
    for option, (variable, meaning) in OPTIONS.items():
        group.addoption(option, default=None, help=f"{meaning}; or ${variable}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse a test of this folder that does not say what it pins."""
    if problem := _problem_of(metafunc.definition):
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {problem}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, at another agent, the tests that need one with other settings."""
    if not _setting(config, "--a2a-url"):
        return
    left_out = [item for item in items if item.path.is_relative_to(_HERE) and "guarded" in _fixtures(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", []))


def _problem_of(item: pytest.Item) -> str:
    markers = list(item.iter_markers("spec"))
    if not markers:
        return "it needs @pytest.mark.spec('version', 'section', …)"
    for marker in markers:
        version, *sections = marker.args
        if version not in _VERSIONS:
            return f"{version!r} is not one of {sorted(_VERSIONS)}"
        if not sections or not all(_SECTION.fullmatch(str(section)) for section in sections):
            return f"{sections!r} are not numbers of sections"
    return ""


def _setting(config: pytest.Config, option: str) -> str:
    given = config.getoption(option, default=None)
    return str(given if given is not None else os.environ.get(OPTIONS[option][0], "")).strip()


@pytest.fixture(scope="session")
def agent_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of the agent under test; without one `molecule-runtime`, started for this run."""
    if url := _setting(request.config, "--a2a-url"):
        yield url.rstrip("/")
        return
    with molecule_runtime(tmp_path_factory.mktemp("open"), OPEN) as url:
        yield url


@pytest.fixture(scope="session")
def guarded_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with molecule_runtime(tmp_path_factory.mktemp("guarded"), GUARDED) as url:
        yield url


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _client(url: str, **headers: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=WAIT_SECONDS, trust_env=False)


@pytest.fixture
async def agent(agent_url: str, anyio_backend: str) -> AsyncGenerator[Agent]:
    """The agent, with a client of this test's own."""
    del anyio_backend
    async with _client(agent_url) as http:
        yield Agent(agent_url, http)


@pytest.fixture
async def guarded(guarded_url: str, anyio_backend: str) -> AsyncGenerator[Agent]:
    """An agent that asks for a token, and neither streams nor sends push notifications."""
    del anyio_backend
    async with _client(guarded_url, Authorization=f"Bearer {TOKEN}") as http:
        yield Agent(guarded_url, http)


@pytest.fixture
async def webhook(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncGenerator[Webhook]:
    """A webhook that the agent can reach."""
    del anyio_backend
    async with webhook_on(_setting(request.config, "--a2a-webhook-host") or "127.0.0.1") as running:
        yield running
