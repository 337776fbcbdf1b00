"""What is asked of declared servers, and what a broken one can do to the one who asks: nothing, and not for long."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter
from molecule_runtime.mcp.delivery.probe import Deadlines, probe

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

SERVER = """
import json, os, sys, time
mode, pid_file = sys.argv[1], sys.argv[2]
open(pid_file, "w").write(str(os.getpid()))
if mode == "dead":
    sys.exit("cannot read the settings")
if mode == "npm":
    sys.exit("npm error code ETARGET\\nnpm error notarget No matching version found for @x/y@9")
if mode == "silent":
    time.sleep(600)
while mode == "flood":
    print("x" * 200, flush=True)
if mode == "deaf":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    result = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    if request["method"] == "tools/list":
        if mode in ("stall", "deaf"):
            time.sleep(600)
        names = {"none": [], "env": sorted(f"{k}={v}" for k, v in os.environ.items())}.get(mode, ["b", "a", "mcp__x__c"])
        cursor = (request.get("params") or {}).get("cursor")
        result = {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in names]}
        if mode == "pages" and not cursor:
            result["nextCursor"] = "2"
        elif mode == "pages":
            result["tools"] = [{"name": "last", "inputSchema": {"type": "object"}}]
    print("this is not JSON" if mode == "noise" and request["method"] == "initialize" else "", file=sys.stderr)
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"""

PATIENT = Deadlines(read=20, server=30, overall=50)
QUICK = Deadlines(read=1.0, server=1.5, overall=20.0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Servers:
    """Declarations of servers that misbehave on purpose, and where each left its process id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._script = folder / "server.py"
        self._script.write_text(SERVER)

    def spec(self, mode: str, **more: Any) -> dict[str, Any]:
        pid_file = self._folder / f"{mode}.pid"
        return {"command": sys.executable, "args": ["-S", str(self._script), mode, str(pid_file)], **more}

    def alive(self, mode: str) -> bool:
        """Tell whether the child is still there, also as a zombie that nobody reaped."""
        pid = int((self._folder / f"{mode}.pid").read_text())
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    return Servers(tmp_path)


async def ask(
    specs: Mapping[str, Mapping[str, Any]],
    launch_env: Mapping[str, str] | None = None,
    deadlines: Deadlines = PATIENT,
) -> Any:
    with anyio.fail_after(60):
        return await probe(specs, launch_env=launch_env, deadlines=deadlines)


async def test_the_ids_of_all_servers_are_sorted_and_prefixed_once(servers: Servers) -> None:
    report = await ask({"one": servers.spec("ok"), "two": servers.spec("pages")})
    assert report.tools == ["mcp__one__a", "mcp__one__b", "mcp__two__a", "mcp__two__b", "mcp__two__last", "mcp__x__c"]
    assert report.failures == {}
    assert not servers.alive("ok")


async def test_no_tools_is_an_observation_and_no_answer_is_none(servers: Servers) -> None:
    """Contract runtime.md 20.1 item 3: omitted is not empty."""
    assert (await ask({"empty": servers.spec("none")})).tools == []
    assert (await ask({"dead": servers.spec("dead")})).tools is None
    assert (await ask({})).tools is None
    assert (await ask({"remote": {"url": "http://127.0.0.1:1/mcp"}})).tools is None


async def test_a_server_that_fails_does_not_hide_the_others(servers: Servers) -> None:
    report = await ask({"dead": servers.spec("dead"), "ok": servers.spec("ok")})
    assert "mcp__ok__a" in report.tools
    assert report.failures["dead"].kind == "protocol"
    assert "cannot read the settings" in report.failures["dead"].reason


