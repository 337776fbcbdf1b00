"""A tool that belongs to no framework, and its views for those that do."""

from __future__ import annotations

import copy
import functools
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.errors import MissingFeatureError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput:
    """What a call answers.

    Attributes:
        text: for the model.
        structured: the same as a JSON object, where there is one.
        is_error: the tool did not do what was asked, and `text` says why.
    """

    text: str
    structured: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    Attributes:
        name: unique among the tools of a workspace.
        description: for the model that decides whether to call it.
        input_schema: JSON Schema of its arguments. Shared: the views copy it.
        run: does the work. It answers a failure of the tool with `is_error` and does not raise for it.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any] = field(repr=False)
    run: Callable[[Mapping[str, Any]], Awaitable[ToolOutput]] = field(repr=False)

    async def call(self, arguments: Mapping[str, Any] | None = None, /, **named: Any) -> ToolOutput:
        """Run it with a mapping of arguments, named arguments, or both."""
        return await self.run({**(arguments or {}), **named})

    def to_mcp(self) -> dict[str, Any]:
        """Return its declaration in the shape of MCP's `tools/list`."""
        return {"name": self.name, "description": self.description, "inputSchema": self._schema()}

    def to_openai(self) -> dict[str, Any]:
        """Return its declaration in the function-calling shape of OpenAI."""
        function = {"name": self.name, "description": self.description, "parameters": self._schema()}
        return {"type": "function", "function": function}

    def to_langchain(self) -> Any:
        """Return it as a LangChain `StructuredTool`; its `ainvoke` answers with the text.

        Called with a tool call it answers with a `ToolMessage`, whose status is `error` where the tool did not do what was asked, and
        whose artifact is else the structured form.

        Raises:
            MissingFeatureError: langchain-core is not installed.
        """
        try:
            # By name: core does not depend on LangChain, and most runtimes do without it.
            langchain = importlib.import_module("langchain_core.tools")
        except ImportError:
            raise MissingFeatureError("the LangChain view of the tools", distribution="langchain-core") from None

        async def invoke(**arguments: Any) -> tuple[str, dict[str, Any]]:
            output = await self.run(arguments)
            if output.is_error:
                raise langchain.ToolException(output.text)
            return output.text, dict(output.structured)

        return _passing_all(langchain.StructuredTool)(
            name=self.name,
            description=self.description,
            args_schema=self._schema(),
            coroutine=invoke,
            response_format="content_and_artifact",
            handle_tool_error=True,
        )

    def _schema(self) -> dict[str, Any]:
        return copy.deepcopy(dict(self.input_schema))


@functools.cache
def _passing_all(base: type[Any]) -> type[Any]:
    """Return LangChain's class of tools, for tools that get every argument that a model makes up and say what is wrong with it.

    Its own has parameters called `self`, `config` and `run_manager`: of such arguments it drops some, and ends an agent's turn for another.
    """

    async def _arun(tool: Any, /, **arguments: Any) -> Any:
        return await tool.coroutine(**arguments)

    return type("MoleculeTool", (base,), {"_arun": _arun, "__module__": __name__})
