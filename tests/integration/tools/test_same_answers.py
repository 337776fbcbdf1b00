"""Whatever a model passes to a tool, right or wrong, it gets the same answer through each of the three views."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mcp import Client

from molecule_runtime.core import registry
from molecule_runtime.mcp.opening import open_process
from molecule_runtime.mcp.server import create_server
from molecule_runtime.mcp.settings import load_settings
from molecule_runtime.tools.feature import tools_of

from .sides import SECONDS
from .views import LangChainView, McpView, OpenAIView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .views import Answer, View

IDS = ("ws-alice-0001", "ws-bob-0000001")
TOKENS = ("token-of-alice-0001", "token-of-bob-000001")
NOWHERE = "http://127.0.0.1:9"

# These wait for somebody, or try again for a while, when nobody answers.
PATIENT = {"delegate_task_async", "desktop_wait_for_control", "wait_for_message", "run_code"}

# Names that a library between a model and a tool may have for parameters of its own.
MADE_UP = st.sampled_from(
    ["self", "config", "run_manager", "callbacks", "args", "name", "arguments", "context", "wrong"]
)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5),
    st.lists(st.text(max_size=3), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(-9, 9), max_size=2),
)  # fmt: skip


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values of the type that a schema names, and others."""
    if "enum" in schema:
        return st.one_of(st.sampled_from(schema["enum"]), ODD)
    match schema.get("type"):
        case "string":
            return st.one_of(st.text(max_size=40), ODD)
        case "integer" | "number":
            return st.one_of(st.integers(-5, 700), ODD)
        case "array":
            return st.one_of(st.lists(st.text(max_size=5), max_size=3), ODD)
        case _:
            return ODD


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from([name for name in registry.tool_names() if name not in PATIENT]))
    properties: dict[str, Any] = registry.by_name(name).input_schema["properties"]
    known = {key: values(item) for key, item in properties.items() if not key.endswith("workspace_id")}
    arguments: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=known))
    if draw(st.booleans()):
        arguments["source_workspace_id"] = draw(st.one_of(st.sampled_from(IDS), ODD))
    if "workspace_id" in properties and draw(st.booleans()):
        arguments["workspace_id"] = draw(st.one_of(st.sampled_from(IDS), ODD))
    arguments |= draw(st.dictionaries(MADE_UP, ODD, max_size=1))
    # A person's answer is waited for as long as the call says.
    arguments.pop("wait_secs", None)
    return name, arguments


async def answers(folder: Path, many: list[tuple[str, dict[str, Any]]]) -> list[list[Answer]]:
    """Make every call through every view of one process, whose two platforms do not answer."""
    served = zip(IDS, TOKENS, strict=True)
    entries = [{"id": key, "token": token, "platform_url": NOWHERE} for key, token in served]
    environ = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "CONFIGS_DIR": str(folder / "state"),
        "PLATFORM_URL": NOWHERE,
        "MOLECULE_WORKSPACES": json.dumps(entries),
    }
    options = load_settings(environ)
    with anyio.fail_after(SECONDS):
        async with open_process(options, environ) as opened, Client(create_server(options, opened)) as client:
            called = {name for name, _ in many}
            tools = [tool for tool in tools_of(opened.context) if tool.name in called]
            views: list[View] = [
                McpView(client),
                OpenAIView({tool.name: tool for tool in tools}),
                LangChainView({tool.name: tool.to_langchain() for tool in tools}),
            ]
            return [[await view.call(name, arguments) for view in views] for name, arguments in many]


# Not shrunk: what fails is one call, which the assertion shows, and making it smaller would take minutes.
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(many=st.lists(calls(), min_size=1, max_size=6))
def test_a_call_has_the_same_answer_through_every_view(many: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for (name, arguments), (mcp, openai, langchain) in zip(
            many, anyio.run(answers, Path(folder), many), strict=True
        ):
            told = (name, arguments, mcp, openai, langchain)
            assert mcp.is_error == openai.is_error == langchain.is_error, told
            if mcp.is_error:
                # Says the same, and in the structured form as well where a view has one for errors.
                assert mcp.text == openai.text == langchain.text, told
                assert mcp.data == openai.data, told
            else:
                # Ids and times are each call's own.
                assert mcp.data.keys() == openai.data.keys() == langchain.data.keys(), told
            assert all(token not in answer.text for token in TOKENS for answer in (mcp, openai, langchain)), told
