"""What an adapter gets beside its turns: sessions, persona, provider routing, neutral tools."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.core.adapter import (
    AdapterConfig,
    BaseAdapter,
    PrivilegedPluginInstallError,
    RuntimeCapabilities,
    SetupResult,
    Tool,
    ToolOutput,
    UnsupportedRuntimeError,
    resolve_provider_routing,
)
from molecule_runtime.core.errors import ConfigurationError, MissingFeatureError, MoleculeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Plain(BaseAdapter):
    name = staticmethod(lambda: "plain")
    display_name = staticmethod(lambda: "Plain")
    description = staticmethod(lambda: "Overrides only what it must.")

    def __init__(self) -> None:
        """Leave `super().__init__()` out, as every template does (consumers.md 1.4)."""

    async def setup(self, config: AdapterConfig) -> None: ...

    async def create_executor(self, config: AdapterConfig) -> Any: ...


# Types


def test_the_session_lifecycle_flag_is_on_the_wire_only_when_it_is_on() -> None:
    assert "session_lifecycle" not in RuntimeCapabilities().to_dict()
    assert RuntimeCapabilities(provides_native_session_lifecycle=True).to_dict()["session_lifecycle"] is True


def test_the_errors_of_the_interface_are_ours_and_the_builtin_that_is_expected() -> None:
    assert issubclass(UnsupportedRuntimeError, MoleculeError)
    assert issubclass(UnsupportedRuntimeError, NotImplementedError)
    assert issubclass(PrivilegedPluginInstallError, RuntimeError)


def test_the_interface_loads_no_sdk_and_nothing_heavy() -> None:
    code = (
        "import sys, molecule_runtime.core.adapter as adapter\n"
        "heavy = ('a2a', 'mcp', 'langchain_core', 'pydantic', 'httpx', 'yaml', 'anyio', 'asyncio', 'importlib.metadata')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "print(all(getattr(adapter, name) is not None for name in adapter.__all__), hasattr(adapter, 'Nothing'))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == ["[]", "True", "False"]


def test_an_event_log_takes_everything_until_somebody_sets_another() -> None:
    one, two = Plain(), Plain()
    one.event_log.append("kind", {"a": 1})
    assert one.event_log.query() == []
    log: list[object] = []
    one.event_log = log
    assert one.event_log is log
    assert two.event_log is not log


# Sessions


class Executor:
    def __init__(self, session: object) -> None:
        self._session_id = session


class WithSession(Plain):
    def __init__(self, session: object) -> None:
        self._executor = Executor(session)


async def test_an_adapter_with_one_session_says_so() -> None:
    adapter = WithSession("s-1")
    current = {"id": "s-1", "label": None, "current": True}
    assert await adapter.session_current() == {"runtime": "plain", "supported": False, "session": current}
    assert (await adapter.session_list())["sessions"] == [current]
    started = await adapter.session_start("a label")
    assert (started["supported"], started["started"], started["session"]) == (False, False, current)
    assert started["reason"]


async def test_only_the_session_that_is_current_can_be_resumed() -> None:
    adapter = WithSession("s-1")
    assert (await adapter.session_resume("s-1"))["resumed"] is True
    other = await adapter.session_resume("s-2")
    assert (other["resumed"], other["supported"]) == (False, False)
    assert "s-2" in other["reason"]


async def test_without_a_turn_there_is_no_session() -> None:
    for adapter in (Plain(), WithSession(None), WithSession(7)):
        assert (await adapter.session_current())["session"] is None
        assert (await adapter.session_list())["sessions"] == []


async def test_a_session_that_was_restored_is_the_current_one() -> None:
    adapter = Plain()
    adapter.restore_state({"adapter": {"session_id": "s-9"}})
    assert (await adapter.session_current())["session"]["id"] == "s-9"


# Snapshot


@pytest.mark.parametrize(
    ("snapshot", "session", "transcript"),
    [
        ({"adapter": {"session_id": "s", "transcript_lines": ["a"]}}, "s", ["a"]),
        ({"session_id": "s", "transcript_lines": ["a"]}, "s", ["a"]),
        ({"session_id": "outer", "adapter": {"session_id": "inner"}}, "inner", None),
        ({"session_id": "outer", "adapter": {"session_id": None}}, "outer", None),
        ({"adapter": {"transcript": ["a", {"b": 1}]}}, None, ["a", {"b": 1}]),
        ({"adapter": None, "session_id": 7, "transcript_lines": "text"}, None, None),
        ({"adapter": ["x"]}, None, None),
        ({}, None, None),
    ],
)
def test_a_snapshot_is_restored_in_both_of_its_forms(
    snapshot: Mapping[str, Any], session: str | None, transcript: list[Any] | None
) -> None:
    adapter: Any = Plain()
    adapter.restore_state(snapshot)
    assert (adapter._snapshot_session_id, adapter._snapshot_transcript) == (session, transcript)


# Memory and persona


@pytest.mark.parametrize(
    "name", ["../outside.md", "/etc/motd", "a/../../outside.md", "", " ", "link/outside.md", "a\x00b"]
)
def test_memory_is_never_written_outside_the_folder_of_the_workspace(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError):
        Plain().append_to_memory_hook(AdapterConfig(model="m", config_path=str(folder)), name, "text")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["configs"]


def persona(folder: Path, *files: str) -> Any:
    return Plain().materialize_persona(AdapterConfig(model="m", config_path=str(folder), prompt_files=list(files)))


def test_the_persona_is_made_of_the_prompt_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("second\n")
    (tmp_path / "a.md").write_text("\ufefffirst\n")
    path = persona(tmp_path, "a.md", "missing.md", "../x", "b.md")
    assert path == tmp_path / "system-prompt.md"
    assert path.read_text().endswith("first\n\nsecond\n")
    (tmp_path / "a.md").write_text("changed\n")
    assert persona(tmp_path, "a.md").read_text().endswith("\n\nchanged\n")


def test_a_persona_that_a_person_wrote_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "system-prompt.md"
    own.write_text("mine")
    (tmp_path / "a.md").write_text("other")
    assert persona(tmp_path, "a.md") is None
    assert persona(tmp_path) == persona(tmp_path, "system-prompt.md") == own
    assert own.read_text() == "mine"


def test_without_a_persona_there_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe")
    (tmp_path / "empty.md").write_text("\n")
    assert persona(tmp_path) is None
    assert persona(tmp_path, "binary.md", "empty.md", "missing.md") is None
    assert persona(tmp_path / "no-such-folder", "a.md") is None


# Provider routing

REGISTRY = {
    "anthropic": (("ANTHROPIC_API_KEY", "CLAUDE_KEY"), "https://api.anthropic.com"),
    "openai": (("OPENAI_API_KEY",), "https://o"),
}


@pytest.mark.parametrize(
    ("model", "env", "config", "expected"),
    [
        ("anthropic:claude", {"ANTHROPIC_API_KEY": "k"}, None, ("k", "https://api.anthropic.com", "claude")),
        ("anthropic:claude", {"CLAUDE_KEY": "second"}, None, ("second", "https://api.anthropic.com", "claude")),
        ("gpt", {"OPENAI_API_KEY": "k"}, None, ("k", "https://o", "gpt")),
        ("made-up:m:1", {"OPENAI_API_KEY": "k"}, None, ("k", "https://api.openai.com/v1", "m:1")),
        ("anthropic:c", {"CLAUDE_KEY": "k"}, {"provider_url": "https://c"}, ("k", "https://c", "c")),
        ("anthropic:c", {"CLAUDE_KEY": "k"}, {"provider_url": None}, ("k", "https://api.anthropic.com", "c")),
        (
            "anthropic:c",
            {"CLAUDE_KEY": "k", "ANTHROPIC_BASE_URL": "https://e"},
            {"provider_url": "https://c"},
            ("k", "https://e", "c"),
        ),
    ],
)
def test_a_model_is_routed_to_its_provider(
    model: str, env: dict[str, str], config: dict[str, Any] | None, expected: tuple[str, str, str]
) -> None:
    assert resolve_provider_routing(model, env, registry=REGISTRY, runtime_config=config) == expected


def test_a_model_without_a_key_names_the_variables_that_would_hold_it() -> None:
    with pytest.raises(RuntimeError, match="ANTHROPIC_API_KEY or CLAUDE_KEY"):
        resolve_provider_routing("anthropic:c", {"ANTHROPIC_API_KEY": " "}, registry=REGISTRY)


# Tools

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


async def shout(arguments: Mapping[str, Any]) -> ToolOutput:
    text = str(arguments["text"])
    return ToolOutput(text=text.upper(), structured={"text": text.upper()}, is_error=not text)


TOOL = Tool(name="shout", description="Says it louder.", input_schema=SCHEMA, run=shout)


async def test_a_tool_is_called_with_a_mapping_or_by_name() -> None:
    assert (await TOOL.call({"text": "a"})).text == "A"
    assert (await TOOL.call(text="b")).structured == {"text": "B"}
    assert (await TOOL.call({"text": ""})).is_error


def test_the_views_of_a_tool_hold_its_schema_as_their_own() -> None:
    mcp, openai = TOOL.to_mcp(), TOOL.to_openai()
    assert mcp == {"name": "shout", "description": "Says it louder.", "inputSchema": SCHEMA}
    assert openai == {
        "type": "function",
        "function": {"name": "shout", "description": "Says it louder.", "parameters": SCHEMA},
    }
    mcp["inputSchema"]["properties"].clear()
    openai["function"]["parameters"].clear()
    assert TOOL.to_mcp()["inputSchema"] == SCHEMA
    json.dumps(TOOL.to_mcp())


def test_the_langchain_view_without_langchain_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine without it: importing it fails.
    for name in [name for name in sys.modules if name.partition(".")[0] == "langchain_core"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langchain_core", None)
    result = SetupResult(system_prompt="", tools=[TOOL])
    with pytest.raises(MissingFeatureError, match="pip install langchain-core"):
        _ = result.langchain_tools


async def test_the_langchain_view_is_a_tool_of_langchain() -> None:
    result = SetupResult(system_prompt="", tools=[TOOL])
    [tool] = result.langchain_tools
    assert (tool.name, tool.description) == ("shout", "Says it louder.")
    assert await tool.ainvoke({"text": "a"}) == "A"
    assert result.langchain_tools is result.langchain_tools


async def test_the_langchain_view_says_that_a_tool_failed_and_brings_the_structured_form() -> None:
    tool = TOOL.to_langchain()
    call = {"type": "tool_call", "id": "call-1", "name": "shout"}
    message = await tool.ainvoke({**call, "args": {"text": "a"}})
    assert (message.status, message.content, message.artifact) == ("success", "A", {"text": "A"})
    message = await tool.ainvoke({**call, "args": {"text": ""}})
    assert (message.status, message.content) == ("error", "")


@pytest.mark.parametrize("name", ["self", "config", "run_manager", "callbacks", "tool", "args", "kwargs"])
async def test_the_langchain_view_passes_on_whatever_argument_a_model_makes_up(name: str) -> None:
    async def names(arguments: Mapping[str, Any]) -> ToolOutput:
        return ToolOutput(text=" ".join(sorted(arguments)))

    tool = Tool(name="names", description="Names them.", input_schema=SCHEMA, run=names).to_langchain()
    call = {"type": "tool_call", "id": "call-1", "name": "names", "args": {"text": "a", name: 1}}
    assert (await tool.ainvoke(call)).content == " ".join(sorted(["text", name]))
