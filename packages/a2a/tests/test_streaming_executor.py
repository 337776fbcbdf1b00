"""An agent that speaks while it works, on a real host: what its callers, old and new, get to read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from .gated import call, said, send, state_of, text_in
from .support import DEADLINE, FakePlatform, Workspace, eventually, ready, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = pytest.mark.anyio

SECRET = "sk-" + "a1B2c3D4" * 5

AGENT = f"""
    import anyio
    import httpx
    from molecule_runtime.a2a.executors import (
        AgentFailure, Attachment, Final, Progress, StreamingExecutor, TextDelta, ToolFinished, ToolStarted,
        attachments_of, describe_task, sessions_of, SessionLostError,
    )
    from molecule_runtime.core.adapter import BaseAdapter

    SECRET = "{SECRET}"

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "speaker")
        display_name = staticmethod(lambda: "Speaker")
        description = staticmethod(lambda: "Speaks while it works.")

        async def setup(self, config):
            self.platform = config.platform.target.platform_url

        async def create_executor(self, config):
            self.sessions = sessions_of(config)
            self._executor = StreamingExecutor(
                self.run, attachments=attachments_of(config), sessions=self.sessions, max_answer_chars=100_000
            )
            return self._executor

        async def run(self, turn):
            word, *more = turn.text.split(maxsplit=1)
            rest = "".join(more)
            match word:
                case "speak":
                    for piece in ("Hel", "lo ", "wor", "ld"):
                        yield TextDelta(piece)
                        await anyio.sleep(0.06)
                    yield ToolStarted(id="1", name="search", input={{"query": "q" * 600, "api_key": SECRET}})
                    yield ToolFinished(id="1", output=SECRET + " " + "o " * 600)
                    yield TextDelta("Found it.")
                case "tools":
                    for number in range(205):
                        yield ToolStarted(id=str(number), name="count", input=number)
                        yield ToolFinished(id=str(number), output=number)
                    yield Final("counted")
                case "silent":
                    yield TextDelta("  ")
                case "long":
                    while True:
                        yield TextDelta("x" * 1000)
                case "fail":
                    yield TextDelta("so far")
                    raise RuntimeError("at /home/agent/secret with " + SECRET)
                case "file":
                    yield TextDelta("See the file, not /workspace/other.txt")
                    yield Attachment(path=rest)
                case "files":
                    yield TextDelta(turn.text + "|" + "|".join(file.uri for file in turn.files))
                case "session":
                    known = await self.sessions.get(turn.context_id)
                    if rest == "lost" and known:
                        raise SessionLostError("gone")
                    await self.sessions.keep(turn.context_id, known or "session-of-" + turn.message_id)
                    yield Final(known or "new")
                case "wait":
                    yield Progress("counting " + SECRET)
                    try:
                        async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
                            await client.get(self.platform + "/gate/" + rest)
                    finally:
                        from pathlib import Path
                        Path(__file__).with_name("closed").touch()
                    yield Final("waited")
