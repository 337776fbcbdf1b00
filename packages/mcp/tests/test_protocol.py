"""What clients see beside tools: resources, prompts, completion, questions, news, and lines that they can read."""

from __future__ import annotations

import contextvars
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client, MCPError, types
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.memory import create_client_server_memory_streams
from tests.support.tenants import Member, Tenant

from molecule_runtime.core.identity import origin_of
from molecule_runtime.mcp import calling, telling
from molecule_runtime.mcp.changes import inbox_uri
from molecule_runtime.mcp.opening import INBOX_FILE, open_process
from molecule_runtime.mcp.server import create_server
from molecule_runtime.mcp.settings import load_settings
from molecule_runtime.mcp.store import InboxStore, Mailbox
from molecule_runtime.tools import InboxMessage

from .processes import SECONDS, lines, one, online, session, several, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mcp.server import Server

    from .processes import Place, Session

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
LONG = "".join(f"line {number}\n" for number in range(3000))


def entry(tenant: Tenant, member: Member) -> dict[str, str]:
    return {"id": member.id, "token": member.token, "platform_url": tenant.url}


async def read(client: Client, uri: str) -> Any:
    (content,) = (await client.read_resource(uri, cache_mode="bypass")).contents
    assert isinstance(content, types.TextResourceContents)
    assert content.mime_type == "application/json"
    return json.loads(content.text)


