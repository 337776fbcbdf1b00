"""The predecessor's import paths: each is the very object of its new home."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ADAPTER_NAMES = (
    "AdapterConfig",
    "BaseAdapter",
    "PrivilegedPluginInstallError",
    "ProviderRegistry",
    "RuntimeCapabilities",
    "SetupResult",
    "resolve_provider_routing",
)

SAME_OBJECTS = [
    ("adapter_base", "core.adapter", ADAPTER_NAMES),
    ("adapters.base", "core.adapter", ADAPTER_NAMES),
    ("builtin_tools.audit", "tools.audit", ("log_event",)),
    ("builtin_tools.audit", "tools.permissions", ("ROLE_PERMISSIONS",)),
    ("adapters.shared_runtime", "legacy.tasks", ("set_current_task",)),
    ("configs_dir", "core.configs_dir", ("resolve",)),
    ("coordinator", "core.adapter.prompt", ("build_children_description",)),
    ("executor_helpers", "legacy.content", ("build_user_content_with_files",)),
    ("executor_helpers", "legacy.tasks", ("set_current_task",)),
    ("heartbeat", "legacy.tasks", ("HeartbeatLoop",)),
    ("lib.snapshot_scrub", "a2a.snapshot", ("is_sandbox_content",)),
    ("main", "a2a.cli", ("main_sync",)),
    ("mcp_cli", "mcp.launch", ("main",)),
    ("mcp_tools", "mcp_schemas", ("MOLECULE_MCP_TOOLS", "PERMISSION_MAP", "openai_function_tools")),
    (
        "mcp_workspace_resolver",
        "mcp_target_resolution",
        ("print_missing_env_help", "read_token_file", "resolve_workspaces"),
    ),
    (
        "platform_tools.registry",
        "core.registry",
        ("A2A_SECTION", "DISPLAY_SECTION", "MEMORY_SECTION", "TOOLS", "ToolSpec", "by_name", "tool_names"),
    ),
    (
        "platform_agent_identity",
        "core.adapter.mcp_spec",
        ("MANAGEMENT_MCP_NAME", "MANAGEMENT_PROVISION_TOOL_ID", "REQUIRED_TOOL"),
    ),
    ("plugins", "core.plugins", ("LoadedPlugins", "Plugin", "load_plugins")),
    ("skill_loader.loader", "core.adapter.skill", ("LoadedSkill", "SkillMetadata")),
    ("policies.routing", "core.adapter.team", ("build_team_routing_payload",)),
    ("prompt", "core.adapter.prompt", ("build_system_prompt",)),
    ("runtime_wedge", "core.wedge", ("clear_wedge", "is_wedged", "mark_wedged", "reset_for_test", "wedge_reason")),
    ("smoke_mode", "a2a.smoke", ("is_smoke_mode", "run_executor_smoke")),
]

WITHOUT_A_HOME = {
    "a2a_client",
    "a2a_executor",
    "a2a_mcp_server",
    "a2a_tools",
    "agents_md",
    "builtin_tools.approval",
    "builtin_tools.hitl",
    "builtin_tools.security_scan",
    "initial_prompt",
    "legacy.calling",
    "legacy.content",
    "legacy.gates",
    "legacy.messages",
    "legacy.tasks",
    "legacy.workspace",
    "lib.pre_stop",
    "platform_auth",
    "preflight",
    "subprocess_executor",
}
"""What is more than another name; `test_executor_helpers.py`, `test_legacy_tools.py` and `tests/integration` have it at work."""

SOURCES = Path(__file__).parents[1] / "src" / "molecule_runtime"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
LIST_TOOLS = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


def load(name: str) -> Any:
    return importlib.import_module(f"molecule_runtime.{name}")


@pytest.mark.parametrize(("old", "new", "names"), SAME_OBJECTS, ids=[f"{old}-{new}" for old, new, _ in SAME_OBJECTS])
def test_a_legacy_path_gives_the_objects_of_its_new_home(old: str, new: str, names: tuple[str, ...]) -> None:
    for name in names:
        assert getattr(load(old), name) is getattr(load(new), name)


def test_every_module_of_this_wheel_is_in_the_table_above_and_offers_what_it_says() -> None:
    files = {path.relative_to(SOURCES).with_suffix("") for path in SOURCES.rglob("*.py")}
    modules = {".".join(path.parts) for path in files if path.name != "__init__"}
    assert modules == {old for old, _, _ in SAME_OBJECTS} | WITHOUT_A_HOME
    for name in modules:
        module = load(name)
        offered: list[str] = module.__all__
        assert set(offered) <= set(dir(module))


def test_the_server_declares_the_registrys_own_list_of_tools() -> None:
    assert load("a2a_mcp_server").TOOLS is load("mcp_schemas").MOLECULE_MCP_TOOLS


def test_the_sections_of_the_predecessor_are_the_registrys_tools_in_order() -> None:
    registry, old = load("core.registry"), load("platform_tools.registry")
    names = [spec.name for spec in [*old.a2a_tools(), *old.display_tools(), *old.memory_tools()]]
    assert len(names) == len(set(names))
    assert set(names) <= set(registry.tool_names())
    for expected in ("list_peers", "wait_for_message", "desktop_click", "commit_memory"):
        assert expected in names
    a2a = [spec.name for spec in old.a2a_tools()]
    assert a2a == [name for name in registry.tool_names() if name in a2a]


def test_an_adapter_is_found_by_the_module_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shout_adapter_of_a_test.py").write_text("class Adapter: ...\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    monkeypatch.setenv("ADAPTER_MODULE", "shout_adapter_of_a_test")
    adapters = load("adapters")
    assert adapters.get_adapter("anything").__module__ == "shout_adapter_of_a_test"
    monkeypatch.delenv("ADAPTER_MODULE")
    with pytest.raises(KeyError, match="set ADAPTER_MODULE"):
        adapters.get_adapter("no-such-runtime")
    assert "no-such-runtime" not in adapters.list_adapters()


def test_a_permission_is_checked_as_the_dispatcher_does_and_roles_fail_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = load("builtin_tools.audit")
    assert audit.check_permission("delegate", ["operator"])
    assert not audit.check_permission("delegate", ["operator"], {"operator": ["memory.read"]})
    assert not audit.check_permission("delegate", [])
    assert audit.check_permission("anything", ["admin"], {"admin": []})
    monkeypatch.setenv("WORKSPACE_CONFIG_PATH", str(tmp_path))
    assert audit.get_workspace_roles() == (["read-only"], {})
    (tmp_path / "config.yaml").write_text("rbac:\n  roles: [scribe]\n  allowed_actions:\n    scribe: [memory.write]\n")
    assert audit.get_workspace_roles() == (["scribe"], {"scribe": ["memory.write"]})


def test_resetting_the_cache_of_the_configs_dir_changes_nothing() -> None:
    load("configs_dir").reset_cache()


def environ(folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "CONFIGS_DIR": str(folder / "state"),
        "WORKSPACE_ID": "ws-1",
        "PLATFORM_URL": "http://127.0.0.1:9",
        "MOLECULE_WORKSPACE_TOKEN": "a-token",
    }


def speak(command: list[str], variables: Mapping[str, str], cwd: Path) -> dict[int, dict[str, Any]]:
    """Ask a process who it is and what it can do."""
    ran = subprocess.run(
        [sys.executable, *command],
        input="".join(json.dumps(line) + "\n" for line in (INITIALIZE, LIST_TOOLS)),
        env=dict(variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return {message["id"]: message["result"] for message in map(json.loads, ran.stdout.splitlines())}


def assert_is_ours(answers: dict[int, dict[str, Any]]) -> None:
    assert answers[1]["serverInfo"]["name"] == "molecule"
    assert [tool["name"] for tool in answers[2]["tools"]] == load("core.registry").tool_names()


@pytest.mark.parametrize("module", ["a2a_mcp_server", "mcp_cli"])
def test_a_legacy_server_runs_as_a_module(tmp_path: Path, module: str) -> None:
    assert_is_ours(speak(["-m", f"molecule_runtime.{module}"], environ(tmp_path), tmp_path))


def test_the_server_runs_by_its_path_beside_our_own_folder_mcp(tmp_path: Path, installed: Path) -> None:
    variables = {**environ(tmp_path), "PYTHONPATH": str(installed.parent)}
    assert_is_ours(speak([str(installed / "a2a_mcp_server.py")], variables, tmp_path))
    # And from within the folder, where the empty entry of the path means the same place.
    assert_is_ours(speak(["a2a_mcp_server.py"], variables, installed))
    assert_is_ours(speak(["-m", "molecule_runtime.a2a_mcp_server"], variables, installed))


def test_importing_the_server_leaves_the_search_path_alone(tmp_path: Path, installed: Path) -> None:
    code = "import sys; before = list(sys.path); import molecule_runtime.a2a_mcp_server; assert sys.path == before"
    variables = {**environ(tmp_path), "PYTHONPATH": f"{installed.parent}"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_legacy_import_reads_no_environment_and_starts_nothing(tmp_path: Path) -> None:
    code = "import importlib\n" + "\n".join(
        f"importlib.import_module('molecule_runtime.{name}')"
        for name in sorted({old for old, _, _ in SAME_OBJECTS} | WITHOUT_A_HOME)
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_team_of_a_workspace_that_cannot_be_asked_for_is_empty_and_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WORKSPACE_ID", raising=False)
    assert await load("coordinator").get_children() == []
    assert "WORKSPACE_ID is not set" in caplog.text
    monkeypatch.setenv("WORKSPACE_ID", "ws-1")
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path))
    # Nothing listens on the discard port.
    monkeypatch.setenv("PLATFORM_URL", "http://127.0.0.1:9")
    assert await load("coordinator").get_children() == []
    assert caplog.text.count("the team is not known") == 2


def test_the_older_names_of_the_routing_policy_are_the_same_function() -> None:
    routing = load("policies.routing")
    assert routing.decide_team_route is routing.build_team_routing_payload
    assert routing.build_team_route_decision is routing.build_team_routing_payload
