"""Tools, headers and approvals under the predecessor's names, as templates and plugins use them, against a local platform."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import httpx
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Received, Tenant, bearer, http_server, tenant

from molecule_runtime.core import untrusted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

pytestmark = pytest.mark.anyio

OPERATOR = "rbac:\n  roles: [operator]\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def acme(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Tenant]:
    async with tenant(tmp_path / "acme") as running:
        yield running


@pytest.fixture
async def agent(anyio_backend: str) -> AsyncGenerator[Http]:
    async with http_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _closed() -> Generator[None]:
    yield
    load("legacy.calling").close()


def load(name: str) -> Any:
    return importlib.import_module(f"molecule_runtime.{name}")


def environ(acme: Tenant, member: Member, folder: Path, config: str = OPERATOR) -> dict[str, str]:
    state = folder / "configs"
    state.mkdir(exist_ok=True)
    (state / "config.yaml").write_text(config, encoding="utf-8")
    return {
        "HOME": str(folder),
        "CONFIGS_DIR": str(state),
        "WORKSPACE_CONFIG_PATH": str(state),
        "WORKSPACE_ID": member.id,
        "PLATFORM_URL": acme.url,
        "MOLECULE_WORKSPACE_TOKEN": member.token,
    }


def enter(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("WORKSPACE_ID", "CONFIGS_DIR", "PLATFORM_URL", "WORKSPACE_CONFIG_PATH", "MOLECULE_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


async def pending(acme: Tenant) -> dict[str, Any]:
    """What the person is asked, once it is there."""
    with anyio.fail_after(WAIT_SECONDS):
        while True:
            listed = (await acme.http.get("/requests/pending", headers=acme.admin)).json()
            if listed:
                return dict(listed[0])
            await anyio.sleep(0.02)


async def decide(acme: Tenant, action: str) -> dict[str, Any]:
    row = await pending(acme)
    answer = await acme.http.post(f"/requests/{row['id']}/respond", json={"action": action}, headers=acme.admin)
    assert answer.is_success, answer.text
    return row


# What `hermes` (consumers.md 1.2.8) and `claude-code` (1.2.6) import, where they import it.
TEMPLATE = """
import asyncio, json, sys
from molecule_runtime.mcp_tools import openai_function_tools, handle_molecule_tool_call
from molecule_runtime.a2a_tools import (
    tool_check_task_status, tool_commit_memory, tool_delegate_task, tool_delegate_task_async, tool_get_workspace_info,
    tool_list_peers, tool_recall_memory, tool_send_message_to_user,
)
TOOLS = openai_function_tools()

async def main(peer_id):
    from molecule_runtime.a2a_client import PLATFORM_URL, WORKSPACE_ID
    from molecule_runtime.platform_auth import auth_headers
    from molecule_runtime.prompt import get_peer_capabilities, get_platform_instructions
    started = json.loads(await tool_delegate_task_async(workspace_id=peer_id, task="later"))["delegation_id"]
    return {
        "tools": len(TOOLS), "same": TOOLS == openai_function_tools(), "url": PLATFORM_URL, "id": WORKSPACE_ID, "headers": auth_headers(),
        "peers": await handle_molecule_tool_call("list_peers", {}), "listed": await tool_list_peers(),
        "answer": await tool_delegate_task(workspace_id=peer_id, task="now"),
        "status": json.loads(await tool_check_task_status("", started))["delegation_id"] == started,
        "kept": await tool_commit_memory("tea is good", "nonsense"), "recalled": await tool_recall_memory("tea"),
        "sent": await tool_send_message_to_user("hello"), "info": json.loads(await tool_get_workspace_info())["id"],
        "unknown": await handle_molecule_tool_call("no_such_tool", {"x": 1}),
        "extra": await handle_molecule_tool_call("get_runtime_identity", {"made_up": 1, "other": None}),
        "capabilities": [peer["id"] for peer in await get_peer_capabilities(PLATFORM_URL, WORKSPACE_ID)],
        "instructions": type(await get_platform_instructions(PLATFORM_URL, WORKSPACE_ID)).__name__,
    }