async def until(mcp: Session, uri: str, key: str) -> Any:
    """Read a resource until a list in it is no longer empty."""
    with anyio.fail_after(SECONDS):
        while not (data := await read(mcp.client, uri))[key]:
            await mcp.json("wait_for_message", timeout_secs=1)
    return data


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_is_read_is_all_there_and_stays_there(
    acme: Tenant, globex: Tenant, tmp_path: Path, mode: str
) -> None:
    lead, ours = await acme.family()
    _, theirs = await globex.family("other")
    where = several(tmp_path / "p", entry(acme, ours), entry(globex, theirs))
    async with session(where, mode=mode) as mcp:
        client = mcp.client
        await online(acme, ours)
        await online(globex, theirs)
        capabilities = client.server_capabilities
        assert capabilities.resources is not None
        assert (capabilities.resources.subscribe, capabilities.resources.list_changed) == (True, True)
        assert capabilities.tools is not None
        assert not capabilities.tools.list_changed
        await acme.message(lead, ours, LONG)

        inbox = await until(mcp, inbox_uri(ours.id), "messages")
        (shown,) = inbox["messages"]
        assert len(shown["text"]) < 1024
        part = await read(client, shown["uri"])
        whole = part["text"]
        while part["next"]:
            part = await read(client, part["next"])
            assert part["text_offset"] == len(whole)
            whole += part["text"]
        assert (whole, part["text_chars"]) == (LONG, len(LONG))
        assert (await mcp.json("inbox_peek", source_workspace_id=ours.id))[0]["activity_id"] == shown["activity_id"]

        listed = {resource.uri for resource in (await client.list_resources(cache_mode="bypass")).resources}
        assert {"molecule://status", "molecule://workspaces", shown["uri"], inbox_uri(theirs.id)} <= listed
        for uri in listed:
            assert await read(client, uri)
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.name for template in templates] == ["workspace", "peers", "inbox", "message", "activity"]
        rows = (await read(client, "molecule://status"))["workspaces"]
        assert {row["workspace_id"] for row in rows} == {ours.id, theirs.id}
        peers = (await read(client, f"molecule://workspaces/{ours.id}/peers"))["peers"]
        assert [peer["id"] for peer in peers] == [lead.id]
        assert lead.id not in json.dumps(await read(client, f"molecule://workspaces/{theirs.id}/peers"))

        for unknown in ("molecule://elsewhere", f"{inbox_uri(ours.id)}/no-such", "molecule://workspaces/nobody"):
            with pytest.raises(MCPError) as refused:
                await client.read_resource(unknown)
            assert refused.value.error.code == (-32002 if mode == "legacy" else -32602)

        prompts = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in prompts] == ["check-inbox", "delegate", "report"]
        got = await client.get_prompt("delegate", {"peer": "team-lead", "task": "add 1 and 2"})
        assert "add 1 and 2" in got.messages[0].content.text  # type: ignore[union-attr]
        with pytest.raises(MCPError, match="task: required, but missing"):
            await client.get_prompt("delegate", {"peer": "team-lead"})
        with pytest.raises(MCPError, match="there are check-inbox, delegate, report"):
            await client.get_prompt("dance")

        prompt = types.PromptReference(name="delegate")
        found = await client.complete(prompt, {"name": "peer", "value": "team"}, {"workspace": ours.id})
        assert found.completion.values == ["team-lead"]
        found = await client.complete(prompt, {"name": "workspace", "value": ""})
        assert set(found.completion.values) == {ours.id, theirs.id}
        message = types.ResourceTemplateReference(uri=templates[3].uri_template)
        found = await client.complete(message, {"name": "activity_id", "value": ""}, {"workspace_id": ours.id})
        assert found.completion.values == [shown["activity_id"]]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_missing_workspace_is_asked_for_where_the_client_can_ask(
    acme: Tenant, globex: Tenant, tmp_path: Path, mode: str
) -> None:
    _, ours = await acme.family()
    _, theirs = await globex.family("other")
    asked: list[Any] = []
    answers = [
        types.ElicitResult(action="accept", content={"source_workspace_id": theirs.id}),
        types.ElicitResult(action="decline"),
        types.ElicitResult(action="accept", content={"source_workspace_id": "somebody-else"}),
    ]

    async def ask(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        asked.append(params)
        return answers[len(asked) - 1]

    where = several(tmp_path / "p", entry(acme, ours), entry(globex, theirs))
    async with session(where, mode=mode, elicitation_callback=ask) as mcp:
        assert await mcp.text("send_message_to_user", message="hello from the chosen one")
        schema = asked[0].requested_schema["properties"]["source_workspace_id"]
        assert schema["enum"] == [ours.id, theirs.id]
        assert globex.url in schema["enumNames"][1]
        for _ in range(2):
            refused = await mcp.call("send_message_to_user", message="to nobody")
            assert refused.is_error
            assert ours.id in text_of(refused)
        # Nobody is asked for what only reads, nor where the call says who acts.
        assert (await mcp.call("get_workspace_info")).is_error
        assert await mcp.text("send_message_to_user", message="named", source_workspace_id=ours.id)
    assert len(asked) == 3
    assert "hello from the chosen one" in json.dumps(await globex.activity(theirs))
    assert "hello from the chosen one" not in json.dumps(await acme.activity(ours))


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_a_session_hears_of_what_it_subscribed_to_until_it_unsubscribes(acme: Tenant, tmp_path: Path) -> None:
    lead, ours = await acme.family()
    send, news = anyio.create_memory_object_stream[Any](100)

    async def heard(message: Any) -> None:
        await send.send(message)

    async with send, news, session(one(tmp_path / "p", acme.url, ours), mode="legacy", message_handler=heard) as mcp:
        # The versions before 2026-07-28 have it.
        await online(acme, ours)
        await mcp.client.subscribe_resource(inbox_uri(ours.id))  # pyright: ignore[reportDeprecated]
        await acme.message(lead, ours, "one")
        kinds: set[str] = set()
        with anyio.fail_after(SECONDS):
            while kinds != {"updated", "list"}:
                match await news.receive():
                    case types.ResourceUpdatedNotification() as update:
                        assert str(update.params.uri) == inbox_uri(ours.id)
                        kinds.add("updated")
                    case types.ResourceListChangedNotification():
                        kinds.add("list")
                    case _:
                        pass
        await mcp.client.unsubscribe_resource(inbox_uri(ours.id))  # pyright: ignore[reportDeprecated]
        got = await mcp.message()
        while news.statistics().current_buffer_used:
            news.receive_nowait()
        await mcp.json("inbox_pop", activity_id=got["activity_id"])
        # The list has one message less, and that is the next thing to hear.
        with anyio.fail_after(SECONDS):
            assert isinstance(await news.receive(), types.ResourceListChangedNotification)


async def test_a_stream_of_the_newest_version_tells_the_same(acme: Tenant, tmp_path: Path) -> None:
    lead, ours = await acme.family()
    uri = inbox_uri(ours.id)
    async with (
        session(one(tmp_path / "p", acme.url, ours)) as mcp,
        mcp.client.listen(resource_subscriptions=[uri], resources_list_changed=True) as stream,
    ):
        await online(acme, ours)
        await acme.message(lead, ours, "one")
        with anyio.fail_after(SECONDS):
            events = {await anext(stream), await anext(stream)}
    assert events == {ResourceUpdated(uri), ResourcesListChanged()}


@asynccontextmanager
async def over_json(server: Server[Any], **options: Any) -> AsyncGenerator[Client]:
    """A client whose messages cross as JSON, and not as calls."""

    @asynccontextmanager
    async def transport() -> AsyncGenerator[Any]:
        async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as group:
            group.start_soon(server.run, *theirs, server.create_initialization_options())
            yield ours
            group.cancel_scope.cancel()

    async with Client(transport(), **options) as client:
        yield client


def settings_of(where: Place) -> Any:
    return load_settings(where.environ)


async def test_progress_comes_in_order_not_too_often_and_never_after_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(calling, "PROGRESS_GAP", 0.05)
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    settings = settings_of(where)
    steps: list[float] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with open_process(settings, where.environ) as opened, over_json(create_server(settings, opened)) as client:
        with anyio.fail_after(SECONDS):
            await client.call_tool("wait_for_message", {"timeout_secs": 1}, progress_callback=progress)
            told = len(steps)
            await client.call_tool("get_runtime_identity")
            await client.call_tool("wait_for_message", {"timeout_secs": 1})
    assert told >= 2
    assert steps == list(range(1, told + 1))


@pytest.mark.filterwarnings("ignore:The logging capability is deprecated")
async def test_logs_come_from_the_level_on_that_was_asked_for_and_without_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "COALESCE_SECONDS", 0.01)
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    settings = settings_of(where)
    logger = logging.getLogger("molecule_runtime.mcp.test")
    secret = "sk-ant-api03-" + "x" * 40  # secret-scan: allow, made up
    send, news = anyio.create_memory_object_stream[types.LoggingMessageNotificationParams](10)

    async def heard(params: types.LoggingMessageNotificationParams) -> None:
        await send.send(params)

    async with (
        send,
        news,
        open_process(settings, where.environ) as opened,
        Client(create_server(settings, opened), mode="legacy", logging_callback=heard) as client,
    ):
        logger.error("before anything was asked for")
        await client.set_logging_level("error")  # pyright: ignore[reportDeprecated]  # as above
        logger.warning("below the level")
        logger.error("the key %s was refused", secret)
        with anyio.fail_after(SECONDS):
            first = await news.receive()
    assert (first.level, first.logger) == ("error", "molecule_runtime.mcp.test")
    assert str(first.data).startswith("the key ")
    assert secret not in str(first.data)


