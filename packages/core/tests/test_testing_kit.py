"""Every check of the conformance suite passes a good adapter and fails one that breaks it."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter, RuntimeCapabilities
from molecule_runtime.core.testing import AdapterConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHECKS = sorted(
    name for name, _ in inspect.getmembers(AdapterConformance, inspect.isfunction) if name.startswith("test_")
)
EXECUTOR_CHECKS = {
    "test_a_turn_ends_with_one_message_or_a_finished_task",
    "test_a_cancelled_turn_ends",
    "test_an_exception_is_not_a_success",
}


# --- a good adapter, with a file of its own for MCP servers --------------------------------------------------------------------


class Executor:
    """Answers with one message; subclasses misbehave."""

    async def execute(self, context: Any, queue: Any) -> None:
        text = f"You said: {context.get_user_input()}"
        helpers = importlib.import_module("a2a.helpers")
        await queue.enqueue_event(helpers.new_text_message(text, context_id=context.context_id))

    async def cancel(self, context: Any, queue: Any) -> None:
        """Leave it to the host, which cancels the task."""


class Good(BaseAdapter):
    executor_type: ClassVar[type] = Executor

    @staticmethod
    def name() -> str:
        return "good-adapter"

    @staticmethod
    def display_name() -> str:
        return "Good"

    @staticmethod
    def description() -> str:
        return "Repeats what it is told."

    async def setup(self, config: AdapterConfig) -> None:
        if config.runtime_config.get("broken"):
            raise RuntimeError("runtime_config.broken must not be set")

    async def create_executor(self, config: AdapterConfig) -> Any:
        self._executor = self.executor_type()
        return self._executor

    def mcp_settings_path(self, config: AdapterConfig) -> str:
        return str(Path(config.config_path, "servers.json"))

    def servers(self, config: AdapterConfig) -> dict[str, Any]:
        path = Path(self.mcp_settings_path(config))
        return json.loads(path.read_text()) if path.exists() else {}

    def register_mcp_server_hook(self, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
        path = Path(self.mcp_settings_path(config))
        content = json.dumps({**self.servers(config), name: dict(spec)}, sort_keys=True)
        path.touch(mode=0o600)
        path.write_text(content)

    def management_mcp_present(self, config: AdapterConfig) -> bool:
        return "molecule-platform" in self.servers(config)


class Suite(AdapterConformance):
    adapter_class = Good
    failing_runtime_config: ClassVar[dict[str, Any] | None] = {"broken": True}


CALLS = itertools.count()


def always(value: Any) -> Callable[..., Any]:
    """Return a method that returns `value`."""

    def method(*_: object) -> Any:
        return value

    return method


def number_of_the_call() -> str:
    return f"call {next(CALLS)}"


def adapter(**members: Any) -> type[BaseAdapter]:
    return type("Broken", (Good,), members)


def run(check: str, folder: Path, adapter_class: type[BaseAdapter] = Good, **settings: Any) -> None:
    """Run one check on an adapter."""
    suite: Any = type("Tried", (Suite,), {"adapter_class": adapter_class, **settings})()
    method = getattr(suite, check)
    method(folder) if "tmp_path" in inspect.signature(method).parameters else method()


# --- adapters that break one rule each -----------------------------------------------------------------------------------------


def appends_always(self: Good, config: AdapterConfig, filename: str, content: str) -> None:
    with Path(config.config_path, filename).open("a") as file:
        file.write(f"\n{content}")


def replaces_memory(self: Good, config: AdapterConfig, filename: str, content: str) -> None:
    Path(config.config_path, filename).write_text(content)


async def transcript(self: Good, since: int = 0, limit: int = 100) -> dict[str, Any]:
    return {"runtime": self.name(), "supported": True, "lines": ["a"] * 50, "cursor": 0, "more": False, "source": None}


async def incomplete_transcript(self: Good, since: int = 0, limit: int = 100) -> dict[str, Any]:
    return {"lines": []}


class Forgetful(Good):
    """Reads the top level only: the predecessor's defect (workspace-host.md 23.4)."""

    def restore_state(self, snapshot: Mapping[str, Any]) -> None:
        self._snapshot_session_id = snapshot.get("session_id")


