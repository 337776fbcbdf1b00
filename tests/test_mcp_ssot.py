"""The stable public surface for adapters: one source of truth, and no adapter that drifts from it unnoticed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from molecule_runtime import mcp_schemas, mcp_target_resolution
from molecule_runtime.core import env, targets
from molecule_runtime.core.registry import TOOLS, by_name, tool_names
from molecule_runtime.mcp_schemas import (
    MOLECULE_MCP_TOOLS,
    PERMISSION_MAP,
    get_tool_schema,
    openai_function_tools,
    validate_adapter_schemas,
)
from molecule_runtime.mcp_target_resolution import resolve_target_for_adapter, resolve_workspaces

NAMES = [
    "delegate_task",
    "delegate_task_async",
    "check_task_status",
    "list_peers",
    "get_workspace_info",
    "get_runtime_identity",
    "update_agent_card",
    "broadcast_message",
    "send_message_to_user",
    "create_request",
    "create_approval",
    "install_plugin",
    "desktop_status",
    "desktop_screenshot",
    "desktop_click",
    "desktop_type",
    "desktop_key",
    "desktop_open_url",
    "desktop_wait_for_control",
    "wait_for_message",
    "inbox_peek",
    "inbox_pop",
    "chat_history",
    "commit_memory",
    "recall_memory",
    "forget_memory",
    "goal_get",
    "goal_set",
    "goal_clear",
    "task_list",
    "task_add",
    "task_update",
    "task_complete",
    "list_inbox",
    "check_requests",
    "get_request",
    "respond_request",
    "add_request_message",
    "cancel_request",
    "run_code",
]

IN_STEP: dict[str, list[str]] = {"missing": [], "extra": [], "changed": []}


# Tool schemas


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(mcp_schemas.__all__) == [
        "MOLECULE_MCP_TOOLS",
        "PERMISSION_MAP",
        "get_tool_schema",
        "openai_function_tools",
        "validate_adapter_schemas",
    ]


def test_every_shape_lists_every_tool_in_registration_order() -> None:
    assert tool_names() == NAMES
    assert [spec.name for spec in TOOLS] == NAMES
    assert [tool["name"] for tool in MOLECULE_MCP_TOOLS] == NAMES
    assert [tool["function"]["name"] for tool in openai_function_tools()] == NAMES


def test_a_tool_has_one_schema_object_however_it_is_looked_up() -> None:
    for tool in MOLECULE_MCP_TOOLS:
        schema = by_name(tool["name"]).input_schema
        assert tool["inputSchema"] is schema
        assert get_tool_schema(tool["name"]) is schema


def test_the_mcp_shape_is_derived_from_the_registry() -> None:
    expected = [{"name": spec.name, "description": spec.short, "inputSchema": spec.input_schema} for spec in TOOLS]
    assert expected == MOLECULE_MCP_TOOLS


def test_the_openai_shape_is_derived_from_the_registry() -> None:
    assert openai_function_tools() == [
        {
            "type": "function",
            "function": {"name": spec.name, "description": spec.short, "parameters": spec.input_schema},
        }
        for spec in TOOLS
    ]


def test_a_provider_that_rewrites_its_function_tools_does_not_change_the_source_of_truth() -> None:
    before = copy.deepcopy(MOLECULE_MCP_TOOLS)
    for tool in openai_function_tools():
        tool["function"]["parameters"].clear()
    assert before == MOLECULE_MCP_TOOLS
    assert all(tool["function"]["parameters"] for tool in openai_function_tools())


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_json_schema_and_closed(name: str) -> None:
    schema = get_tool_schema(name)
    assert schema is not None
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    for argument in schema["properties"].values():
        assert argument["description"]


def test_an_unknown_tool_has_no_schema() -> None:
    assert get_tool_schema("delegate") is None


def test_exactly_these_tools_are_gated() -> None:
    assert PERMISSION_MAP == {
        "delegate_task": "delegate",
        "delegate_task_async": "delegate",
        "check_task_status": "delegate",
        "send_message_to_user": "approve",
        "commit_memory": "memory.write",
        "forget_memory": "memory.write",
        "update_agent_card": "memory.write",
    }
    assert {spec.name: spec.permission for spec in TOOLS if spec.permission} == PERMISSION_MAP


# Drift of an adapter


def test_both_shapes_are_in_step_with_the_registry() -> None:
    assert validate_adapter_schemas(MOLECULE_MCP_TOOLS) == IN_STEP
    assert validate_adapter_schemas(openai_function_tools()) == IN_STEP
    assert validate_adapter_schemas(tool["function"] for tool in openai_function_tools()) == IN_STEP


@pytest.mark.parametrize("shape", [lambda: copy.deepcopy(MOLECULE_MCP_TOOLS), openai_function_tools])
def test_drift_is_reported_by_name_and_kind_in_either_shape(shape: Any) -> None:
    tools = shape()
    first = tools.pop(0)
    bodies = [tool.get("function", tool) for tool in tools]
    (bodies[0].get("inputSchema") or bodies[0]["parameters"])["properties"]["task"]["minLength"] = 2
    (bodies[1].get("inputSchema") or bodies[1]["parameters"])["required"].append("source_workspace_id")
    invented = copy.deepcopy(first)
    invented.get("function", invented)["name"] = "zap"
    other = copy.deepcopy(first)
    other.get("function", other)["name"] = "abracadabra"
    assert validate_adapter_schemas([invented, *tools, other]) == {
        "missing": ["abracadabra", "zap"],
        "extra": ["delegate_task"],
        "changed": ["check_task_status", "delegate_task_async"],
    }


def test_an_adapter_that_declares_nothing_lacks_every_tool() -> None:
    assert validate_adapter_schemas([]) == {"missing": [], "extra": sorted(NAMES), "changed": []}


def test_other_words_for_a_tool_are_not_drift() -> None:
    tools = [tool | {"description": "in my own words"} for tool in MOLECULE_MCP_TOOLS]
    assert validate_adapter_schemas(tools) == IN_STEP


def test_a_declaration_without_a_schema_is_a_changed_one() -> None:
    tools = [{"name": name} for name in NAMES]
    assert validate_adapter_schemas([*tools, {"name": "zap"}]) == {
        "missing": ["zap"],
        "extra": [],
        "changed": sorted(NAMES),
    }


@pytest.mark.parametrize(
    "malformed",
    [
        "list_peers",
        None,
        {},
        {"name": ""},
        {"name": 7, "inputSchema": {}},
        {"name": "list_peers", "inputSchema": None},
        {"name": "list_peers", "parameters": []},
        {"type": "function", "function": "list_peers"},
        {"type": "function", "function": {"parameters": {}}},
        MOLECULE_MCP_TOOLS[0],
    ],
    ids=repr,
)
def test_a_malformed_or_repeated_declaration_is_an_error_that_names_its_index(malformed: Any) -> None:
    with pytest.raises(ValueError, match=r"tools\[2\]"):
        validate_adapter_schemas([*MOLECULE_MCP_TOOLS[:2], malformed, *MOLECULE_MCP_TOOLS[2:]])


# Target resolution


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without any of our variables, and a folder of its own for tokens."""
    for variable in env.ALL:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path))
    return monkeypatch


