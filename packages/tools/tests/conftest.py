"""Fixtures: local platforms, scripted servers, and the context that tools run in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from tests.support.tenants import Http, Tenant, http_server, tenant

from molecule_runtime.core import registry
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.tools import dispatcher, observing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    from molecule_runtime.tools import ToolContext, ToolResult

OUTPUTS = {spec.name: Draft202012Validator(spec.output_schema) for spec in registry.TOOLS}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def acme(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Tenant]:
    async with tenant(tmp_path / "acme") as running:
        yield running


@pytest.fixture
async def globex(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Tenant]:
    async with tenant(tmp_path / "globex") as running:
        yield running


@pytest.fixture
async def pools(anyio_backend: str) -> AsyncGenerator[ConnectionPools]:
    async with ConnectionPools() as opened:
        yield opened


@pytest.fixture
async def agent(anyio_backend: str) -> AsyncGenerator[Http]:
    """An agent that a platform can reach; the test writes its answers."""
    async with http_server() as running:
        yield running


@pytest.fixture
async def scripted(anyio_backend: str) -> AsyncGenerator[Http]:
    """A platform that misbehaves as the test says."""
    async with http_server() as running:
        yield running


@pytest.fixture(autouse=True)
def every_result_has_the_form_that_the_registry_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of MCP refuse a result that does not fit the output schema of its tool."""
    observed = observing.observed

    async def checked(
        name: str,
        arguments: Mapping[str, Any] | None,
        context: ToolContext,
        run: Callable[[], Awaitable[ToolResult]],
    ) -> ToolResult:
        result = await observed(name, arguments, context, run)
        if not result.is_error:
            # Without its types: in the published ones the elements are unknown.
            validator: Any = OUTPUTS[name]
            validator.validate(result.structured)
        return result

    monkeypatch.setattr(dispatcher, "observed", checked)
