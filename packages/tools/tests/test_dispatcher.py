"""Every call goes one way: arguments, permission, workspace, deadline, bounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tenants import WAIT_SECONDS, Http, Member, Received, Tenant

from molecule_runtime.core import registry
from molecule_runtime.core.config import RbacConfig
from molecule_runtime.tools import Permissions, ToolContext, available_tools, dispatch
from molecule_runtime.tools.permissions import ROLE_PERMISSIONS
from molecule_runtime.tools.result import (
    MAX_ANSWER_BYTES,
    MAX_TEXT_BYTES,
    ToolResult,
    as_json,
    as_json_list,
    bounded,
    fitted,
)

from .support import context, done, refused, run

if TYPE_CHECKING:
    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
ALICE = Member("alice", "token-of-alice")

GATED_INSIDE = {
    "broadcast_message": "delegate",
    "recall_memory": "memory.read",
    "create_request": "approve",
    "create_approval": "approve",
    "respond_request": "approve",
    "run_code": "code.run",
}
"""The registry's list of gated tools is the contract's (`runtime.md` 6.2), which leaves out those that its section 20.4 misses."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "broadcast_message": {"message": "hi"},
    "create_request": {"kind": "task", "title": "t"},
    "create_approval": {"action": "a"},
    "install_plugin": {"source": "local://x"},
    "get_request": {"request_id": "r"},
    "respond_request": {"request_id": "r", "action": "done"},
    "add_request_message": {"request_id": "r", "message": "m"},
    "cancel_request": {"request_id": "r"},
    "desktop_click": {"x": 1, "y": 1},
    "desktop_type": {"text": "x"},
    "desktop_key": {"keys": "Return"},
    "desktop_open_url": {"url": "https://example.com"},
    "commit_memory": {"content": "c"},
    "goal_set": {"goal": "g"},
    "task_add": {"title": "t"},
    "task_update": {"task_id": "1"},
    "task_complete": {"task_id": "1"},
    "forget_memory": {"memory_id": "0b7e4b1c-3f0e-4c3c-9a64-6a2f7a9d1e55"},
    "delegate_task": {"workspace_id": "bob", "task": "t"},
    "delegate_task_async": {"workspace_id": "bob", "task": "t"},
    "check_task_status": {"workspace_id": "bob", "task_id": ""},
    "update_agent_card": {"card": {"name": "x"}},
    "send_message_to_user": {"message": "hi"},
    "inbox_pop": {"activity_id": "a"},
    "chat_history": {"peer_id": "bob"},
    "run_code": {"code": "print(1)"},
}


@pytest.fixture
def ctx(pools: ConnectionPools) -> ToolContext:
    return context(pools, (NOWHERE, ALICE))


async def test_an_unknown_tool_is_refused_with_the_closest_name(ctx: ToolContext) -> None:
    assert await refused(ctx, "list_peer") == "Unknown tool: list_peer. Did you mean list_peers?"
    assert await refused(ctx, "zzz") == "Unknown tool: zzz"


async def test_every_wrong_argument_is_named_at_once(ctx: ToolContext) -> None:
    text = await refused(ctx, "delegate_task", tsak="do it", workspace_id=7)
    lines = text.splitlines()
    assert lines[0] == "delegate_task: the arguments are not usable:"
    assert "- task: required, but missing" in lines
    assert "- tsak: not an argument of delegate_task; did you mean task?" in lines
    assert any(line.startswith("- workspace_id: ") and line.endswith("; got 7") for line in lines)


async def test_a_wrong_argument_is_shown_shortened_and_without_secrets(ctx: ToolContext) -> None:
    text = await refused(ctx, "inbox_peek", limit="ghp_" + "a" * 36 + " " + "x" * 200)
    assert "ghp_aaaa" not in text
    assert len(text) < 300


async def test_arguments_may_be_absent_for_a_tool_without_required_ones(ctx: ToolContext) -> None:
    with anyio.fail_after(WAIT_SECONDS):
        assert not (await dispatch("get_runtime_identity", None, ctx)).is_error