print(json.dumps(asyncio.run(main(sys.argv[1]))))
"""


async def test_a_template_calls_the_tools_from_an_installation(
    acme: Tenant, agent: Http, tmp_path: Path, installed: Path
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)

    async def answer(request: Received) -> tuple[int, Any]:
        if request.method != "POST":
            return 404, {"error": "nothing is shared"}
        message = {"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": "42"}]}
        return 200, {"jsonrpc": "2.0", "id": request.body["id"], "result": message}

    agent.answer = answer
    variables = {**environ(acme, ours, tmp_path), "PYTHONPATH": str(installed.parent)}

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", TEMPLATE, lead.id]
        return subprocess.run(
            command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    ran = await anyio.to_thread.run_sync(run)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["tools"] == len(load("core.registry").tool_names())
    assert said["same"] is said["status"] is True
    assert (said["url"], said["id"], said["info"]) == (acme.url, ours.id, ours.id)
    assert said["headers"] == {"Origin": acme.url, "Authorization": f"Bearer {ours.token}"}
    assert said["peers"] == said["listed"]
    assert said["peers"].startswith("- team-lead (ID: ")
    assert untrusted.parse(said["answer"])[0].content == "42"
    assert "tea is good" in said["recalled"]
    assert said["sent"].startswith("Message sent to user")
    assert said["unknown"].startswith("Unknown tool: no_such_tool")
    assert '"workspace_id"' in said["extra"]
    assert said["capabilities"] == [lead.id]
    assert said["instructions"] == "str"
    # The answers that nobody asked for at the platform are none of ours; the calls are in the ledger of the workspace.
    assert (tmp_path / "configs" / "audit_ledger.db").exists()


async def test_a_role_is_denied_as_the_predecessor_said_it_and_without_peers_the_literal_stays(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await acme.create("alone")
    enter(monkeypatch, environ(acme, alone, tmp_path, "rbac:\n  roles: [no-delegation]\n"))
    call = load("mcp_tools").handle_molecule_tool_call
    assert call is load("a2a_mcp_server").handle_tool_call
    denied = await call("delegate_task", {"workspace_id": "ws-1", "task": "t"})
    assert denied.startswith("PERMISSION DENIED: RBAC: action 'delegate' denied for roles ['no-delegation']")
    assert "No peers" in await call("list_peers", {})
    assert "inbox polling is not enabled" in await call("wait_for_message", {"timeout_secs": 0})
    monkeypatch.delenv("WORKSPACE_ID")
    assert (await call("list_peers", {})).startswith("Error: list_peers was not called: WORKSPACE_ID is not set")


async def test_a_template_posts_activity_with_our_headers_and_nobody_else_gets_them(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = await acme.family()
    variables = environ(acme, ours, tmp_path)
    enter(monkeypatch, variables)
    auth, client = load("platform_auth"), load("a2a_client")
    body = {"activity_type": "agent_log", "source_id": client.WORKSPACE_ID, "summary": "step", "status": "ok"}
    url = f"{client.PLATFORM_URL}/workspaces/{client.WORKSPACE_ID}/activity"
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.post(url, json=body, headers=auth.auth_headers())).is_success
    await load("a2a_tools").report_activity("a2a_send", "ws-9", "s" * 300, error_detail="e" * 5000)
    newest, first = (await acme.activity(ours))[:2]
    assert (first["activity_type"], first["summary"]) == ("agent_log", "step")
    assert (len(newest["summary"]), len(newest["error_detail"])) == (256, 4096)
    assert auth.self_source_headers(ours.id)["X-Workspace-ID"] == ours.id
    assert auth.get_workspace_id() == ours.id
    with pytest.raises(ValueError, match="its token is not here"):
        auth.auth_headers("ws-9")
    # A token that was rotated is the one that is sent.
    monkeypatch.setenv("MOLECULE_WORKSPACE_TOKEN", "another-token-0001")
    assert auth.refresh_cache() == "another-token-0001"
    assert auth.auth_headers()["Authorization"] == "Bearer another-token-0001"
    monkeypatch.delenv("WORKSPACE_ID")
    assert auth.auth_headers() == {}
    with pytest.raises(RuntimeError, match="WORKSPACE_ID is not set"):
        _ = client.WORKSPACE_ID


async def test_messages_of_the_older_client_go_through_the_platform_and_end_in_its_words(
    acme: Tenant, agent: Http, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead, ours = await acme.family()
    enter(monkeypatch, environ(acme, ours, tmp_path))
    client = load("a2a_client")
    await acme.register(lead, agent)
    message = {"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": "hi"}]}
    failure = {"jsonrpc": "2.0", "id": "1", "error": {"code": 1, "message": "no model"}}
    agent.says((200, {"jsonrpc": "2.0", "id": "1", "result": message}), (200, failure), None)
    assert await client.send_a2a_message(lead.id, "hello") == "hi"
    assert (await client.send_a2a_message(lead.id, "hello")).startswith("[A2A_ERROR] no model")
    queued = await client.send_a2a_message(lead.id, "hello")
    assert queued == f"[A2A_QUEUED] target={lead.id} method=message/send"
    assert (await client.send_a2a_message("../x", "hello")).startswith("[A2A_ERROR] ")
    assert (await client.discover_peer(lead.id))["name"] == "team-lead"
    assert await client.discover_peer("00000000-0000-4000-8000-000000000000") is None
    assert [peer["id"] for peer in await client.get_peers()] == [lead.id]
    assert (await client.get_workspace_info())["id"] == ours.id
    for request in agent.received:
        assert ours.token not in f"{request.headers} {request.body}"


async def test_the_skill_hitl_gates_gets_what_it_tells_the_agent_to_import(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = await acme.family()
    enter(monkeypatch, environ(acme, ours, tmp_path))
    hitl, approval = load("builtin_tools.hitl"), load("builtin_tools.approval")
    ran: list[str] = []

    @hitl.requires_approval("Drop {table}", reason_template="cleaning")  # type: ignore[untyped-decorator] # loaded by its old path
    async def drop(table: str) -> dict[str, Any]:
        ran.append(table)
        return {"success": True}

    async def outcome(call: Any, action: str) -> tuple[dict[str, Any], dict[str, Any]]:
        results: list[Any] = []
        rows: list[dict[str, Any]] = []

        async def run() -> None:
            results.append(await call)

        with anyio.fail_after(2 * WAIT_SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                rows.append(await decide(acme, action))
        return results[0], rows[0]

    result, row = await outcome(drop("users"), "approved")
    assert (result, row["title"], ran) == ({"success": True}, "Drop users", ["users"])
    result, row = await outcome(drop("orders"), "rejected")
    assert (result["success"], result["approval_id"], ran) == (False, row["id"], ["users"])
    result, _ = await outcome(approval.request_approval("Deploy", "release"), "approved")
    assert result["approved"] is True
    result, row = await outcome(approval.request_approval("Deploy", "release"), "rejected")
    assert (result["approved"], result["approval_id"]) == (False, row["id"])
    result, row = await outcome(hitl.pause_task("t-1", "needs money"), "approved")
    assert (result["success"], result["status"], row["title"]) == (True, "resumed", "Go on with task t-1")


async def test_a_paused_task_is_resumed_in_this_process_and_its_request_taken_back(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = await acme.family()
    enter(monkeypatch, environ(acme, ours, tmp_path))
    hitl = load("builtin_tools.hitl")
    results: list[Any] = []
    rows: list[dict[str, Any]] = []

    async def pause() -> None:
        results.append(await hitl.pause_task("t-2", "wait"))

    with anyio.fail_after(2 * WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(pause)
            rows.append(await pending(acme))
            assert (await hitl.list_paused_tasks())["paused_tasks"] == [{"task_id": "t-2", "reason": "wait"}]
            assert (await hitl.pause_task("t-2"))["error"] == "task 't-2' is paused already"
            await hitl.resume_task("t-2", "go")
    assert results == [{"task_id": "t-2", "success": True, "status": "resumed", "message": "go"}]
    found = await acme.http.get(f"/workspaces/{ours.id}/requests/{rows[0]['id']}", headers=bearer(ours))
    assert found.json()["request"]["status"] == "cancelled"
    assert (await hitl.list_paused_tasks())["count"] == 0
    assert "a person lets it go on by approving" in (await hitl.resume_task("t-2"))["error"]


async def test_who_may_not_ask_or_has_nobody_to_ask_gets_an_answer_that_says_so(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = await acme.family()
    hitl, approval = load("builtin_tools.hitl"), load("builtin_tools.approval")
    ran: list[int] = []

    @hitl.requires_approval(bypass_roles=["boss"])  # type: ignore[untyped-decorator] # loaded by its old path
    async def act() -> str:
        ran.append(1)
        return "done"

    for config, words in (
        ("rbac:\n  roles: [no-approval]\n", "action 'approve' denied"),
        (f"{OPERATOR}hitl:\n  channels: [slack]\n", "hitl.channels[0].type is 'slack'"),
    ):
        enter(monkeypatch, environ(acme, ours, tmp_path, config))
        assert words in (await act())["error"]
        assert words in (await approval.request_approval("Deploy"))["error"]
    assert ran == []
    enter(monkeypatch, environ(acme, ours, tmp_path, "rbac:\n  roles: [boss]\n  allowed_actions: {boss: [approve]}\n"))
    assert await act() == "done"


def test_skills_and_plugins_are_read_under_their_old_names(tmp_path: Path) -> None:
    skill = tmp_path / "skills" / "tea"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: Tea\ndescription: Makes tea.\nruntime: [codex]\n---\nBoil water.\n")
    loader = load("skill_loader.loader")
    (found,) = loader.load_skills(str(tmp_path), ["tea", "absent"], current_runtime="codex")
    assert (found.metadata.id, found.metadata.description, found.instructions) == ("tea", "Makes tea.", "Boil water.")
    assert loader.load_skills(str(tmp_path), ["tea"], current_runtime="hermes") == []

    plugin = tmp_path / "plugins" / "rules"
    (plugin / "rules").mkdir(parents=True)
    (plugin / "rules" / "one.md").write_text("Be kind.")
    plugins = load("plugins").load_plugins(
        workspace_plugins_dir=str(tmp_path / "plugins"), shared_plugins_dir="/nowhere"
    )
    assert (plugins.plugin_names, plugins.rules, plugins.prompt_fragments) == (["rules"], ["Be kind."], [])


def test_what_an_engine_has_loaded_is_kept_and_none_is_not_empty() -> None:
    identity = load("platform_agent_identity")
    assert identity.MANAGEMENT_PROVISION_TOOL_ID == "mcp__molecule-platform__provision_workspace"
    identity.set_loaded_mcp_tools(["mcp__a__b"])
    assert identity.loaded_mcp_tools() == ["mcp__a__b"]
    identity.set_loaded_mcp_tools([])
    assert identity.loaded_mcp_tools() == []
    identity.set_loaded_mcp_tools(None)
    assert identity.loaded_mcp_tools() is None


def test_an_image_may_add_its_runtime_to_a_list_while_it_is_built() -> None:
    supported: object = load("preflight").SUPPORTED_RUNTIMES
    assert isinstance(supported, set)
    runtimes = cast("set[str]", supported)
    runtimes.add("codex")
    assert "codex" in load("preflight").SUPPORTED_RUNTIMES
    runtimes.clear()