async def test_a_request_of_the_newest_version_hears_what_is_logged_for_it_from_its_own_level_on_and_before_its_answer(
    tmp_path: Path,
) -> None:
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    settings = settings_of(where)
    logger = logging.getLogger("molecule_runtime.mcp.test")
    secret = "sk-ant-api03-" + "x" * 40  # secret-scan: allow, made up
    elsewhere = contextvars.copy_context()
    heard: list[tuple[str, str]] = []
    answered = anyio.Event()
    said_late = anyio.Event()

    async def hear(params: types.LoggingMessageNotificationParams) -> None:
        heard.append((params.level, str(params.data)))

    async def works_on() -> None:
        await answered.wait()
        logger.error("in the background, after the answer")
        said_late.set()

    async def loud(ctx: Any, call_next: Any) -> Any:
        if ctx.method == "tools/call":
            # As the work for the workspaces does, which is none of the request's.
            elsewhere.run(logger.error, "of the process")
            logger.info("below the level")
            logger.warning("the key %s was refused", secret)
            await anyio.to_thread.run_sync(logger.error, "in a thread")
            background.start_soon(works_on)
        return await call_next(ctx)

    async def ask(level: str | None) -> list[tuple[str, str]]:
        heard.clear()
        meta: Any = {} if level is None else {types.LOG_LEVEL_META_KEY: level}
        assert not (await client.call_tool("get_runtime_identity", meta=meta)).is_error
        return list(heard)

    async with open_process(settings, where.environ) as opened, anyio.create_task_group() as background:
        server = create_server(settings, opened)
        server.middleware.append(loud)
        with anyio.fail_after(SECONDS):
            async with over_json(server, logging_callback=hear) as client:
                assert client.server_capabilities.logging is not None
                assert await ask(None) == []
                warning, error = await ask("warning")
                assert (warning[0], error) == ("warning", ("error", "in a thread"))
                assert warning[1].startswith("the key ")
                assert secret not in warning[1]
                assert await ask("critical") == []
                await ask("debug")
                answered.set()
                await said_late.wait()
                await ask(None)
                assert heard == []


