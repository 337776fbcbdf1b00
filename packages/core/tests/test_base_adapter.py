"""The adapter interface: what a template gets without writing it."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from molecule_runtime.core import AdapterConfig, BaseAdapter, RuntimeCapabilities

pytestmark = pytest.mark.anyio

ABSTRACT = {"name", "display_name", "description", "setup", "create_executor"}


class Executor:
    def __init__(self, session: object = None) -> None:
        self._session_id = session


class Smallest(BaseAdapter):
    """An adapter that overrides only what it must, and does not call `super().__init__`."""

    def __init__(self, executor: Executor | None = None) -> None:
        self.ready = False
        self._executor = executor

    @staticmethod
    def name() -> str:
        return "smallest"

    @staticmethod
    def display_name() -> str:
        return "Smallest"

    @staticmethod
    def description() -> str:
        return "Does nothing."

    async def setup(self, config: AdapterConfig) -> None:
        self.ready = True

    async def create_executor(self, config: AdapterConfig) -> Any:
        self._executor = Executor()
        return self._executor


class Writing(Smallest):
    """An adapter whose transcript can be read without waiting."""

    def transcript_lines(self, since: int = 0, limit: int = 100) -> dict[str, Any]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"lines": [f"line {number}" for number in range(500)]}


def test_the_interface_is_abstract_in_exactly_five_methods() -> None:
    assert inspect.isabstract(BaseAdapter)
    assert BaseAdapter.__abstractmethods__ == ABSTRACT
    assert not inspect.isabstract(Smallest)


@pytest.mark.parametrize("missing", sorted(ABSTRACT))
def test_an_adapter_that_lacks_one_of_them_cannot_be_made(missing: str) -> None:
    members = {name: vars(Smallest)[name] for name in ABSTRACT - {missing}}
    incomplete: type[BaseAdapter] = type("Incomplete", (BaseAdapter,), members)
    with pytest.raises(TypeError, match=missing):
        incomplete()


def test_the_capabilities_have_exactly_the_keys_of_the_wire_and_are_off() -> None:
    assert RuntimeCapabilities().to_dict() == {
        "heartbeat": False,
        "scheduler": False,
        "session": False,
        "status_mgmt": False,
        "retry": False,
        "activity_decoration": False,
        "channel_dispatch": False,
    }
    assert Smallest().capabilities() == RuntimeCapabilities()


@pytest.mark.parametrize(
    ("flag", "key"),
    [
        ("provides_native_heartbeat", "heartbeat"),
        ("provides_native_scheduler", "scheduler"),
        ("provides_native_session", "session"),
        ("provides_native_status_mgmt", "status_mgmt"),
        ("provides_native_retry", "retry"),
        ("provides_activity_decoration", "activity_decoration"),
        ("provides_channel_dispatch", "channel_dispatch"),
    ],
)
def test_a_capability_turns_its_own_key_on(flag: str, key: str) -> None:
    wire = RuntimeCapabilities(**{flag: True}).to_dict()
    assert [name for name, on in wire.items() if on] == [key]


async def test_the_defaults_work_without_calling_the_base_class() -> None:
    adapter = Smallest()
    config = AdapterConfig(model="anthropic:any")
    await adapter.setup(config)
    await adapter.create_executor(config)
    assert adapter.ready
    assert adapter.memory_filename() == "CLAUDE.md"
    assert adapter.idle_timeout_override() is None
    assert adapter.get_config_schema() == {}
    assert adapter.skills() == []
    adapter.register_tool_hook("tool", print)
    adapter.register_subagent_hook("agent", {})


def test_two_configurations_share_nothing() -> None:
    one, two = AdapterConfig(model="m"), AdapterConfig(model="m")
    one.tools.append("t")
    one.prompt_files.append("p")
    one.runtime_config["k"] = "v"
    one.system_prompt = "s"
    assert (two.tools, two.prompt_files, two.runtime_config, two.system_prompt) == ([], [], {}, None)


async def test_the_default_transcript_says_that_there_is_none() -> None:
    assert await Smallest().transcript_lines(since=7) == {
        "runtime": "smallest",
        "supported": False,
        "lines": [],
        "cursor": 7,
        "more": False,
        "source": None,
    }


# Memory


def test_memory_is_appended_once(tmp_path: Path) -> None:
    adapter, config = Smallest(), AdapterConfig(model="m", config_path=str(tmp_path))
    path = tmp_path / "notes" / "MEMORY.md"
    for _ in range(3):
        adapter.append_to_memory_hook(config, "notes/MEMORY.md", "# Plugin one\nIts rules.\n\n")
        adapter.append_to_memory_hook(config, "notes/MEMORY.md", "# Plugin two\nMore rules.")
    assert path.read_text(encoding="utf-8") == "# Plugin one\nIts rules.\n\n# Plugin two\nMore rules.\n"


@pytest.mark.parametrize(
    ("present", "expected"),
    [("old", "old\n\nnew\n"), ("old\n", "old\n\nnew\n"), ("old\n\n", "old\n\nnew\n"), ("", "new\n")],
)
def test_one_blank_line_separates_what_is_appended(present: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "CLAUDE.md"
    path.write_text(present, encoding="utf-8")
    Smallest().append_to_memory_hook(AdapterConfig(model="m", config_path=str(tmp_path)), "CLAUDE.md", "new\n")
    assert path.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_nothing_to_remember_changes_nothing(content: str, tmp_path: Path) -> None:
    path = tmp_path / "CLAUDE.md"
    path.write_bytes(b"old \xff bytes")
    Smallest().append_to_memory_hook(AdapterConfig(model="m", config_path=str(tmp_path)), "CLAUDE.md", content)
    assert path.read_bytes() == b"old \xff bytes"


# Snapshot


def restored(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a fresh adapter after a restart, stopped again before its first turn."""
    adapter = Smallest()
    adapter.restore_state(snapshot)
    return adapter.pre_stop_state()


def test_the_session_survives_a_restart_also_in_the_form_that_is_written_to_disk() -> None:
    adapter = Smallest(Executor("s-1"))
    state = adapter.pre_stop_state()
    assert state == {"session_id": "s-1"}
    assert restored(state) == {"session_id": "s-1"}
    assert restored({"workspace_id": "ws-1", "adapter": state}) == {"session_id": "s-1"}


@pytest.mark.parametrize("session", [None, "", 7, ["s"]])
def test_without_a_session_there_is_nothing_to_restore(session: object) -> None:
    assert Smallest().pre_stop_state() == {}
    assert Smallest(Executor(session)).pre_stop_state() == {}
    assert restored({"session_id": session, "transcript": session if session != ["s"] else None}) == {}


def test_a_transcript_is_in_the_snapshot_where_it_can_be_read_at_once_and_is_cut() -> None:
    [lines] = Writing().pre_stop_state().values()
    assert len(lines) == 200
    assert lines[-1] == "line 499"
