"""What executors of templates call, as they call it: with mocks, with folders of their own, and without a workspace."""

from __future__ import annotations

import base64
import importlib
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from a2a.types import Message, Part, TaskState
from google.protobuf.struct_pb2 import Struct

from molecule_runtime.core.testing.host import FakeHost
from molecule_runtime.core.testing.platform import FakePlatform

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def load(name: str) -> Any:
    return importlib.import_module(f"molecule_runtime.{name}")


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKSPACE_ID", "CONFIGS_DIR", "PLATFORM_URL", "WORKSPACE_CONFIG_PATH", "AGENT_SNAPSHOT_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_the_text_of_a_message_is_read_in_every_shape_and_a_mock_is_not_taken_for_text() -> None:
    helpers, shared = load("executor_helpers"), load("adapters.shared_runtime")
    shapes: list[Any] = [
        Message(parts=[Part(text="one"), Part(url="workspace:/workspace/x"), Part(text="two")]),
        {"parts": [{"kind": "text", "text": "one"}, {"root": {"text": "two"}}]},
        SimpleNamespace(parts=[SimpleNamespace(root=SimpleNamespace(text="one")), SimpleNamespace(text="two ")]),
        MagicMock(parts=[MagicMock(kind="text", text="one"), MagicMock(kind="file"), MagicMock(text="two")]),
    ]
    for message in shapes:
        assert helpers.extract_message_text(message) == "one two"
        assert shared.extract_message_text(SimpleNamespace(message=message)) == "one two"
    assert shared.extract_message_text([{"text": "a"}, Part(text="b")]) == "a b"
    for nothing in (None, MagicMock(), SimpleNamespace(parts=None)):
        assert helpers.extract_message_text(nothing) == ""
        assert helpers.extract_attached_files(nothing) == []


def test_a_file_is_found_below_the_folder_that_a_test_names_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    helpers = load("executor_helpers")
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "a b.txt").write_text("a")
    (mount / ".auth_token").write_text("secret")
    (mount / "folder").mkdir()
    (tmp_path / "outside.txt").write_text("b")
    (mount / "link.txt").symlink_to(tmp_path / "outside.txt")
    monkeypatch.setattr(helpers, "WORKSPACE_MOUNT", str(mount))
    uris = [
        f"workspace:{mount}/a b.txt",
        (mount / "a b.txt").as_uri(),
        f"{mount}/a b.txt",
        "workspace:/workspace/a b.txt",
    ]
    found = {"name": "a_b.txt", "mime_type": "text/plain", "path": f"{mount}/a b.txt"}
    parts: list[Any] = [Part(url=uri, filename="a_b.txt", media_type="text/plain") for uri in uris]
    parts += [
        SimpleNamespace(kind="file", file=SimpleNamespace(uri=uris[0], name="a_b.txt", mimeType="text/plain")),
        {"root": {"kind": "file", "file": {"uri": uris[0], "name": "a_b.txt", "mimeType": "text/plain"}}},
    ]
    assert helpers.extract_attached_files(SimpleNamespace(parts=parts)) == [found] * len(parts)
    refused = [".auth_token", "folder", "link.txt", "gone.txt", "../outside.txt"]
    parts = [Part(url=f"workspace:{mount}/{name}") for name in refused]
    assert helpers.extract_attached_files(SimpleNamespace(parts=parts)) == []
    assert caplog.text.count("a file of the message is left out") == len(refused)
    assert "secret" not in caplog.text


def test_only_a_file_that_is_named_is_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = load("executor_helpers")
    monkeypatch.setattr(helpers, "WORKSPACE_MOUNT", str(tmp_path))
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".env").write_text("KEY=b")
    with pytest.deprecated_call(match="no file because its path stands in the answer"):
        assert helpers.collect_outbound_files("See /workspace/a.txt.") == []
    assert helpers.collect_outbound_files("See https://example.com/workspace/a") == []
    given = helpers.collect_outbound_files(
        "Here.", [tmp_path / "a.txt", "/workspace/.env", "/workspace/none", "/etc/passwd"]
    )
    assert given == [{"name": "a.txt", "mime_type": "text/plain", "path": "/workspace/a.txt"}]
    message = helpers.new_response_message(SimpleNamespace(context_id="c-1", task_id="t-1"), "Here.", given)
    assert (message.context_id, message.task_id, message.parts[0].text) == ("c-1", "", "Here.")
    assert message.parts[1].url == "workspace:/workspace/a.txt"


