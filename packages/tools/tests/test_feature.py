"""What this wheel brings to an adapter's setup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Received, Tenant, target

from molecule_runtime.core.adapter import AdapterConfig
from molecule_runtime.core.config import WorkspaceConfig
from molecule_runtime.core.errors import ConfigurationError, PlatformError
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.testing import FakePlatform
from molecule_runtime.tools.audit.verify import records
from molecule_runtime.tools.feature import approval_gate, tools

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

FILE = "rbac:\n  roles: [no-approval]\n"


async def denial(config: AdapterConfig) -> str:
    async with FakePlatform().client() as client:
        config.platform = client
        by_name = {tool.name: tool for tool in tools(config)}
        return (await by_name["delegate_task"].call(workspace_id="ws-1", task="x")).text


async def test_the_configuration_that_the_host_read_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(FILE, encoding="utf-8")
    read = WorkspaceConfig.model_validate({"rbac": {"roles": ["no-delegation"]}})
    config = AdapterConfig(model="m", config_path=str(tmp_path), workspace_config=read)
    assert "denied for roles ['no-delegation']" in await denial(config)


async def test_a_call_of_an_adapters_tool_is_in_the_ledger_beside_the_state_of_the_host(tmp_path: Path) -> None:
    config = AdapterConfig(model="m", config_path=str(tmp_path), state_dir=str(tmp_path / "state"))
    await denial(config)
    ledger = tmp_path / "state" / "audit_ledger.db"
    assert [row.outcome for row in records(ledger) if row.operation == "tool_call"] == ["permission_denied"]


async def test_without_it_the_file_decides_and_without_a_file_the_tools_only_read(tmp_path: Path) -> None:
    config = AdapterConfig(model="m", config_path=str(tmp_path))
    assert "denied for roles ['read-only']" in await denial(config)
    (tmp_path / "config.yaml").write_text(FILE, encoding="utf-8")
    assert "PERMISSION DENIED" not in await denial(config)


async def test_the_gate_of_a_workspace_follows_its_configuration_and_asks_where_there_is_none(tmp_path: Path) -> None:
    config = AdapterConfig(model="m", config_path=str(tmp_path))
    with pytest.raises(ConfigurationError, match="needs a platform"):
        approval_gate(config)
    async with FakePlatform().client() as client:
        config.platform = client
        with pytest.raises(PlatformError):  # it was asked, and this one knows no approvals
            await approval_gate(config).require("Deploy")
        config.workspace_config = WorkspaceConfig.model_validate({"hitl": {"bypass_roles": ["operator"]}})
        await approval_gate(config).require("Deploy")


async def test_a_delegation_waits_for_as_long_as_the_configuration_says(
    acme: Tenant, agent: Http, pools: ConnectionPools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)

    async def never(request: Received) -> tuple[int, Any] | None:
        del request
        await anyio.sleep_forever()
        return None

    agent.answer = never
    (tmp_path / "config.yaml").write_text("rbac: {roles: [operator]}\n", encoding="utf-8")
    config = AdapterConfig(model="m", config_path=str(tmp_path), platform=PlatformClient(target(acme.url, ours), pools))
    with anyio.fail_after(WAIT_SECONDS):
        monkeypatch.setenv("DELEGATION_TIMEOUT", "0.3")
        by_name = {tool.name: tool for tool in tools(config)}
        answer = await by_name["delegate_task"].call(workspace_id=lead.id, task="x")
        assert answer.is_error
        config.workspace_config = WorkspaceConfig.model_validate(
            {"delegation": {"timeout": 0.2}, "rbac": {"roles": ["operator"]}}
        )
        by_name = {tool.name: tool for tool in tools(config)}
        answer = await by_name["delegate_task"].call(workspace_id=lead.id, task="y")
    assert answer.is_error
    assert len(agent.received) == 2


@pytest.mark.parametrize("channel", ["slack", {"type": "email", "smtp_host": "mail", "to": "a@example.com"}])
async def test_a_channel_that_nobody_delivers_to_is_refused_by_name(tmp_path: Path, channel: object) -> None:
    read = WorkspaceConfig.model_validate({"hitl": {"channels": ["dashboard", channel]}})
    config = AdapterConfig(model="m", config_path=str(tmp_path), workspace_config=read)
    async with FakePlatform().client() as client:
        config.platform = client
        with pytest.raises(
            ConfigurationError, match=r"hitl\.channels\[1\]\.type is '(slack|email)'.*Remove the channel"
        ):
            approval_gate(config)
