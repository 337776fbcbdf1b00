"""The registry of tools: what each one accepts, and that its stored schema says the same."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from molecule_runtime.core.registry import (
    A2A_SECTION,
    DISPLAY_SECTION,
    INBOX_SECTION,
    MEMORY_SECTION,
    TOOLS,
    WORK_SECTION,
    ToolSpec,
    arguments_model,
    by_name,
    generate,
    in_section,
    tool_names,
)
from molecule_runtime.core.registry.arguments import Attachment, SendMessageToUser
from molecule_runtime.core.registry.schemas import SCHEMAS_FILE, read_schemas, schemas_of

VALID: dict[str, dict[str, Any]] = {
    "delegate_task": {"workspace_id": "peer-1", "task": "sum 1 and 2"},
    "delegate_task_async": {"workspace_id": "peer-1", "task": "sum 1 and 2"},
    "check_task_status": {"workspace_id": "peer-1", "task_id": "d-1"},
    "list_peers": {},
    "get_workspace_info": {},
    "get_runtime_identity": {},
    "update_agent_card": {"card": {"name": "researcher", "skills": [{"name": "search"}]}},
    "broadcast_message": {"message": "maintenance at noon"},
    "send_message_to_user": {"message": "done", "attachments": ["/work/a.txt", {"path": "/work/b.txt"}]},
    "create_request": {"kind": "approval", "title": "Deploy?"},
    "create_approval": {"action": "deploy"},
    "install_plugin": {"source": "local://search"},
    "desktop_status": {},
    "desktop_screenshot": {"path": "now.png"},
    "desktop_click": {"x": 1, "y": 2, "button": 3},
    "desktop_type": {"text": " "},
    "desktop_key": {"keys": "ctrl+t"},
    "desktop_open_url": {"url": "https://example.com"},
    "desktop_wait_for_control": {"timeout_s": 600},
    "wait_for_message": {"timeout_secs": 0.5},
    "inbox_peek": {"limit": 1},
    "inbox_pop": {"activity_id": "a-1"},
    "chat_history": {"peer_id": "peer-1", "limit": 500, "before_ts": "2026-01-31T09:30:00Z"},
    "commit_memory": {"content": "the user likes tea", "scope": "TEAM"},
    "recall_memory": {"scope": "", "kind": "summary", "limit": 50},
    "forget_memory": {"memory_id": "m-1"},
    "goal_get": {},
    "goal_set": {"goal": "ship it", "cadence_seconds": 300},
    "goal_clear": {},
    "task_list": {"status": "open"},
    "task_add": {"title": "write tests"},
    "task_update": {"task_id": "t-1", "next_action": ""},
    "task_complete": {"task_id": "t-1"},
    "list_inbox": {"status": "pending"},
    "check_requests": {},
    "get_request": {"request_id": "r-1"},
    "respond_request": {"request_id": "r-1", "action": "done", "message": "it runs"},
    "add_request_message": {"request_id": "r-1", "message": "which branch?"},
    "cancel_request": {"request_id": "r-1"},
    "run_code": {"code": "print(1)", "language": "node", "files": ["data.csv"], "collect": ["plot.png"]},
}
"""One call of every tool."""

BEYOND: list[tuple[str, dict[str, Any]]] = [
    ("delegate_task", {"workspace_id": ""}),
    ("delegate_task", {"task": ""}),
    ("delegate_task_async", {"task": ["sum", "1", "2"]}),
    ("update_agent_card", {"card": "researcher"}),
    ("broadcast_message", {"message": ""}),
    ("send_message_to_user", {"message": ""}),
    ("send_message_to_user", {"attachments": [""]}),
    ("send_message_to_user", {"attachments": "/work/a.txt"}),
    ("send_message_to_user", {"attachments": [{"path": "/work/a.txt", "size": -1}]}),
    ("send_message_to_user", {"attachments": [{"path": "/work/a.txt", "mode": "0600"}]}),
    ("create_request", {"kind": "wish"}),
    ("create_request", {"title": ""}),
    ("create_request", {"priority": "high"}),
    ("create_request", {"wait_secs": -1}),
    ("create_approval", {"action": ""}),
    ("create_approval", {"wait_secs": 601}),
    ("check_requests", {"status": "open"}),
    ("respond_request", {"action": "denied"}),
    ("add_request_message", {"message": ""}),
    ("cancel_request", {"request_id": ""}),
    ("install_plugin", {"source": ""}),
    ("desktop_click", {"x": -1}),
    ("desktop_click", {"y": True}),
    ("desktop_click", {"button": 0}),
    ("desktop_click", {"button": 4}),
    ("desktop_type", {"text": ""}),
    ("desktop_type", {"delay_ms": -1}),
    ("desktop_type", {"delay_ms": 1001}),
    ("desktop_key", {"keys": ""}),
    ("desktop_open_url", {"url": "file:///etc/passwd"}),
    ("desktop_wait_for_control", {"timeout_s": 0}),
    ("desktop_wait_for_control", {"timeout_s": 601}),
    ("wait_for_message", {"timeout_secs": -1}),
    ("wait_for_message", {"timeout_secs": 301}),
    ("inbox_peek", {"limit": 0}),
    ("inbox_peek", {"limit": "10"}),
    ("inbox_pop", {"activity_id": ""}),
    ("chat_history", {"peer_id": ""}),
    ("chat_history", {"limit": 0}),
    ("chat_history", {"limit": 501}),
    ("commit_memory", {"content": ""}),
    ("commit_memory", {"scope": "local"}),
    ("commit_memory", {"kind": "rumour"}),
    ("recall_memory", {"scope": "ALL"}),
    ("recall_memory", {"limit": 51}),
    ("forget_memory", {"memory_id": ""}),
    ("goal_set", {"goal": ""}),
    ("goal_set", {"cadence_seconds": 299}),
    ("task_list", {"limit": 0}),
    ("task_add", {"title": ""}),
    ("task_update", {"task_id": ""}),
    ("task_update", {"status": ""}),
    ("task_complete", {"task_id": ""}),
    ("run_code", {"code": ""}),
    ("run_code", {"language": "perl"}),
    ("run_code", {"files": "data.csv"}),
    ("run_code", {"collect": [""]}),
]
"""Changes of a valid call that make it invalid."""

KEYWORDS = {
    *("type", "description", "default", "enum", "anyOf", "items", "properties", "required", "additionalProperties"),
    *("minimum", "maximum", "minLength", "pattern", "format"),
}
"""What a schema may say: no titles, no references, and nothing that is no JSON Schema."""


def accepts(name: str, arguments: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether the model, and whether the schema, accept a call."""
    try:
        arguments_model(name).model_validate(arguments)
    except ValidationError:
        model = False
    else:
        model = True
    return model, Draft202012Validator(by_name(name).input_schema).is_valid(arguments)  # pyright: ignore[reportUnknownMemberType]


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and every schema in it."""
    yield schema
    for child in [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]:
        yield from nodes(child)
    if "items" in schema:
        yield from nodes(schema["items"])


def test_the_stored_schemas_are_what_the_models_derive() -> None:
    assert read_schemas() == generate.derive_schemas()
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("module", ["molecule_runtime.core.registry", "molecule_runtime.mcp_schemas"])
def test_importing_the_registry_imports_no_third_party_package_and_no_resource_machinery(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert module in loaded
    assert not loaded & {"pydantic", "pydantic_core", "httpx", "yaml", "anyio", "importlib.resources"}


def test_the_generator_is_a_module_to_run_and_its_check_passes_here() -> None:
    command = [sys.executable, "-m", "molecule_runtime.core.registry.generate", "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_the_generator_writes_a_file_that_its_check_then_accepts(tmp_path: Path) -> None:
    file = tmp_path / "schemas.json"
    assert generate.main(["--check"], file=file) == 1
    assert generate.main([], file=file) == 0
    assert generate.main(["--check"], file=file) == 0
    assert read_schemas(file) == read_schemas()


def test_the_check_shows_the_lines_that_are_stale_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schemas.json"
    stale = generate.render_schemas(generate.derive_schemas()).replace('"maximum": 500', '"maximum": 50', 1)
    file.write_text(stale, encoding="utf-8")
    assert generate.main(["--check"], file=file) == 1
    shown = capsys.readouterr().out
    assert '-     "maximum": 50' in shown
    assert '+     "maximum": 500' in shown
    assert file.read_text(encoding="utf-8") == stale


@pytest.mark.parametrize("parents", [[], ["archive.zip"]])
def test_a_schema_that_is_not_stored_is_derived(tmp_path: Path, parents: list[str]) -> None:
    (tmp_path / "archive.zip").write_bytes(b"")
    stored = read_schemas(tmp_path.joinpath(*parents, "schemas.json"))
    assert stored == {}
    spec = by_name("send_message_to_user")
    derived = schemas_of(spec.name, spec.arguments_path, spec.results_path, stored=stored)
    assert derived == (spec.input_schema, spec.output_schema)


def test_every_tool_has_an_example_call_here() -> None:
    assert list(VALID) == tool_names()


@pytest.mark.parametrize("name", VALID)
def test_model_and_schema_accept_the_example_call(name: str) -> None:
    assert accepts(name, VALID[name]) == (True, True)


@pytest.mark.parametrize(("name", "change"), BEYOND, ids=lambda value: str(value))
def test_model_and_schema_refuse_a_value_that_is_out_of_bounds_or_of_another_type(
    name: str, change: dict[str, Any]
) -> None:
    assert accepts(name, VALID[name] | change) == (False, False)


@pytest.mark.parametrize("name", VALID)
def test_model_and_schema_refuse_an_argument_that_the_tool_does_not_have(name: str) -> None:
    assert accepts(name, VALID[name] | {"workspace": "w-1"}) == (False, False)


@pytest.mark.parametrize(
    ("name", "required"),
    [(spec.name, required) for spec in TOOLS for required in spec.input_schema.get("required", [])],
)
def test_model_and_schema_refuse_a_call_without_a_required_argument(name: str, required: str) -> None:
    arguments = {key: value for key, value in VALID[name].items() if key != required}
    assert accepts(name, arguments) == (False, False)


def test_required_arguments_are_those_of_the_contract() -> None:
    required = {spec.name: spec.input_schema["required"] for spec in TOOLS if "required" in spec.input_schema}
    assert required == {
        "delegate_task": ["workspace_id", "task"],
        "delegate_task_async": ["workspace_id", "task"],
        "check_task_status": ["workspace_id", "task_id"],
        "update_agent_card": ["card"],
        "broadcast_message": ["message"],
        "send_message_to_user": ["message"],
        "create_request": ["kind", "title"],
        "create_approval": ["action"],
        "install_plugin": ["source"],
        "desktop_click": ["x", "y"],
        "desktop_type": ["text"],
        "desktop_key": ["keys"],
        "desktop_open_url": ["url"],
        "inbox_pop": ["activity_id"],
        "chat_history": ["peer_id"],
        "commit_memory": ["content"],
        "forget_memory": ["memory_id"],
        "goal_set": ["goal"],
        "task_add": ["title"],
        "task_update": ["task_id"],
        "task_complete": ["task_id"],
        "get_request": ["request_id"],
        "respond_request": ["request_id", "action"],
        "add_request_message": ["request_id", "message"],
        "cancel_request": ["request_id"],
        "run_code": ["code"],
    }


def test_defaults_are_those_of_the_contract_in_schema_and_model() -> None:
    defaults = {
        (spec.name, argument): schema["default"]
        for spec in TOOLS
        for argument, schema in spec.input_schema["properties"].items()
        if "default" in schema
    }
    assert defaults == {
        ("send_message_to_user", "attachments"): [],
        ("create_request", "detail"): "",
        ("create_request", "recipient_id"): "",
        ("create_request", "wait_secs"): 0,
        ("create_approval", "reason"): "",
        ("create_approval", "wait_secs"): 0,
        ("desktop_screenshot", "path"): "",
        ("desktop_click", "button"): 1,
        ("desktop_type", "delay_ms"): 0,
        ("desktop_wait_for_control", "timeout_s"): 60,
        ("wait_for_message", "timeout_secs"): 60,
        ("inbox_peek", "limit"): 10,
        ("chat_history", "limit"): 20,
        ("commit_memory", "scope"): "LOCAL",
        ("commit_memory", "source"): "",
        ("commit_memory", "kind"): "fact",
        ("recall_memory", "query"): "",
        ("recall_memory", "scope"): "",
        ("recall_memory", "limit"): 20,
        ("goal_set", "cadence_seconds"): 3600,
        ("task_list", "status"): "",
        ("task_list", "limit"): 20,
        ("task_add", "next_action"): "",
        ("list_inbox", "status"): "",
        ("check_requests", "status"): "",
        ("respond_request", "message"): "",
        ("run_code", "language"): "python",
        ("run_code", "files"): [],
        ("run_code", "collect"): [],
    }
    for (name, argument), default in defaults.items():
        call = {key: value for key, value in VALID[name].items() if key != argument}
        assert getattr(arguments_model(name).model_validate(call), argument) == default


@pytest.mark.parametrize("spec", TOOLS, ids=tool_names())
def test_a_schema_describes_every_argument_and_has_no_noise(spec: ToolSpec) -> None:
    for node in nodes(spec.input_schema):
        assert node.keys() <= KEYWORDS
        assert {"type": "null"} not in node.get("anyOf", [])
        assert node.get("default", "") is not None
        for argument, schema in node.get("properties", {}).items():
            assert schema["description"].endswith("."), argument
    assert spec.input_schema["type"] == "object"
    assert spec.input_schema["additionalProperties"] is False
    assert "description" not in spec.input_schema


def test_an_argument_that_is_called_title_stays_in_the_schema() -> None:
    assert by_name("create_request").input_schema["properties"]["title"]["type"] == "string"


def test_every_tool_but_the_one_that_describes_the_process_takes_the_acting_workspace() -> None:
    without = [spec.name for spec in TOOLS if "source_workspace_id" not in spec.input_schema["properties"]]
    assert without == ["get_runtime_identity"]


@pytest.mark.parametrize("name", [name for name in VALID if name != "get_runtime_identity"])
def test_the_acting_workspace_is_the_one_that_the_call_names(name: str) -> None:
    call = VALID[name]
    named = arguments_model(name).model_validate(call | {"source_workspace_id": " ws-1 "})
    assert named.acting_workspace_id == "ws-1"
    for nothing in ({}, {"source_workspace_id": None}, {"source_workspace_id": " "}):
        assert arguments_model(name).model_validate(call | nothing).acting_workspace_id is None


@pytest.mark.parametrize("name", ["broadcast_message", "send_message_to_user", "install_plugin"])
def test_the_older_name_of_the_acting_workspace_means_the_same(name: str) -> None:
    validate = arguments_model(name).model_validate
    assert validate(VALID[name] | {"workspace_id": "ws-1"}).acting_workspace_id == "ws-1"
    both = {"workspace_id": "ws-1", "source_workspace_id": "ws-1"}
    assert validate(VALID[name] | both).acting_workspace_id == "ws-1"
    with pytest.raises(ValidationError, match="workspace_id='ws-1'"):
        validate(VALID[name] | both | {"source_workspace_id": "ws-2"})


def test_the_target_of_a_delegation_is_not_the_acting_workspace() -> None:
    arguments = arguments_model("delegate_task").model_validate(VALID["delegate_task"])
    assert arguments.acting_workspace_id is None


def test_null_for_an_optional_argument_means_not_given() -> None:
    arguments = arguments_model("inbox_peek").model_validate({"limit": None, "source_workspace_id": None})
    assert arguments == arguments_model("inbox_peek").model_validate({})


def test_null_for_a_required_or_an_unknown_argument_is_refused() -> None:
    validate = arguments_model("inbox_pop").model_validate
    for arguments in ({"activity_id": None}, {"activity_id": "a-1", "limit": None}, None):
        with pytest.raises(ValidationError):
            validate(arguments)


def test_a_whole_float_is_an_integer_and_another_float_is_not() -> None:
    assert accepts("inbox_peek", {"limit": 5.0}) == (True, True)
    assert accepts("inbox_peek", {"limit": 5.5}) == (False, False)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (spec.name, argument)
        for spec in TOOLS
        for argument, schema in spec.input_schema["properties"].items()
        if schema.get("minLength") and "pattern" not in schema and argument != "text"
    ],
)
def test_text_of_white_space_is_refused(name: str, argument: str) -> None:
    with pytest.raises(ValidationError) as caught:
        arguments_model(name).model_validate(VALID[name] | {argument: " \n"})
    assert [error["loc"] for error in caught.value.errors()] == [(argument,)]


@pytest.mark.parametrize("before", ["yesterday", "2026-01-31T09:30:00", ""])
def test_history_refuses_a_time_that_the_platform_could_not_read(before: str) -> None:
    with pytest.raises(ValidationError):
        arguments_model("chat_history").model_validate({"peer_id": "peer-1", "before_ts": before})


def test_an_attachment_is_a_local_file_or_an_uploaded_one_under_either_spelling() -> None:
    uploaded = {"uri": "workspace:/a.png", "name": "a.png", "mimeType": "image/png", "size": 12}
    arguments = SendMessageToUser.model_validate(
        {"message": "look", "attachments": ["/work/a", {"file_path": "/work/b", "mime_type": "text/plain"}, uploaded]}
    )
    plain, local, remote = arguments.attachments
    assert plain == "/work/a"
    assert isinstance(local, Attachment)
    assert isinstance(remote, Attachment)
    assert (local.local_path, local.media_type) == ("/work/b", "text/plain")
    assert (remote.local_path, remote.uri, remote.media_type) == (None, "workspace:/a.png", "image/png")


@pytest.mark.parametrize("attachment", [{}, {"name": "a.png"}, {"uri": "workspace:/a.png"}, {"path": ""}])
def test_an_attachment_that_names_no_file_is_refused(attachment: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Attachment.model_validate(attachment)


def test_a_name_finds_its_tool_and_an_unknown_name_is_a_key_error() -> None:
    assert [by_name(name) for name in tool_names()] == list(TOOLS)
    for look in (by_name, arguments_model):
        with pytest.raises(KeyError):
            look("delegate")


def test_the_sections_hold_every_tool_once_in_registration_order() -> None:
    sections = [A2A_SECTION, DISPLAY_SECTION, INBOX_SECTION, MEMORY_SECTION, WORK_SECTION]
    assert sections[:2] == ["a2a", "display"]
    assert MEMORY_SECTION == "memory"
    assert [len(in_section(section)) for section in sections] == [19, 7, 3, 3, 8]
    assert sorted(spec.name for section in sections for spec in in_section(section)) == sorted(tool_names())
    assert [spec.name for spec in in_section(INBOX_SECTION)] == ["wait_for_message", "inbox_peek", "inbox_pop"]
    assert in_section("nowhere") == []


@pytest.mark.parametrize("spec", TOOLS, ids=tool_names())
def test_texts_mention_only_tools_that_exist_and_the_tools_own_arguments(spec: ToolSpec) -> None:
    assert spec.title
    assert spec.short.endswith((".", "'"))
    assert spec.when_to_use.endswith(".")
    known = {*tool_names(), *spec.input_schema["properties"]}
    assert set(re.findall(r"`([^`]*)`", spec.short + spec.when_to_use)) <= known
    fields = {
        *("workspace_id", "source_workspace_id", "task_id", "delegation_id", "activity_id", "in_progress", "not_found"),
        *("created_at", "mime_type", "file_path", "info_requested", "already_collected", "exit_code"),
    }
    argument_texts = " ".join(schema["description"] for schema in spec.input_schema["properties"].values())
    words = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", f"{spec.short} {spec.when_to_use} {argument_texts}"))
    assert words - fields <= known


def test_the_status_of_a_delegation_is_explained_where_it_is_read() -> None:
    spec = by_name("check_task_status")
    for status in ("pending", "dispatched", "in_progress", "queued", "completed", "failed"):
        assert status in spec.short
        assert status in spec.when_to_use


@pytest.mark.parametrize("spec", TOOLS, ids=tool_names())
def test_a_tool_that_only_reads_is_neither_destructive_nor_gated_as_a_write(spec: ToolSpec) -> None:
    if spec.annotations.read_only:
        assert not spec.annotations.destructive
        assert spec.annotations.idempotent
        assert spec.permission in {None, "delegate", "memory.read"}


def test_the_tools_that_only_read_are_known() -> None:
    assert [spec.name for spec in TOOLS if spec.annotations.read_only] == [
        "check_task_status",
        "list_peers",
        "get_workspace_info",
        "get_runtime_identity",
        "desktop_status",
        "desktop_wait_for_control",
        "wait_for_message",
        "inbox_peek",
        "chat_history",
        "recall_memory",
        "goal_get",
        "task_list",
        "list_inbox",
        "check_requests",
        "get_request",
    ]


def test_what_overwrites_or_removes_says_that_it_is_destructive() -> None:
    assert [spec.name for spec in TOOLS if spec.annotations.destructive] == [
        "update_agent_card",
        "install_plugin",
        "desktop_click",
        "desktop_type",
        "desktop_key",
        "inbox_pop",
        "forget_memory",
        "goal_set",
        "goal_clear",
        "task_update",
        "task_complete",
        "respond_request",
        "cancel_request",
    ]


def test_a_spec_cannot_be_changed() -> None:
    spec: Any = by_name("list_peers")
    with pytest.raises(AttributeError):
        spec.short = "something else"


def test_the_stored_file_keeps_the_order_of_the_registry() -> None:
    stored = json.loads(SCHEMAS_FILE.read_text(encoding="utf-8"))
    assert list(stored) == tool_names()