def test_the_public_names_of_target_resolution_are_exactly_these() -> None:
    assert sorted(mcp_target_resolution.__all__) == [
        "print_missing_env_help",
        "read_token_file",
        "resolve_target_for_adapter",
        "resolve_workspaces",
    ]


def test_target_resolution_is_the_one_in_core_and_no_copy() -> None:
    for name in mcp_target_resolution.__all__:
        assert getattr(mcp_target_resolution, name) is getattr(targets, name)


def test_the_plain_variables_give_one_triple_without_a_platform(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("WORKSPACE_ID", "ws-1")
    bare.setenv("MOLECULE_WORKSPACE_TOKEN", "token-one")
    bare.setenv("PLATFORM_URL", "https://acme.example.com")
    assert resolve_workspaces() == ([("ws-1", "token-one", "")], [])
    assert resolve_target_for_adapter() == {"id": "ws-1", "token": "token-one", "platform_url": ""}


def test_a_token_file_gives_one_triple_without_a_platform(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("WORKSPACE_ID", "ws-1")
    assert mcp_target_resolution.read_token_file() == ""
    (tmp_path / ".auth_token").write_text("token-one\n", encoding="utf-8")
    assert mcp_target_resolution.read_token_file() == "token-one"
    assert resolve_workspaces() == ([("ws-1", "token-one", "")], [])
    (tmp_path / "named").write_text("token-two\n", encoding="utf-8")
    bare.setenv("MOLECULE_WORKSPACE_TOKEN_FILE", str(tmp_path / "named"))
    assert resolve_workspaces() == ([("ws-1", "token-two", "")], [])
    assert resolve_target_for_adapter() == {"id": "ws-1", "token": "token-two", "platform_url": ""}


def test_an_array_gives_a_triple_for_each_entry_with_the_platform_it_names(bare: pytest.MonkeyPatch) -> None:
    entries = [
        {"id": "ws-1", "token": "token-one", "platform_url": "https://acme.example.com/"},
        {"id": "ws-2", "token": "token-two", "platform_url": "https://umbra.example.com"},
        {"id": "ws-3", "token": "token-three"},
    ]
    bare.setenv("MOLECULE_WORKSPACES", json.dumps(entries))
    bare.setenv("WORKSPACE_ID", "ws-9")
    assert resolve_workspaces() == (
        [
            ("ws-1", "token-one", "https://acme.example.com"),
            ("ws-2", "token-two", "https://umbra.example.com"),
            ("ws-3", "token-three", ""),
        ],
        [],
    )
    assert resolve_target_for_adapter() == {
        "id": "ws-1",
        "token": "token-one",
        "platform_url": "https://acme.example.com",
    }


@pytest.mark.parametrize("text", ["", "[]", "[{", '[{"id": "ws-1"}]', '[{"id": "WS", "token": "x"}]', '["ws-1"]'])
def test_without_a_usable_target_there_is_none_and_the_errors_say_why(bare: pytest.MonkeyPatch, text: str) -> None:
    bare.setenv("MOLECULE_WORKSPACES", text)
    workspaces, errors = resolve_workspaces()
    assert workspaces == []
    assert errors
    assert all(isinstance(error, str) for error in errors)
    assert resolve_target_for_adapter() is None


def test_the_help_goes_to_stderr_and_its_first_line_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    mcp_target_resolution.print_missing_env_help(["PLATFORM_URL"], True)
    output = capsys.readouterr()
    assert output.out == ""
    assert "PLATFORM_URL" in output.err.splitlines()[0]