async def test_every_tool_of_the_registry_is_in_this_build_and_one_that_were_not_would_say_so(
    ctx: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert available_tools() == set(registry.tool_names())
    monkeypatch.setattr("molecule_runtime.tools.dispatcher._IMPLEMENTATIONS", {})
    assert await refused(ctx, "goal_get") == "goal_get is not available in this build of molecule-runtime-tools"


@pytest.mark.parametrize("role", sorted(ROLE_PERMISSIONS))
async def test_a_role_may_call_exactly_the_tools_of_its_actions(pools: ConnectionPools, role: str) -> None:
    ctx = context(pools, (NOWHERE, ALICE), permissions=Permissions((role,)))
    for spec in registry.TOOLS:
        # Only the gate: an empty inbox and a dead platform answer whatever passes it.
        if spec.name in {"wait_for_message", "list_peers", "chat_history", "desktop_wait_for_control"}:
            continue
        result = await run(ctx, spec.name, **EXAMPLES.get(spec.name, {}))
        action = spec.permission or GATED_INSIDE.get(spec.name)
        allowed = action is None or action in ROLE_PERMISSIONS[role]
        assert result.text.startswith("PERMISSION DENIED") is not allowed, (spec.name, result.text)


async def test_a_denial_names_the_action_and_the_roles_that_would_do(pools: ConnectionPools) -> None:
    ctx = context(pools, (NOWHERE, ALICE), permissions=Permissions(("no-delegation",)))
    text = await refused(ctx, "delegate_task", workspace_id="bob", task="t")
    assert text.startswith("PERMISSION DENIED: RBAC: action 'delegate' denied for roles ['no-delegation']")
    assert "admin, no-approval, operator (rbac.roles in config.yaml)" in text


async def test_without_a_readable_configuration_only_reading_is_allowed(pools: ConnectionPools) -> None:
    ctx = context(pools, (NOWHERE, ALICE), permissions=Permissions.read_only())
    for name in ("delegate_task", "send_message_to_user", "update_agent_card"):
        assert (await refused(ctx, name, **EXAMPLES[name])).startswith("PERMISSION DENIED")
    assert not (await run(ctx, "get_runtime_identity")).is_error


def test_a_custom_definition_replaces_the_built_in_role_of_its_name() -> None:
    config = RbacConfig(roles=["operator"], allowed_actions={"operator": ["approve"]})
    permissions = Permissions.from_config(config)
    assert permissions.allows("approve")
    assert not permissions.allows("delegate")
    assert "operator" not in permissions.denial("delegate").partition("roles that allow it:")[2]


def test_a_custom_role_that_allows_nothing_allows_nothing() -> None:
    permissions = Permissions.from_config(RbacConfig(roles=["operator"], allowed_actions={"operator": []}))
    assert not permissions.allows("delegate")


def test_an_unknown_role_allows_nothing_and_a_second_role_adds_to_the_first() -> None:
    assert not Permissions(("opperator",)).allows("memory.read")
    assert Permissions(("read-only", "no-approval")).allows("delegate")
    assert Permissions(("admin",), {"admin": frozenset()}).allows("delegate")


def test_what_is_easily_a_mistake_in_the_roles_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    Permissions.from_config(RbacConfig(roles=["operator", "mine"], allowed_actions={"mine": ["delegate"]}))
    assert caplog.messages == []
    Permissions.from_config(RbacConfig(roles=["operator", "opperator"], allowed_actions={"operator": ["delegate"]}))
    assert "replaces the built-in role" in caplog.messages[0]
    assert caplog.messages[1].startswith("rbac.roles: 'opperator' is no role, and allows nothing; known: admin,")


async def test_with_several_workspaces_and_none_named_the_call_is_refused_with_their_ids(
    pools: ConnectionPools,
) -> None:
    ctx = context(pools, (NOWHERE, ALICE), (NOWHERE, Member("bob", "token-of-bob")))
    text = await refused(ctx, "get_workspace_info")
    assert text == "this process serves several workspaces; name one in source_workspace_id: alice, bob"


async def test_a_source_that_is_not_served_is_refused_with_those_that_are(ctx: ToolContext) -> None:
    for tool in ("get_workspace_info", "list_peers", "chat_history", "delegate_task", "check_task_status"):
        text = await refused(ctx, tool, source_workspace_id="mallory", **EXAMPLES.get(tool, {}))
        assert text.endswith("source_workspace_id must be one of: alice"), tool


async def test_two_names_of_the_acting_workspace_that_differ_are_refused(ctx: ToolContext) -> None:
    text = await refused(ctx, "send_message_to_user", message="hi", workspace_id="alice", source_workspace_id="bob")
    assert "differ" in text


async def test_the_named_workspace_acts_with_its_own_token_at_its_own_platform(
    acme: Tenant, globex: Tenant, pools: ConnectionPools
) -> None:
    lead, ours = await acme.family("acme")
    boss, theirs = await globex.family("globex")
    for tenant, member in ((acme, lead), (globex, boss)):
        await tenant.register(member)
    ctx = context(pools, (acme.url, ours), (globex.url, theirs), delegation_timeout=0.3)
    for peer, source in ((lead, ours), (boss, theirs)):
        for tool, arguments in (
            ("get_workspace_info", {}),
            ("list_peers", {}),
            ("send_message_to_user", {"message": f"from {source.id}"}),
            ("delegate_task", {"workspace_id": peer.id, "task": "t"}),
            ("delegate_task_async", {"workspace_id": peer.id, "task": "t"}),
            ("check_task_status", {"workspace_id": peer.id, "task_id": ""}),
            ("chat_history", {"peer_id": peer.id}),
            ("update_agent_card", {"card": {"name": "card"}}),
        ):
            await done(ctx, tool, source_workspace_id=source.id, **arguments)
    await done(ctx, "list_peers")
    assert await refused(ctx, "delegate_task", workspace_id=boss.id, task="t", source_workspace_id=ours.id)
    for tenant, own, foreign in ((acme, ours, theirs), (globex, theirs, ours)):
        assert f"Bearer {own.token}".encode() in tenant.sent
        assert foreign.token.encode() not in tenant.sent
    assert theirs.id.encode() not in acme.sent
    assert ours.id.encode() not in globex.sent
    assert any(row["method"] == "notify" for row in await acme.activity(ours))


async def test_a_call_that_takes_too_long_is_an_error_that_says_what_may_go_on(
    scripted: Http, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(request: Received) -> tuple[int, Any] | None:
        del request
        await anyio.sleep_forever()
        return None

    scripted.answer = never
    monkeypatch.setattr("molecule_runtime.tools.dispatcher._DEADLINE", 0.2)
    text = await refused(context(pools, (scripted.url, ALICE)), "get_workspace_info")
    assert text.startswith("get_workspace_info did not finish within")
    assert scripted.received


async def test_cancellation_passes_through_a_call(scripted: Http, pools: ConnectionPools) -> None:
    async def never(request: Received) -> tuple[int, Any] | None:
        del request
        await anyio.sleep_forever()
        return None

    scripted.answer = never
    ctx = context(pools, (scripted.url, ALICE))
    outcomes: list[ToolResult] = []

    async def call() -> None:
        outcomes.append(await dispatch("get_workspace_info", {}, ctx))

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await scripted.arrived.wait()
            group.cancel_scope.cancel()
    assert outcomes == []


async def test_a_platform_that_answers_nonsense_is_an_error_and_not_a_crash(
    scripted: Http, pools: ConnectionPools
) -> None:
    ctx = context(pools, (scripted.url, ALICE))
    for answer in ((200, b"<html>"), (200, 7), (500, {"error": 5}), (200, b"[" * 100_000), None):
        scripted.says(answer)
        for tool in ("get_workspace_info", "list_peers", "send_message_to_user"):
            assert await refused(ctx, tool, **EXAMPLES.get(tool, {}))


async def test_a_defect_in_a_tool_costs_one_call_and_shows_no_details(
    ctx: ToolContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(call: object) -> ToolResult:
        raise LookupError("a detail")

    monkeypatch.setitem(
        __import__("molecule_runtime.tools.dispatcher", fromlist=["_IMPLEMENTATIONS"])._IMPLEMENTATIONS,
        "get_workspace_info",
        broken,
    )
    text = await refused(ctx, "get_workspace_info")
    assert "LookupError" in text
    assert "a detail" not in text
    assert "a detail" in caplog.text


def test_a_text_is_cut_at_24_kib_with_a_mark_that_counts_what_is_missing() -> None:
    assert bounded("x" * MAX_TEXT_BYTES) == "x" * MAX_TEXT_BYTES
    cut = bounded("x" * (MAX_TEXT_BYTES + 10))
    assert cut == "x" * MAX_TEXT_BYTES + "\n[cut: 10 more characters]"
    # Characters of several bytes stay whole, and what JSON escapes counts as it is sent.
    for text in ("é" * MAX_TEXT_BYTES, "\n" * MAX_TEXT_BYTES, "\x00" * MAX_TEXT_BYTES, "😀" * MAX_TEXT_BYTES):
        kept = bounded(text).partition("\n[cut")[0] if text[0] != "\n" else bounded(text).rpartition("\n[cut")[0]
        assert set(kept) == {text[0]}
        assert MAX_TEXT_BYTES - 8 <= len(json.dumps(kept, ensure_ascii=False).encode()) - 2 <= MAX_TEXT_BYTES


def test_a_list_that_is_too_long_loses_whole_rows_and_stays_json() -> None:
    rows = [{"number": number, "text": "x" * 1000} for number in range(100)]
    first, last = as_json_list("rows", rows), as_json_list("rows", rows, keep="last")
    assert json.loads(first.text) == list(first.structured["rows"]) == rows[: len(first.structured["rows"])]
    assert json.loads(last.text) == rows[-len(last.structured["rows"]) :]
    assert first.structured["omitted"] + len(first.structured["rows"]) == 100
    assert len(first.text.encode()) <= MAX_TEXT_BYTES


@pytest.mark.parametrize(
    "character",
    ["x", "\n", '"', "\\", "\x00", "é", "😀", "\ud800"],
    ids=["x", "nl", "quote", "bs", "nul", "e", "emoji", "half"],
)
def test_no_answer_is_longer_than_a_client_can_read(character: str) -> None:
    huge = character * 100_000
    deep: Any = "bottom"
    for _ in range(500):
        deep = {"down": deep}
    data = {"id": "ws-1", "card": {"description": huge, "list": [huge] * 5, "deep": deep}}
    for result in (
        ToolResult(text=json.dumps(data), structured=data),
        ToolResult(text=huge, structured={"text": huge}),
        ToolResult(text=json.dumps([data] * 3), structured={"rows": [data] * 3}),
        ToolResult(text="short", structured={str(number): "x" * 10 for number in range(20_000)}),
    ):
        sent = fitted(result)
        line = json.dumps({"text": sent.text, "structured": sent.structured}, ensure_ascii=False).encode()
        assert len(line) <= MAX_ANSWER_BYTES + 256
        if result.text.startswith("{"):
            assert json.loads(sent.text)["id"] == "ws-1"
            assert "[cut: " in sent.text
        elif result.text.startswith("["):
            assert isinstance(json.loads(sent.text), list)


some = settings(max_examples=40, deadline=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@some
@given(st.dictionaries(st.text(max_size=8), JSON))
def test_an_object_is_shown_as_json_with_indents(data: dict[str, Any]) -> None:
    assert as_json(data).text == json.dumps(data, ensure_ascii=False, indent=2)


@some
@given(st.dictionaries(st.text(max_size=8), JSON), st.text(st.characters(codec=None)))
def test_an_answer_that_fits_is_left_as_it_is_but_for_halves_of_characters(data: dict[str, Any], text: str) -> None:
    sent = fitted(ToolResult(text=text, structured=data))
    whole = json.dumps([text, data], ensure_ascii=False)
    for half in {character for character in whole if "\ud800" <= character <= "\udfff"}:
        whole = whole.replace(half, "\ufffd")
    assert json.loads(json.dumps([sent.text, sent.structured], ensure_ascii=False).encode()) == json.loads(whole)


def test_what_is_nested_too_deeply_is_cut_however_short_it_is() -> None:
    deep: Any = "leaf"
    for _ in range(40):
        deep = [deep]
    assert "nested too deeply" in json.dumps(fitted(ToolResult(text="short", structured={"deep": deep})).structured)


def test_a_cut_counts_what_is_missing_of_the_whole() -> None:
    rows = [{"id": "x" * 200, "number": number} for number in range(1000)]
    names = {f"problem-{number}": "x" * 200 for number in range(1000)}
    sent = fitted(ToolResult(text="short", structured={"rows": rows, "names": names}))
    *kept, mark = sent.structured["rows"]
    assert kept == rows[: len(kept)]
    assert mark == {"omitted": 1000 - len(kept)}
    shown = dict(sent.structured["names"])
    assert shown.pop("[cut]") == f"{1000 - len(shown)} more"
    assert shown.items() <= names.items()


def test_an_answer_of_which_too_little_would_be_left_is_an_error() -> None:
    wide: Any = "leaf"
    for _ in range(3):
        wide = {f"{number}": wide for number in range(60)}
    sent = fitted(ToolResult(text="what it says", structured={"id": "ws-1", "card": wide}))
    assert (sent.is_error, sent.error_type, sent.text) == (True, "answer_too_long", "what it says")


async def test_a_huge_agent_card_of_a_platform_does_not_make_a_huge_answer(
    scripted: Http, pools: ConnectionPools
) -> None:
    card = {"name": "n", "skills": [{"name": "s" * 400} for _ in range(50)]}
    ctx = context(pools, (scripted.url, ALICE))
    scripted.says((200, {"id": "alice", "name": "Alice", "agent_card": card}))
    info = await done(ctx, "get_workspace_info")
    assert json.loads(info.text)["name"] == "Alice"
    scripted.says((200, [{"id": f"ws-{number}", "name": "peer", "agent_card": card} for number in range(100)]))
    peers = await done(ctx, "list_peers")
    assert peers.text.startswith("- peer (ID: ws-0, ")
    for result in (info, peers):
        assert len(json.dumps([result.text, result.structured]).encode()) < 64 * 1024