def counts(self: Good, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
    path = Path(self.mcp_settings_path(config))
    servers = {**self.servers(config), name: dict(spec)}
    path.touch(mode=0o600)
    path.write_text(json.dumps({**servers, "writes": path.stat().st_size}))


def replaces_servers(self: Good, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
    path = Path(self.mcp_settings_path(config))
    path.touch(mode=0o600)
    path.write_text(json.dumps({name: dict(spec)}))


def open_to_all(self: Good, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
    Good.register_mcp_server_hook(self, config, name, spec)
    Path(self.mcp_settings_path(config)).chmod(0o644)


def writes_elsewhere(self: Good, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
    Path(config.config_path, "elsewhere.json").write_text(json.dumps({name: dict(spec)}))


def any_server(self: Good, config: AdapterConfig) -> bool:
    return bool(self.servers(config))


def does_nothing(self: Good, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
    """Lose the server without a word: the predecessor's #3159."""


async def raises(self: Good, config: AdapterConfig) -> list[str] | None:
    raise OSError("no such file")


async def invents(self: Good, config: AdapterConfig) -> list[str] | None:
    return []


async def wants_value_error(self: Good, config: AdapterConfig) -> None:
    if config.runtime_config.get("broken"):
        raise KeyError("broken")


async def accepts_all(self: Good, config: AdapterConfig) -> None:
    """Check nothing."""


async def no_executor(self: Good, config: AdapterConfig) -> Any:
    return object()


def needs_arguments(self: Good, key: str) -> None:
    """Take an argument that the host does not have."""


class Unfinished(BaseAdapter):
    """Lacks every abstract method."""


BROKEN: list[tuple[str, type[BaseAdapter], str]] = [
    ("test_the_class_is_an_adapter_that_is_made_without_arguments", Unfinished, "methods are missing"),  # type: ignore[type-abstract]
    ("test_the_class_is_an_adapter_that_is_made_without_arguments", adapter(__init__=needs_arguments), "without arg"),
    ("test_the_class_is_an_adapter_that_is_made_without_arguments", dict, "must derive"),  # type: ignore[list-item]
    ("test_its_names_are_stable_text", adapter(name=staticmethod(always("Has Spaces"))), "lower-case"),
    ("test_its_names_are_stable_text", adapter(display_name=staticmethod(always(None))), "must return text"),
    ("test_its_names_are_stable_text", adapter(description=staticmethod(number_of_the_call)), "each time"),
    ("test_its_config_schema_is_json", adapter(get_config_schema=staticmethod(always({"a": object()}))), "JSON"),
    ("test_its_config_schema_is_json", adapter(get_config_schema=staticmethod(always(None))), "must return a dict"),
    ("test_its_capabilities_are_flags", adapter(capabilities=always({"session": True})), "RuntimeCapabilities"),
    (
        "test_its_capabilities_are_flags",
        adapter(capabilities=always(RuntimeCapabilities(provides_native_retry="yes"))),  # type: ignore[arg-type]
        "True or False",
    ),
    ("test_what_it_says_about_itself_is_usable", adapter(idle_timeout_override=always("900")), "whole seconds"),
    (
        "test_what_it_says_about_itself_is_usable",
        adapter(memory_filename=always("../CLAUDE.md")),
        "name of a file",
    ),
    ("test_what_it_says_about_itself_is_usable", adapter(skills=always([{"name": "x"}])), "needs 'id'"),
    ("test_setup_and_create_executor_succeed", adapter(setup=always(None)), "must be async"),
    ("test_setup_and_create_executor_succeed", adapter(create_executor=no_executor), "AgentExecutor"),
    ("test_a_setup_that_fails_says_why", adapter(setup=accepts_all), "accepted"),
    ("test_a_setup_that_fails_says_why", adapter(setup=wants_value_error), "must raise RuntimeError"),
    ("test_memory_is_appended_once", adapter(append_to_memory_hook=appends_always), "twice"),
    ("test_memory_is_appended_once", adapter(append_to_memory_hook=replaces_memory), "keep what is there"),
    ("test_the_transcript_is_a_page", adapter(transcript_lines=transcript), "limit of 2"),
    ("test_the_transcript_is_a_page", adapter(transcript_lines=incomplete_transcript), "lacks"),
    ("test_a_session_that_is_saved_is_the_session_that_is_restored", Forgetful, "adapter form"),
    ("test_a_session_that_is_saved_is_the_session_that_is_restored", adapter(pre_stop_state=always({})), "saved"),
    ("test_an_mcp_server_is_registered_once_and_found", adapter(register_mcp_server_hook=counts), "changed the file"),
    ("test_an_mcp_server_is_registered_once_and_found", adapter(register_mcp_server_hook=replaces_servers), "lost"),
    ("test_an_mcp_server_is_registered_once_and_found", adapter(register_mcp_server_hook=open_to_all), "by others"),
    ("test_an_mcp_server_is_registered_once_and_found", adapter(register_mcp_server_hook=writes_elsewhere), "else"),
    (
        "test_an_mcp_server_is_registered_once_and_found",
        adapter(management_mcp_present=any_server),
        "passes for the management server",
    ),
    ("test_loaded_mcp_tools_are_unknown_or_a_list", adapter(enumerate_loaded_mcp_tools=raises), "OSError"),
    ("test_loaded_mcp_tools_are_unknown_or_a_list", adapter(enumerate_loaded_mcp_tools=invents), "must return None"),
    (
        "test_an_unknown_runtime_is_not_told_about_mcp_servers_in_silence",
        adapter(register_mcp_server_hook=does_nothing),
        "said nothing",
    ),
    (
        "test_an_unknown_runtime_is_not_told_about_mcp_servers_in_silence",
        adapter(management_mcp_present=always(True)),
        "not False",
    ),
]


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in EXECUTOR_CHECKS])
def test_a_good_adapter_passes_the_check(check: str, tmp_path: Path) -> None:
    run(check, tmp_path)


@pytest.mark.parametrize(("check", "broken", "says"), BROKEN)
def test_a_broken_adapter_fails_the_check(check: str, broken: type[BaseAdapter], says: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        run(check, tmp_path, broken)


def test_a_check_that_cannot_be_made_is_skipped_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(unittest.SkipTest, match="failing_runtime_config"):
        run("test_a_setup_that_fails_says_why", tmp_path, failing_runtime_config=None)


def refuse_without_a_word(self: BaseAdapter, config: AdapterConfig, name: str, spec: Mapping[str, Any]) -> None:
    raise NotImplementedError


def test_a_runtime_that_takes_no_mcp_servers_passes_when_it_says_so_and_fails_when_it_does_not(tmp_path: Path) -> None:
    check = "test_an_mcp_server_is_registered_once_and_found"
    run(check, tmp_path, adapter(register_mcp_server_hook=BaseAdapter.register_mcp_server_hook))
    with pytest.raises(AssertionError, match="must say so"):
        run(check, tmp_path, adapter(register_mcp_server_hook=refuse_without_a_word))