async def test_a_server_that_several_transports_share_tells_each_log_once(tmp_path: Path) -> None:
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    settings = settings_of(where)
    logger = logging.getLogger("molecule_runtime.mcp.test")
    heard: list[str] = []
    last = anyio.Event()

    async def hear(params: types.LoggingMessageNotificationParams) -> None:
        heard.append(str(params.data))
        if params.data == "last":
            last.set()

    async with open_process(settings, where.environ) as opened:
        server = create_server(settings, opened)
        async with server.lifespan(server), Client(server, mode="legacy", logging_callback=hear) as client:
            with pytest.warns(MCPDeprecationWarning):
                await client.set_logging_level("warning")  # pyright: ignore[reportDeprecated]  # versions before 2026-07-28
            for text in ("first", "second", "last"):
                logger.warning(text)
            with anyio.fail_after(SECONDS):
                await last.wait()
    assert heard == ["first", "second", "last"]


async def test_no_line_is_longer_than_clients_read_and_every_request_is_answered(tmp_path: Path) -> None:
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    where.state.mkdir(parents=True)
    store = InboxStore(where.state / INBOX_FILE)
    messages = [
        InboxMessage(
            activity_id=f"{number:08}",
            text='"\n\u20ac' * 9_000,
            kind="peer_agent",
            peer_id="bob",
            method="message/send",
            created_at="2026-01-01T00:00:00Z",
            arrival_workspace_id="",
            peer_name="b" * 60,
            attachments=tuple({"kind": "file", "name": "n" * 200, "uri": "u" * 2000} for _ in range(40)),
        )
        for number in range(150)
    ]
    store.add(Mailbox(origin_of(NOWHERE), "alice"), messages, cursor="1")
    store.close()
    huge = "h" * 200_000
    inbox = inbox_uri("alice")
    asked: list[tuple[str, dict[str, Any]]] = [
        ("tools/list", {}),
        ("resources/list", {}),
        ("resources/list", {"cursor": huge}),
        ("resources/templates/list", {}),
        ("prompts/list", {}),
        *(("resources/read", {"uri": uri}) for uri in (inbox, f"{inbox}?offset=100", f"{inbox}/00000003", huge)),
        ("resources/read", {"uri": f"{inbox}?offset={huge}"}),
        ("resources/read", {}),
        ("prompts/get", {"name": "delegate", "arguments": {"peer": huge, "task": huge}}),
        ("prompts/get", {"name": huge}),
        ("prompts/get", {"name": "delegate", "arguments": {huge: "x"}}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": huge}, "argument": {"name": huge, "value": huge}},
        ),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "delegate"}, "argument": {"name": 7}}),
        ("resources/subscribe", {"uri": huge}),
        ("logging/setLevel", {"level": huge}),
        ("tools/call", {"name": "inbox_peek", "arguments": {"limit": 100}}),
        ("tools/call", {"name": "wait_for_message", "arguments": {"timeout_secs": 1}}),
        ("tools/call", {"name": huge}),
        ("tools/call", {"name": "list_peers", "arguments": {huge: huge}}),
        ("tools/call", {"name": "inbox_peek", "arguments": huge}),
        (huge, {}),
    ]
    async with lines(where) as process:
        await process.hello()
        for number, (method, params) in enumerate(asked, 100):
            await process.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) < len(asked):
            message = await process.read()
            if isinstance(message.get("id"), int):
                answers[message["id"]] = message
    longest = max(bytes(process.received).splitlines(), key=len)
    assert len(longest) <= 60 * 1024, longest[:200]
    failed = {
        asked[number - 100][0]: answer["error"]["message"] for number, answer in answers.items() if "error" in answer
    }
    assert "uri" in failed["resources/read"]
    assert "argument.value" in failed["completion/complete"]
    assert "level" in failed["logging/setLevel"]
    page = json.loads(answers[105]["result"]["contents"][0]["text"])
    assert page["messages"]
    assert page["next"].startswith(f"{inbox}?offset=")
