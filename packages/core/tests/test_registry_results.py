"""What every tool returns: the models, and the schemas that clients of MCP hold the results to."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from molecule_runtime.core.registry import TOOLS, ToolSpec, by_name, tool_names

KEYWORDS = {"type", "properties", "required", "items", "anyOf"}

RESULTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("delegate_task", {"status": "done", "workspace_id": "p", "text": "4"}, {"status": "done", "workspace_id": "p"}),
    ("check_task_status", {"delegations": [], "count": 0}, {"delegations": []}),
    ("check_task_status", {"delegation_id": "d", "status": "queued"}, {"status": "queued"}),
    ("wait_for_message", {"timeout": True, "timeout_secs": 0.5}, {"timeout_secs": 0.5}),
    ("wait_for_message", {"activity_id": "a", "text": "t", "kind": "canvas_user"}, {"activity_id": "a", "text": "t"}),
    ("install_plugin", {"source": "s", "plugin": "p"}, {"source": "s"}),
    ("install_plugin", {"source": "s", "status": "working", "continue_with": {"tool": "t"}}, {"plugin": "p"}),
    ("goal_get", {"goal": None}, {}),
    ("task_list", {"tasks": [{"omitted": 9}], "count": 10, "total": 10}, {"tasks": [7], "count": 1, "total": 1}),
    ("list_peers", {"peers": []}, {"peers": [{"id": "p", "role": 1}]}),
    ("get_workspace_info", {"id": "w", "a_newer_key": {}}, {"id": None}),
]
"""A tool, a result of it, and what is none."""


def accepts(name: str, result: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether the model, and whether the schema, accept a result."""
    try:
        by_name(name).results.model_validate(result)
    except ValidationError:
        model = False
    else:
        model = True
    return model, Draft202012Validator(by_name(name).output_schema).is_valid(result)  # pyright: ignore[reportUnknownMemberType]


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and every schema in it."""
    yield schema
    for child in [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]:
        yield from nodes(child)
    if "items" in schema:
        yield from nodes(schema["items"])


@pytest.mark.parametrize("spec", TOOLS, ids=tool_names())
def test_an_output_schema_is_one_of_an_object_that_promises_keys_and_has_no_noise(spec: ToolSpec) -> None:
    Draft202012Validator.check_schema(spec.output_schema)
    assert spec.output_schema["type"] == "object"
    assert spec.output_schema.get("required") or spec.output_schema["anyOf"]
    for node in nodes(spec.output_schema):
        assert node.keys() <= KEYWORDS
    assert accepts(spec.name, {"unknown": 1}) == (False, False)


@pytest.mark.parametrize(("name", "result", "none"), RESULTS)
def test_model_and_schema_say_the_same_of_a_result(name: str, result: dict[str, Any], none: dict[str, Any]) -> None:
    assert accepts(name, result) == (True, True)
    assert accepts(name, none) == (False, False)


def test_all_output_schemas_are_a_part_of_a_line_that_every_client_can_read() -> None:
    # The line of `tools/list` has the names, descriptions and input schemas as well (contract `consumers.md` 4.1).
    schemas = [spec.output_schema for spec in TOOLS]
    assert len(json.dumps(schemas, separators=(",", ":"))) < 14 * 1024