"""


@pytest.fixture
async def agent(make_workspace: Callable[..., Workspace]) -> AsyncGenerator[Workspace, None]:
    workspace = make_workspace(AGENT)
    async with serving(workspace):
        await ready(workspace)
        yield workspace


async def streamed(workspace: Workspace, text: str) -> list[dict[str, Any]]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": said(text)}}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client,
        client.stream("POST", workspace.url, json=body) as answer,
    ):
        lines = [line async for line in answer.aiter_lines() if line.startswith("data:")]
    return [json.loads(line.removeprefix("data:"))["result"] for line in lines]


def texts(task: dict[str, Any]) -> list[list[str]]:
    return [[part.get("text", "") for part in artifact["parts"]] for artifact in task["artifacts"]]


async def test_a_caller_who_waits_gets_each_text_whole_and_the_tools_without_secrets(agent: Workspace) -> None:
    task = await send(agent, said("speak"))
    assert task["status"]["state"] == "completed"
    # One part each: the platform shows the first part only, and readers take parts for paragraphs.
    assert texts(task) == [["Hello world"], ["Found it."]]
    (call,) = task["metadata"]["tool_trace"]
    assert call["tool"] == "search"
    assert len(call["input"]) == 500
    assert len(call["output_preview"]) == 300
    assert call["output_preview"].startswith("[REDACTED:")
    assert SECRET[:12] not in json.dumps(task)


async def test_a_caller_who_streams_gets_a_task_then_pieces_then_one_end(agent: Workspace) -> None:
    events = await streamed(agent, "speak")
    assert [event["kind"] for event in events] == [
        "task",
        *["artifact-update"] * (len(events) - 2),
        "status-update",
    ]
    assert events[0]["status"]["state"] == "working"
    assert events[-1]["status"]["state"] == "completed"
    assert events[-1]["final"] is True
    pieces = [event for event in events if event["kind"] == "artifact-update"]
    ids = list(dict.fromkeys(piece["artifact"]["artifactId"] for piece in pieces))
    assert len(ids) == 2
    for identifier, whole in zip(ids, ["Hello world", "Found it."], strict=True):
        mine = [piece for piece in pieces if piece["artifact"]["artifactId"] == identifier]
        assert [bool(piece.get("append")) for piece in mine] == [False, *[True] * (len(mine) - 1)]
        assert [bool(piece.get("lastChunk")) for piece in mine] == [*[False] * (len(mine) - 1), True]
        assert "".join(part["text"] for piece in mine for part in piece["artifact"]["parts"]) == whole
    assert len([piece for piece in pieces if piece["artifact"]["artifactId"] == ids[0]]) > 2


async def test_ends_of_turns(agent: Workspace) -> None:
    counted = await send(agent, said("tools"))
    assert texts(counted) == [["counted"]]
    assert len(counted["metadata"]["tool_trace"]) == 200
    assert texts(await send(agent, said("silent"))) == [["(no response generated)"]]
    long = await send(agent, said("long"))
    assert long["status"]["state"] == "failed"
    assert "output_too_large" in long["status"]["message"]["parts"][0]["text"]
    assert len("".join(text for part in texts(long) for text in part)) <= 100_000
    failed = await send(agent, said("fail"))
    assert failed["status"]["state"] == "failed"
    said_to_people = failed["status"]["message"]["parts"][0]["text"]
    assert said_to_people.startswith("Agent error (RuntimeError): ")
    assert SECRET not in json.dumps(failed)
    assert "/home/agent" not in json.dumps(failed)
    assert texts(failed) == [["so far"]]


async def test_a_file_is_sent_only_when_it_is_attached_and_may_be_read(agent: Workspace) -> None:
    folder = agent.state / "workspace"
    (folder / "out").mkdir(parents=True, exist_ok=True)
    (folder / "out" / "a report.txt").write_text("done")
    (folder / "other.txt").write_text("mentioned")
    (folder / ".env").write_text("KEY=1")
    (folder / "link.txt").symlink_to(agent.state / ".auth_token")
    for path in ("/workspace/out/a report.txt", str(folder / "out" / "a report.txt")):
        task = await send(agent, said(f"file {path}"))
        assert task["status"]["state"] == "completed", task
        files = [part["file"] for artifact in task["artifacts"] for part in artifact["parts"] if part["kind"] == "file"]
        assert [file["uri"] for file in files] == ["workspace:/workspace/out/a report.txt"]
    refused = [
        "/workspace/.env",
        "/workspace/link.txt",
        "/etc/passwd",
        "/workspace/../x",
        "/workspace/none",
        "/configs/config.yaml",
    ]
    for path in refused:
        task = await send(agent, said(f"file {path}"))
        assert task["status"]["state"] == "failed", path
        assert not [part for artifact in task["artifacts"] for part in artifact["parts"] if part["kind"] == "file"]


async def test_files_of_a_message_are_on_the_disk_and_those_that_cannot_be_had_are_said(
    agent: Workspace, platform: FakePlatform
) -> None:
    folder = agent.state / "workspace"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.txt").write_text("in")
    (agent.root / "outside.txt").write_text("outside")
    (folder / "escape").symlink_to(agent.root)
    uris = [
        "workspace:/workspace/in.txt",
        f"file://{folder}/in.txt",
        "/workspace/in.txt",
        f"{platform.url}/workspaces/ws-1/chat/download?path=/workspace/in.txt",
        "/workspace/escape/outside.txt",
        f"{platform.url}/workspaces/ws-2/chat/download?path=/workspace/in.txt",
        "http://169.254.169.254/latest",
        "platform-pending:ws-2/0b9df0ac-5a0d-4b8a-8f0f-1a1b1c1d1e1f",
    ]
    parts: list[dict[str, Any]] = [{"kind": "text", "text": "files"}]
    parts += [{"kind": "file", "file": {"uri": uri, "name": f"f{number}.txt"}} for number, uri in enumerate(uris)]
    parts.append({"kind": "file", "file": {"bytes": "aGVsbG8=", "name": "../in line.txt", "mimeType": "text/plain"}})
    task = await send(agent, {**said("files"), "parts": parts})
    text, *found = texts(task)[0][0].split("|")
    assert found[:4] == [(folder / "in.txt").as_uri()] * 4
    assert len(found) == 5
    inline = next((folder / ".molecule" / "chat-uploads").iterdir())
    assert inline.read_text() == "hello"
    assert inline.stat().st_mode & 0o777 == 0o600
    assert inline.name.endswith("-in_line.txt")
    for number in range(4, 8):
        assert f"'f{number}.txt' that came with this message is not available" in text


async def test_a_session_is_continued_after_a_restart_and_begun_anew_when_it_is_lost(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(AGENT)
    async with serving(workspace):
        await ready(workspace)
        assert "new" in text_in(await send(workspace, said("session", contextId="c")))
    kept = workspace.state / "agent-sessions.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    async with serving(workspace):
        await ready(workspace)
        assert "session-of-" in text_in(await send(workspace, said("session", contextId="c")))
        first = json.loads(kept.read_text())["c"]
        assert "new" in text_in(await send(workspace, said("session lost", contextId="c")))
        assert json.loads(kept.read_text())["c"] != first


async def test_the_heartbeat_says_what_the_agent_is_doing_and_a_cancelled_agent_is_closed(
    agent: Workspace, platform: FakePlatform
) -> None:
    waiting, _ = platform.gate("g")
    task = await send(agent, said("wait g"), blocking=False)
    with anyio.fail_after(DEADLINE):
        await waiting.wait()
    followed = (await call(agent, "tasks/get", id=task["id"]))["result"]
    assert "counting [REDACTED" in followed["status"]["message"]["parts"][0]["text"]
    cancelled = await call(agent, "tasks/cancel", id=task["id"])
    assert cancelled["result"]["status"]["state"] == "canceled"
    await eventually((agent.root / "closed").exists, "the generator is closed")
    assert state_of((await call(agent, "tasks/get", id=task["id"]))["result"]) == "canceled"