async def test_a_package_that_cannot_be_installed_is_loud_and_told_from_a_slow_one(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract runtime.md 20.1 item 6."""
    report = await ask({"npm": servers.spec("npm"), "slow": servers.spec("silent")}, deadlines=QUICK)
    assert report.failures["npm"].kind == "launch"
    assert "ETARGET" in report.failures["npm"].reason
    assert report.failures["slow"].kind == "timeout"
    levels = {record.args[0]: record.levelno for record in caplog.records if isinstance(record.args, tuple)}
    assert levels["npm"] == logging.CRITICAL
    assert levels["slow"] == logging.WARNING


async def test_a_command_that_is_not_there_is_a_launch_failure(tmp_path: Path) -> None:
    report = await ask({"gone": {"command": str(tmp_path / "no-such-program")}, "bad": {"command": "a\x00b"}})
    assert report.tools is None
    assert {name: failure.kind for name, failure in report.failures.items()} == {"gone": "launch", "bad": "launch"}


@pytest.mark.parametrize("mode", ["silent", "stall", "flood", "deaf"])
async def test_a_server_that_never_answers_is_ended_within_the_deadlines(servers: Servers, mode: str) -> None:
    """Contract runtime.md 20.1 item 5: one that stalls after its initialize held the boot for ever."""
    started = time.monotonic()
    report = await ask({"it": servers.spec(mode)}, deadlines=QUICK)
    # The deadline, and the SDK's own bounded steps to end a child.
    assert time.monotonic() - started < QUICK.server + 8
    assert report.tools is None
    assert report.failures["it"].kind == "timeout"
    assert not servers.alive(mode)


async def test_the_overall_deadline_keeps_what_was_observed(servers: Servers) -> None:
    deadlines = Deadlines(read=60, server=60, overall=3)
    report = await ask({"ok": servers.spec("ok"), "silent": servers.spec("silent")}, deadlines=deadlines)
    assert "mcp__ok__a" in report.tools
    assert report.failures["silent"].kind == "timeout"
    assert not servers.alive("silent")


async def test_a_caller_that_is_cancelled_leaves_no_child(servers: Servers, tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, {"it": servers.spec("silent")})
        with anyio.fail_after(20):
            while not (tmp_path / "silent.pid").exists() or not (tmp_path / "silent.pid").read_text():  # noqa: ASYNC110
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert not servers.alive("silent")


async def test_a_child_gets_the_minimal_environment_then_the_overlay_then_its_own(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract runtime.md 20.1 items 7 and 9: an interpreter off PATH, and credentials that are nobody else's business."""
    monkeypatch.setenv("MOLECULE_ORG_API_KEY", "the-organisation-key")
    monkeypatch.setenv("FROM_THE_PROCESS", "no")
    spec = servers.spec("env", env={"BOTH": "spec", "SPEC": "1"})
    report = await ask({"it": spec}, launch_env={"BOTH": "overlay", "OVERLAY": "1", "PATH": "/opt/node/bin"})
    found = {one.removeprefix("mcp__it__") for one in report.tools}
    assert {"BOTH=spec", "SPEC=1", "OVERLAY=1", "PATH=/opt/node/bin"} <= found
    assert not [one for one in found if "the-organisation-key" in one or "FROM_THE_PROCESS" in one]


async def test_lines_that_are_not_json_are_not_logged_one_by_one(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    await ask({"it": servers.spec("flood")}, deadlines=QUICK)
    assert len(caplog.records) < 5


# --- through the adapter ----------------------------------------------------------------------------------------------------


class Codex(BaseAdapter):
    name = staticmethod(lambda: "codex")
    display_name = staticmethod(lambda: "Codex")
    description = staticmethod(lambda: "An adapter that overrides nothing.")

    async def setup(self, config: AdapterConfig) -> None: ...

    async def create_executor(self, config: AdapterConfig) -> Any: ...


def written(adapter: BaseAdapter, config: AdapterConfig) -> str:
    return Path(adapter.mcp_settings_path(config)).read_text()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdapterConfig:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    return AdapterConfig(model="m", config_path=str(tmp_path))


async def test_an_adapter_reports_the_tools_of_what_its_engine_reads(servers: Servers, config: AdapterConfig) -> None:
    """Contract runtime.md 20.1 items 4 and 14: no chat turn and no Claude file is needed for a codex workspace."""
    adapter = Codex()
    assert await adapter.enumerate_loaded_mcp_tools(config) is None
    adapter.register_mcp_server_hook(config, "molecule-platform", servers.spec("ok"))
    assert adapter.management_mcp_present(config)
    assert "mcp__molecule-platform__a" in (await adapter.enumerate_loaded_mcp_tools(config) or [])


async def test_a_declared_server_that_is_dead_is_present_and_not_loaded(
    servers: Servers, config: AdapterConfig
) -> None:
    adapter = Codex()
    adapter.register_mcp_server_hook(config, "molecule-platform", servers.spec("dead"))
    assert adapter.management_mcp_present(config)
    assert await adapter.enumerate_loaded_mcp_tools(config) is None


async def test_only_the_management_server_is_started_with_the_organisations_credentials(
    servers: Servers, config: AdapterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract runtime.md 20.1 item 9, and 9.5: either name of a pair stands for the other; no value is in the file."""
    monkeypatch.setenv("ORG_API_KEY", "the-organisation-key")
    adapter = Codex()
    adapter.register_mcp_server_hook(config, "molecule-platform", servers.spec("env"))
    adapter.register_mcp_server_hook(config, "other", servers.spec("env"))
    loaded = await adapter.enumerate_loaded_mcp_tools(config) or []
    assert "mcp__molecule-platform__MOLECULE_ORG_API_KEY=the-organisation-key" in loaded
    assert not [one for one in loaded if one.startswith("mcp__other__") and "ORG_API_KEY" in one]
    assert "the-organisation-key" not in written(adapter, config)


async def test_the_overlay_of_the_adapter_reaches_the_servers(servers: Servers, config: AdapterConfig) -> None:
    class WithNode(Codex):
        def mcp_launch_env(self, config: AdapterConfig) -> dict[str, str]:
            return {"PATH": "/opt/node/bin"}

    adapter = WithNode()
    adapter.register_mcp_server_hook(config, "it", servers.spec("env"))
    assert "mcp__it__PATH=/opt/node/bin" in (await adapter.enumerate_loaded_mcp_tools(config) or [])
    assert "/opt/node/bin" not in written(adapter, config)