def test_images_are_given_to_the_model_unless_they_are_large_or_that_is_turned_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = load("executor_helpers").build_user_content_with_files
    assert build("hello", []) == "hello"
    image = {"name": "a.png", "mime_type": "image/png", "path": str(tmp_path / "a.png")}
    text = {"name": "b.txt", "mime_type": "text/plain", "path": str(tmp_path / "b.txt")}
    gone = {**image, "name": "c.png", "path": str(tmp_path / "c.png")}
    (tmp_path / "a.png").write_bytes(PNG)
    listed = build("hello", [text])
    assert listed == f"hello\n\nAttached files:\n- b.txt (text/plain): {tmp_path}/b.txt"
    said, shown = build("hello", [text, image, gone])
    assert said["text"].startswith(listed)
    assert shown["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    monkeypatch.setattr("molecule_runtime.legacy.content.MAX_IMAGE_BYTES", len(PNG) - 1)
    assert isinstance(build("hello", [image]), str)
    monkeypatch.undo()
    monkeypatch.setenv("MOLECULE_DISABLE_IMAGE_INLINING", "1")
    assert isinstance(build("hello", [image]), str)


def test_a_failure_is_told_in_a_word_and_never_in_its_own_words() -> None:
    helpers = load("executor_helpers")
    assert helpers.classify_subprocess_error("a separate rate of 4290", 2) == "exit_2"
    assert helpers.classify_subprocess_error("HTTP 429", 2) == "rate_limited"
    said = helpers.sanitize_agent_error
    exc = RuntimeError("/configs/key has abc")
    assert said(exc=exc) == "Agent error (RuntimeError): see the workspace log"
    assert said(exc=exc, stderr="invalid api key abc").startswith("Agent error (auth_failed): ")
    assert said(exc=exc, category="timeout") == "Agent error (timeout): the agent took too long"
    assert said() == "Agent error (unknown): see the workspace log"
    assert helpers.error_detail_for_external(exc) == "RuntimeError"


def test_a_summary_is_the_first_line_that_says_something() -> None:
    helpers, shared = load("executor_helpers"), load("adapters.shared_runtime")
    brief = helpers.brief_summary
    assert brief("\n---\n```py\nx = 1\n```\n## **Fix** the __build__\nmore") == "Fix the build"
    assert brief("word " * 40) == f"{('word ' * 40)[:77].rstrip()}..."
    assert brief("abcdefgh", 1) == "a..."
    assert brief("") == ""
    assert shared.brief_task("x" * 61) == "x" * 60 + "..."
    assert shared.brief_task("x" * 60) == "x" * 60


def test_the_history_is_read_from_what_the_sdk_gives_and_from_dicts() -> None:
    history = load("adapters.shared_runtime").extract_history
    said: dict[str, Any] = {
        "history": [
            {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
            7,
            {"role": "agent", "parts": [{"text": "c"}]},
        ]
    }
    struct = Struct()
    struct.update(said)
    expected = [("human", "a b"), ("ai", "c")]
    assert history(SimpleNamespace(metadata=said)) == expected
    assert history(SimpleNamespace(metadata={}, message=SimpleNamespace(metadata=struct))) == expected
    assert history(SimpleNamespace(request=SimpleNamespace(metadata=said))) == expected
    assert history(MagicMock()) == []
    assert history(SimpleNamespace(metadata={"history": "a"})) == []


def test_instructions_name_the_tools_that_there_are_and_no_command_that_there_is_not(tmp_path: Path) -> None:
    helpers = load("executor_helpers")
    told = helpers.get_a2a_instructions()
    for tool in ("list_peers", "delegate_task", "check_task_status", "get_workspace_info", "send_message_to_user"):
        assert f"`{tool}`" in told
    assert "`commit_memory`" in helpers.get_hma_instructions()
    assert "`desktop_click`" in helpers.get_display_instructions()
    assert "Acknowledge first" in helpers.get_capabilities_preamble()
    assert helpers.get_a2a_instructions(mcp=False) == helpers.get_capabilities_preamble(mcp=False) == ""
    assert helpers.get_mcp_server_path() == load("a2a_mcp_server").__file__
    assert helpers.get_system_prompt(str(tmp_path), "none") == "none"
    (tmp_path / "system-prompt.md").write_text(" Be kind.\n")
    assert helpers.get_system_prompt(str(tmp_path)) == "Be kind."
    assert helpers.task_state_value("TASK_STATE_SUBMITTED") == TaskState.TASK_STATE_SUBMITTED


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_without_a_workspace_nothing_is_remembered_and_nothing_fails() -> None:
    helpers = load("executor_helpers")
    assert await helpers.recall_memories() == ""
    await helpers.commit_memory("x")
    await helpers.set_current_task(None, None)
    assert helpers.read_delegation_results() == ""
    with pytest.deprecated_call(match="pushes nothing"):
        await helpers.auto_push_hook()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_graph_of_a_template_is_run_for_a_turn(tmp_path: Path) -> None:
    langchain = importlib.import_module("langchain_core.language_models")
    graphs = importlib.import_module("langgraph.graph")
    model = langchain.GenericFakeChatModel(messages=iter(["It is 42"]))

    heard: list[str] = []

    async def think(state: Any) -> Any:
        heard.append(state["messages"][-1].content)
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = graphs.StateGraph(graphs.MessagesState)
    graph.add_node("model", think)
    graph.add_edge(graphs.START, "model")
    adapters = load("adapters.base")

    class Adapter(adapters.BaseAdapter):  # type: ignore[misc, name-defined] # loaded by its old path
        name = display_name = description = staticmethod(lambda: "graph")

        async def setup(self, config: Any) -> None:
            self.config = config

        async def create_executor(self, config: Any) -> Any:
            executor = load("a2a_executor").LangGraphA2AExecutor
            return executor(graph.compile(), heartbeat=config.heartbeat, model=config.model)

    async with FakeHost(Adapter(), tmp_path, platform=FakePlatform()).running() as host:
        turn = await host.turn("What is it?")
    assert turn.error is None
    assert (turn.state, heard) == ("completed", ["What is it?"])
    assert any(event.kind == "artifact" for event in turn.events)


def test_a_snapshot_is_written_without_credentials_and_found_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, scrub = load("lib.pre_stop"), load("lib.snapshot_scrub")
    monkeypatch.setenv("WORKSPACE_ID", "ws-1")
    monkeypatch.setenv("AGENT_SNAPSHOT_PATH", str(tmp_path / "snapshot.json"))
    key = "sk-" + "a1B2c3D4" * 5
    beats = SimpleNamespace(active_tasks=2, current_task="work", start_time=0.0)
    snapshot = stop.build_snapshot(beats, {"session_id": "s-1", "lines": [key, "[sandbox_output] x"]})
    assert stop.write_snapshot(snapshot)
    read = stop.read_snapshot()
    assert (read["workspace_id"], read["active_tasks"], read["adapter"]["session_id"]) == ("ws-1", 2, "s-1")
    assert len(read["adapter"]["lines"]) == 1
    assert key not in json.dumps(read)
    assert (tmp_path / "snapshot.json").stat().st_mode & 0o777 == 0o600
    stop.delete_snapshot()
    stop.delete_snapshot()
    assert stop.read_snapshot() is None
    assert not stop.write_snapshot(snapshot, "/dev/null/snapshot.json")
    assert stop.build_snapshot(None, {})["current_task"] == ""
    assert scrub.scrub_content(f"x {key}") == scrub.scrub_content(scrub.scrub_content(f"x {key}"))


def test_the_marker_of_the_first_prompt_is_where_the_host_looks_for_it(tmp_path: Path) -> None:
    old, host = load("initial_prompt"), load("a2a.initial_prompt")
    marker = old.resolve_initial_prompt_marker(str(tmp_path))
    assert not host.Marker([tmp_path]).done()
    assert old.mark_initial_prompt_attempted(marker)
    assert host.Marker([tmp_path]).done()
    assert not old.mark_initial_prompt_attempted(f"{marker}/below")
    assert old.resolve_initial_prompt_marker(str(tmp_path / "none")) == "/workspace/.initial_prompt_done"


def test_an_agents_md_of_somebody_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = load("agents_md").generate_agents_md
    monkeypatch.setenv("WORKSPACE_ID", "ws-1")
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path))
    (tmp_path / "config.yaml").write_text("name: Scribe\nrole: writes\ntools: [pen]\n")
    output = tmp_path / "AGENTS.md"
    generate(str(tmp_path), str(output))
    assert "# Scribe" in output.read_text()
    assert "- pen" in output.read_text()
    output.write_text("mine")
    generate(tmp_path, output)
    assert output.read_text() == "mine"
    with pytest.raises(ValueError, match="must end with AGENTS"):
        generate(tmp_path, tmp_path / "README.md")
