"""Whatever a model passes and whatever a platform answers, a tool answers with a result that says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.tenants import WAIT_SECONDS, Http, Member

from molecule_runtime.core import registry
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.tools import dispatch

from .support import context, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.tools import ToolResult

NOWHERE = "http://127.0.0.1:9"
ALICE = Member("alice", "token-of-alice-0001")
DEFECT = "a defect of molecule-runtime"

EXAMPLES: dict[str, dict[str, Any]] = {
    "broadcast_message": {"message": "m"},
    "install_plugin": {"source": "local://x"},
    "commit_memory": {"content": "c"},
    "recall_memory": {"query": "q"},
    "forget_memory": {"memory_id": "0b7e4b1c-3f0e-4c3c-9a64-6a2f7a9d1e55"},
    "send_message_to_user": {"message": "m"},
    "desktop_status": {},
    "desktop_screenshot": {},
    "desktop_key": {"keys": "a"},
}

ODD_ANSWERS: list[tuple[int, Any]] = [
    (200, []),
    (200, {"files": 7, "memories": [{}]}),
    (200, b"\xff"),
    (418, "tea"),
    (500, b"<html>"),
    (204, b""),
]

# These wait for somebody, or try again for a while, when nobody answers.
PATIENT = {"delegate_task", "delegate_task_async", "desktop_wait_for_control", "wait_for_message"}
_ALL = [
    *(
        name
        for section in ("memory", "work", "display")
        for name in (spec.name for spec in registry.in_section(section))
    ),
    *("send_message_to_user", "broadcast_message", "install_plugin"),
]
QUICK = [name for name in _ALL if name not in PATIENT]

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.text(max_size=3), max_size=2)
)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows, more or less: what is at its borders, and what no schema can say."""
    if "anyOf" in schema:
        return st.one_of(*(values(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "string":
            return st.text(max_size=40)
        case "integer" | "number":
            return st.integers(min_value=schema.get("minimum"), max_value=schema.get("maximum"))
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "object" if "properties" in schema:
            return st.fixed_dictionaries({}, optional={key: values(item) for key, item in schema["properties"].items()})
        case _:
            return ODD


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from(QUICK))
    schema = registry.by_name(name).input_schema
    required = {key: values(item) for key, item in schema["properties"].items() if key in schema.get("required", ())}
    optional = {
        key: st.one_of(values(item), ODD)
        for key, item in schema["properties"].items()
        if key not in required and key not in {"source_workspace_id", "workspace_id"}
    }
    return name, draw(st.fixed_dictionaries(required, optional=optional))


async def answered(folder: Path, many: list[tuple[str, dict[str, Any]]]) -> list[ToolResult]:
    async with ConnectionPools() as pools:
        ctx = dataclasses.replace(context(pools, (NOWHERE, ALICE)), tier=0, state_dir=folder, files_root=folder)
        with anyio.fail_after(WAIT_SECONDS):
            return [await dispatch(name, arguments, ctx) for name, arguments in many]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(many=st.lists(calls(), min_size=1, max_size=5))
def test_no_arguments_make_a_tool_fail_otherwise_than_by_saying_why(many: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for result in anyio.run(answered, Path(folder), many):
            assert DEFECT not in result.text
            assert result.text
            json.dumps([result.text, dict(result.structured)], ensure_ascii=False).encode()


@pytest.mark.anyio
async def test_no_answer_of_a_platform_makes_a_tool_fail_otherwise_than_by_saying_why(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    ctx = dataclasses.replace(context(pools, (scripted.url, ALICE)), files_root=tmp_path, state_dir=tmp_path / "state")
    for answer in ODD_ANSWERS:
        scripted.says(answer)
        for name, arguments in EXAMPLES.items():
            result = await run(ctx, name, **arguments)
            assert DEFECT not in result.text, (name, answer)
            assert ALICE.token not in result.text
            if answer[0] >= 400 and name != "desktop_status":
                assert result.is_error, (name, answer)
