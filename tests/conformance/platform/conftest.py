"""The server under test, its era, and the marker that says what a test pins."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from .local import molecule_local
from .site import Agent, Era, Server, Site, agent_on, client_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

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

_SECTION = re.compile(r"[0-9]+(\.[0-9]+)*|ours", re.ASCII)
_HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("platform conformance")
    for option, (variable, meaning) in OPTIONS.items():
        group.addoption(option, default=None, help=f"{meaning}; or ${variable}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse a test of this folder that does not say what it pins (pytest asks this once for every test that it collects here)."""
    if problem := _problem_of(metafunc.definition):
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {problem}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that the server is too old for, and at another server those of what only `molecule-local` does."""
    era, elsewhere = era_of(config), bool(_setting(config, "--platform-url"))

    def is_left_out(item: pytest.Item) -> bool:
        if not item.path.is_relative_to(_HERE):
            return False
        return (era == "april" and _needs(item) == "june") or (elsewhere and "ours" in _pins(item))

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def _problem_of(item: pytest.Item) -> str:
    sections = _pins(item)
    if not sections:
        return "it needs @pytest.mark.contract('section', …, era='april' or 'june')"
    if unknown := [section for section in sections if not _SECTION.fullmatch(str(section))]:
        return f"{unknown[0]!r} is not the number of a section"
    if _needs(item) not in {"april", "june"}:
        return f"era {_needs(item)!r} must be 'april' (it holds on both) or 'june'"
    return ""


def _pins(item: pytest.Item) -> tuple[object, ...]:
    marker = item.get_closest_marker("contract")
    return () if marker is None else marker.args


def _needs(item: pytest.Item) -> object:
    marker = item.get_closest_marker("contract")
    return None if marker is None else marker.kwargs.get("era")


def _setting(config: pytest.Config, option: str) -> str:
    given = config.getoption(option, default=None)
    return str(given if given is not None else os.environ.get(OPTIONS[option][0], "")).strip()


def era_of(config: pytest.Config) -> Era:
    """Return the era of the server under test."""
    era = _setting(config, "--platform-era") or "june"
    if era not in {"april", "june"}:
        raise pytest.UsageError(f"the era of the server is {era!r}; it must be april or june")
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
    with molecule_local(tmp_path_factory.mktemp("molecule-local")) as running:
        yield Server(url=running.url, admin_token=running.admin_token, **common)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def site(server: Server, anyio_backend: str) -> AsyncGenerator[Site]:
    """The server with a client of this test's own; what the test creates is removed in the end."""
    del anyio_backend
    async with client_of(server) as http:
        site = Site(server, http)
        yield site
        await site.remove_created()


@pytest.fixture
async def agent(server: Server, anyio_backend: str) -> AsyncGenerator[Agent]:
    """An agent that the server can reach."""
    del anyio_backend
    async with agent_on(server.agent_host) as running:
        yield running
