"""The three ways to the tools: a client of MCP, functions in the shape of OpenAI, tools of LangChain."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from langchain_core.messages import ToolMessage
from mcp import Client, StdioServerParameters, stdio_client

from molecule_runtime.mcp.opening import open_process
from molecule_runtime.mcp.settings import load_settings
from molecule_runtime.tools.feature import tools_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from molecule_runtime.core.adapter.tool import Tool


@dataclass(frozen=True)
class Answer:
    """What a view gives for one call.

    Attributes:
        data: the structured form; {} where the view has none for an error.
    """

    text: str
    data: dict[str, Any]
    is_error: bool


class View(Protocol):
    """One way to call the tools."""

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Answer:
        """Call a tool the way a program of this kind does."""
        ...


@dataclass(frozen=True)
class McpView:
    """The official client of MCP, which also holds every answer to the output schema of its tool."""

    client: Client

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Answer:
        result = await self.client.call_tool(tool, dict(arguments))
        text = "\n".join(block.text for block in result.content if block.type == "text")
        return Answer(text, dict(result.structured_content or {}), bool(result.is_error))


@dataclass(frozen=True)
class OpenAIView:
    """Functions: declared as JSON, called with a name and a JSON text of arguments."""

    tools: Mapping[str, Tool]

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Answer:
        said = json.dumps({"name": tool, "arguments": json.dumps(arguments)})
        function = json.loads(said)
        output = await self.tools[function["name"]].call(json.loads(function["arguments"]))
        return Answer(output.text, dict(output.structured), output.is_error)


@dataclass(frozen=True)
class LangChainView:
    """Tools of LangChain, called as an agent's graph does: with a tool call, for a tool message."""

    tools: Mapping[str, Any]

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Answer:
        call = {"type": "tool_call", "id": "call-1", "name": tool, "args": dict(arguments)}
        message = await self.tools[tool].ainvoke(call)
        assert isinstance(message, ToolMessage)
        artifact: Any = message.artifact
        return Answer(str(message.content), dict(artifact or {}), message.status == "error")


@asynccontextmanager
async def mcp_view(home: Path, environ: Mapping[str, str]) -> AsyncGenerator[View]:
    """Run `molecule-mcp` under the official client, over real stdio."""
    command = StdioServerParameters(command=sys.executable, args=["-m", "molecule_runtime.mcp"], env=dict(environ))
    with (home / "stderr").open("a", encoding="utf-8") as log:
        async with Client(stdio_client(command, errlog=log)) as client:
            # Its schemas are what the client holds the answers to.
            listed = await client.list_tools()
            assert all(tool.output_schema for tool in listed.tools)
            yield McpView(client)


@asynccontextmanager
async def openai_view(home: Path, environ: Mapping[str, str]) -> AsyncGenerator[View]:
    """Have functions over the workspaces of an environment, in this process."""
    async with _tools(home, environ) as tools:
        declared = {tool.to_openai()["function"]["name"]: tool for tool in tools}
        yield OpenAIView(declared)


@asynccontextmanager
async def langchain_view(home: Path, environ: Mapping[str, str]) -> AsyncGenerator[View]:
    """Have tools of LangChain over the workspaces of an environment, in this process."""
    async with _tools(home, environ) as tools:
        yield LangChainView({tool.name: tool.to_langchain() for tool in tools})


@asynccontextmanager
async def _tools(home: Path, environ: Mapping[str, str]) -> AsyncGenerator[list[Tool]]:
    del home
    async with open_process(load_settings(environ), environ) as opened, anyio.create_task_group() as background:
        background.start_soon(opened.supervisor.run)
        yield tools_of(opened.context)
        background.cancel_scope.cancel()


class Opener(Protocol):
    """Opens a view of the workspaces of an environment."""

    def __call__(self, home: Path, environ: Mapping[str, str]) -> AbstractAsyncContextManager[View]: ...


VIEWS: dict[str, Opener] = {"mcp": mcp_view, "openai": openai_view, "langchain": langchain_view}
