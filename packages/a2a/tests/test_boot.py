"""Boot: what is served when, what the platform hears, and what a failing adapter leaves behind."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable

import anyio
import httpx
import pytest

from molecule_runtime.a2a.errors import BootError
from molecule_runtime.a2a.server import HostServer, bind
from molecule_runtime.core.envelope import Failure, read_answer

from .support import DEADLINE, ECHO, FakePlatform, Workspace, ask, eventually, process, ready, serving, text_of

KEY = "sk-abcdefghijklmnopqrstuvwxyz123456"  # secret-scan: allow, made up
pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]

GATED_SETUP = """
    import httpx
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "gated")
        display_name = staticmethod(lambda: "Gated")
        description = staticmethod(lambda: "Waits at a gate.")

        def skills(self):
            return [{"id": "late", "name": "Late"}] if getattr(self, "done", False) else []

        async def setup(self, config):
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                await client.get(config.platform.target.platform_url + "/gate/setup")
            self.done = True

        async def create_executor(self, config):
            return ReplyExecutor(self.answer)

        async def answer(self, turn):
            return "ok"
"""


def failing(statement: str, *, where: str = "setup") -> str:
    body = {"setup": "pass", "create_executor": "return None", where: statement}
    return f"""
    from molecule_runtime.core.adapter import BaseAdapter, PrivilegedPluginInstallError

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "broken")
        display_name = staticmethod(lambda: "Broken")
        description = staticmethod(lambda: "Never works.")

        async def setup(self, config):
            {body["setup"]}

        async def create_executor(self, config):
            {body["create_executor"]}
    """


async def get(workspace: Workspace, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"{workspace.url}{path}", timeout=DEADLINE)


async def test_the_card_is_served_while_setup_still_runs_and_nothing_is_registered(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED_SETUP)
    waiting, opened = platform.gate("setup")
    async with serving(workspace):
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        card = (await get(workspace, "/.well-known/agent-card.json")).json()
        assert card["name"] == "Gated"
        assert [skill["id"] for skill in card["skills"]] == ["gated"]
        assert (await get(workspace, "/health")).json() == {"status": "ok"}
        not_ready = await get(workspace, "/ready")
        assert not_ready.status_code == 503
        assert "setup is running" in not_ready.json()["reason"]
        answer = await ask(workspace, "hello")
        assert answer["error"]["code"] == -32603
        assert platform.registrations == []
        opened.set()
        await ready(workspace)
        card = (await get(workspace, "/.well-known/agent-card.json")).json()
        assert [skill["id"] for skill in card["skills"]] == ["late"]
        assert text_of(await ask(workspace, "hello")) == "ok"


async def test_the_platform_can_reach_the_workspace_while_it_registers(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(config="name: Parrot\ndescription: Repeats.\nversion: 2.0")
    async with serving(workspace):
        body = await platform.registered()
        assert platform.cards_seen[0]["name"] == "Parrot"
        assert body["id"] == "ws-1"
        assert body["url"] == workspace.url
        assert body["delivery_mode"] == "push"
        card = body["agent_card"]
        assert card["configuration_status"] == "ready"
        assert "configuration_error" not in card
        assert card["url"] == workspace.url
        assert (card["name"], card["description"], card["version"]) == ("Parrot", "Repeats.", "2.0")
        assert card["capabilities"] == {"streaming": True, "pushNotifications": True}


async def test_the_card_advertises_what_is_served_and_nothing_that_was_turned_off(make_workspace: Make) -> None:
    workspace = make_workspace(config="# both off\n  streaming: false\n  push_notifications: false")
    async with serving(workspace):
        await ready(workspace)
        card = (await get(workspace, "/.well-known/agent-card.json")).json()
        alias = (await get(workspace, "/.well-known/agent.json")).json()
        assert alias == card
        served = [(item["protocolBinding"], item["protocolVersion"]) for item in card["supportedInterfaces"]]
        assert served == [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3")]
        assert card["url"] == workspace.url
        assert not card["capabilities"].get("pushNotifications")
        assert not card["capabilities"].get("streaming")


async def test_the_issued_token_is_saved_before_it_is_needed_and_only_its_owner_may_read_it(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        token = workspace.state / ".auth_token"
        secret = workspace.state / ".platform_inbound_secret"
        await eventually(secret.exists, "the inbound secret is saved")
        assert token.read_text() == platform.token
        assert secret.read_text() == platform.secret
        assert token.stat().st_mode & 0o777 == 0o600
        assert secret.stat().st_mode & 0o777 == 0o600
        # The fake platform refuses a call without it from now on, and a turn asks for a beat.
        await ask(workspace, "hello")
        await eventually(lambda: platform.beats, "an authorised heartbeat")


async def test_an_adapter_whose_setup_fails_leaves_a_workspace_that_says_why(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(failing(f'raise RuntimeError("no model: API_KEY={KEY} was refused")'))
    async with serving(workspace):
        body = await platform.registered()
        card = body["agent_card"]
        assert card["configuration_status"] == "not_configured"
        assert "no model" in card["configuration_error"]
        assert "sk-abc" not in json.dumps(body)
        assert (await get(workspace, "/.well-known/agent-card.json")).status_code == 200
        async with httpx.AsyncClient(trust_env=False) as client:
            for path in ("/", "/a2a"):
                answer = await client.post(
                    f"{workspace.url}{path}", json={"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {}}
                )
                assert answer.status_code == 503
                said = answer.json()
                assert said == {
                    "jsonrpc": "2.0",
                    "id": 7,
                    "error": {
                        "code": -32603,
                        "message": said["error"]["message"],
                        "data": card["configuration_error"],
                    },
                }
                assert isinstance(read_answer(said), Failure)
        not_ready = await get(workspace, "/ready")
        assert not_ready.status_code == 503
        assert "not configured" in not_ready.json()["reason"]


async def test_a_create_executor_that_returns_no_executor_is_not_configured(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(failing("return 42", where="create_executor"))
    async with serving(workspace):
        body = await platform.registered()
        assert "int, not an AgentExecutor" in body["agent_card"]["configuration_error"]


async def test_a_missing_privileged_plugin_ends_the_boot(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace(failing('raise PrivilegedPluginInstallError("management plugin: no such file")'))
    async with process(workspace) as host:
        assert await host.exit_code() == 1
        assert "molecule-runtime: a privileged plugin could not be installed: management plugin" in host.log()
        assert platform.registrations == []


async def test_every_beat_carries_capabilities_and_idle_timeout_and_the_adapter_is_asked_once(
    make_workspace: Make, platform: FakePlatform
) -> None:
    source = (
        ECHO
        + """
        asked = 0

        def capabilities(self):
            from molecule_runtime.core.adapter import RuntimeCapabilities
            Adapter.asked += 1
            return RuntimeCapabilities(provides_native_session=True)

        def idle_timeout_override(self):
            return 900 + Adapter.asked
    """
    )
    workspace = make_workspace(source)
    async with serving(workspace):
        await ready(workspace)
        await ask(workspace, "one")
        await eventually(lambda: len(platform.beats) >= 1, "a beat")
        # Not before that: changes that come close together are told in one beat.
        await ask(workspace, "two")
        await eventually(lambda: len(platform.beats) >= 2, "another beat")
        for beat in platform.beats:
            assert beat["runtime_metadata"]["capabilities"]["session"] is True
            assert beat["runtime_metadata"]["idle_timeout_seconds"] == 901
            assert beat["agent_card"]["name"] == "Echo"


async def test_a_heartbeat_is_sent_while_a_turn_blocks_the_event_loop(
    make_workspace: Make, platform: FakePlatform
) -> None:
    source = """
        import urllib.request
        from molecule_runtime.a2a.executor import ReplyExecutor
        from molecule_runtime.core.adapter import BaseAdapter

        class Adapter(BaseAdapter):
            name = staticmethod(lambda: "blocker")
            display_name = staticmethod(lambda: "Blocker")
            description = staticmethod(lambda: "Blocks its event loop.")

            async def setup(self, config):
                self.url = config.platform.target.platform_url

            async def create_executor(self, config):
                return ReplyExecutor(self.answer)

            async def answer(self, turn):
                # The platform answers once one more beat of a busy workspace arrived; nothing else runs here until then.
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                opener.open(self.url + "/beats/1", timeout=60).read()
                return "still alive"
    """
    workspace = make_workspace(source, "observability:\n  heartbeat_interval_seconds: 0.1")
    async with process(workspace):
        await ready(workspace)
        assert text_of(await ask(workspace, "block")) == "still alive"
        busy = [beat for beat in platform.beats if beat["active_tasks"]]
        assert busy
        assert busy[0]["current_task"] == "block"
        assert busy[0]["is_busy"] is True


async def test_a_failed_turn_is_counted_in_the_next_beat_without_its_details(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(ECHO.replace('return f"You said: {turn.text}"', 'raise ValueError("customer 4711")'))
    async with serving(workspace):
        await ready(workspace)
        await ask(workspace, "hello")
        await eventually(lambda: [beat for beat in platform.beats if beat["sample_error"]], "the failure in a beat")
        beat = platform.beats[-1]
        assert beat["error_rate"] == 1.0
        assert "ValueError" in beat["sample_error"]
        assert "4711" not in json.dumps(platform.beats)


async def test_the_adapter_gets_its_configuration_and_a_platform_client_on_the_hosts_loop(
    make_workspace: Make, platform: FakePlatform
) -> None:
    platform.peers = [{"id": "ws-2", "name": "Peer"}]
    source = ECHO.replace(
        'return f"You said: {turn.text}"',
        """c = self.config
            names = [peer.name for peer in await c.platform.peers()]
            return f"{c.model} {c.workspace_id} {c.runtime_config} {c.prompt_files} {c.tools} {names} {c.a2a_port}" \\
                f" {c.workspace_config.name}" """,
    )
    workspace = make_workspace(
        source, "name: loaded once\nmodel: test:model\nruntime_config: {a: 1}\nprompt_files: [x.md]\nskills: [s]"
    )
    async with serving(workspace):
        await ready(workspace)
        said = text_of(await ask(workspace, "hello"))
        assert said == f"test:model ws-1 {{'a': 1}} ['x.md'] ['s'] ['Peer'] {workspace.port} loaded once"


async def test_a_workspace_stays_reachable_when_the_platform_is_down(make_workspace: Make) -> None:
    workspace = make_workspace()
    workspace.platform_url = "http://127.0.0.1:9"
    async with serving(workspace):
        async with httpx.AsyncClient(trust_env=False) as client:
            with anyio.fail_after(DEADLINE):
                while True:
                    try:
                        reason = (await client.get(f"{workspace.url}/ready")).json()["reason"]
                    except httpx.TransportError:
                        reason = ""
                    if "cannot reach" in reason:
                        break
                    await anyio.sleep(0.01)
        assert text_of(await ask(workspace, "hello")) == "You said: hello"


async def test_answers_do_not_wait_for_the_clients_acknowledgement() -> None:
    """Nagle's algorithm is off on the host's own sockets: asyncio does that only where the protocol is named."""
    listener = bind("127.0.0.1", 0)
    served: list[int] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(serve, sock=listener):
        stream = await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1])
        await stream.aclose()
        await eventually(lambda: served, "a connection")
    assert served[0] != 0


async def test_a_host_whose_server_ends_by_itself_ends_and_says_so(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(_: HostServer) -> None:
        return None

    monkeypatch.setattr(HostServer, "main_loop", ends)
    workspace = make_workspace()
    with anyio.fail_after(DEADLINE), pytest.raises(ExceptionGroup) as caught:
        async with serving(workspace):
            await anyio.sleep_forever()
    (failure,) = caught.value.exceptions
    assert isinstance(failure, BootError)
    assert str(failure) == "the HTTP server stopped: it ended by itself"
