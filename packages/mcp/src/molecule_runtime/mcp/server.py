"""The MCP server: the tools of the registry, the resources and the prompts, over the official SDK."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError

from molecule_runtime.core import registry
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.core.version import version_of
from molecule_runtime.mcp import calling, client_logs, completions
from molecule_runtime.mcp.instructions import instructions
from molecule_runtime.mcp.opening import DISTRIBUTION
from molecule_runtime.mcp.prompts import PROMPTS, PromptError, prompt
from molecule_runtime.mcp.resources import TEMPLATES, Resources, UnknownResourceError
from molecule_runtime.mcp.telling import Sessions
from molecule_runtime.tools.result import bounded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.models import InitializationOptions

    from molecule_runtime.core.registry import ToolSpec
    from molecule_runtime.mcp.opening import Opened
    from molecule_runtime.mcp.settings import McpSettings

    Context = ServerRequestContext[Any, Any]

logger = logging.getLogger(__name__)

SERVER_NAME: Final = "molecule"
"""Contract `runtime.md` 5.3."""

RESOURCE_NOT_FOUND: Final = -32002
"""MCP up to 2025-11-25, "Resources: Error Handling"; later versions call it invalid params."""

MAX_ANSWER_BYTES: Final = 60 * 1024 - 512
"""Of a result; with its envelope it is a line of at most 60 KiB, and clients read 64 (contract `consumers.md` 4.1)."""

MAX_ERROR_BYTES: Final = 4096
"""Of an error's text, which may repeat what the client sent."""


_STATIC: Final = CacheHint(ttl_ms=3_600_000, scope="public")
CACHE_HINTS: Final[dict[CacheableMethod, CacheHint]] = {
    "tools/list": _STATIC,
    "prompts/list": _STATIC,
    "resources/templates/list": _STATIC,
}
"""What stays as it is while this version runs; everything else is stale at once, which is the SDK's default."""


class MoleculeServer(Server[Any]):
    """The SDK's server, which says by itself that its list of resources changes.

    Attributes:
        experimental: announced in every handshake for which the transport names nothing else.
    """

    experimental: dict[str, dict[str, Any]] | None = None

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Return what a session begins with."""
        return super().create_initialization_options(
            notification_options or NotificationOptions(resources_changed=True),
            self.experimental if experimental_capabilities is None else experimental_capabilities,
            extensions,
        )

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> types.ServerCapabilities:
        """Return what this server can: its tools and prompts never change, whatever a stream of 2026-07-28 could tell."""
        found = super().get_capabilities(
            notification_options, experimental_capabilities, extensions, protocol_version=protocol_version
        )
        return found.model_copy(
            update={
                "tools": types.ToolsCapability(list_changed=False),
                "prompts": types.PromptsCapability(list_changed=False),
            }
        )


def create_server(settings: McpSettings, opened: Opened) -> MoleculeServer:
    """Return the MCP server over the registry; it owns nothing, starts nothing, and may serve several sessions at once."""
    tools = [_tool(spec) for spec in registry.TOOLS]
    resources = Resources(settings, opened)
    sessions = Sessions(opened.changes)

    async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(
        ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        return await calling.call_tool(ctx, params, opened, settings)

    async def list_resources(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        try:
            return await resources.page(params.cursor if params is not None else None)
        except UnknownResourceError as exc:
            raise MCPError(types.INVALID_PARAMS, str(exc)) from None

    async def list_templates(
        ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=list(TEMPLATES))

    async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        try:
            return await resources.read(str(params.uri))
        except UnknownResourceError as exc:
            modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
            raise MCPError(
                types.INVALID_PARAMS if modern else RESOURCE_NOT_FOUND,
                str(exc),
                {"uri": redact_text(str(params.uri)[:200])},
            ) from None
        except TimeoutError:
            raise MCPError(types.INTERNAL_ERROR, f"{params.uri}: the platform did not answer in time") from None

    async def list_prompts(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=list(PROMPTS))

    async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        try:
            return prompt(params.name, params.arguments)
        except PromptError as exc:
            raise MCPError(types.INVALID_PARAMS, str(exc)) from None

    async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        return await completions.complete(params, opened)

    @asynccontextmanager
    async def lifespan(server: Server[Any]) -> AsyncGenerator[dict[str, Any]]:
        async with anyio.create_task_group() as group:
            group.start_soon(sessions.run)
            yield {}
            group.cancel_scope.cancel()

    server = MoleculeServer(
        SERVER_NAME,
        version=version_of(DISTRIBUTION),
        title="Molecule",
        instructions=instructions(
            poll_hint=settings.poll_hint,
            workspace_ids=[target.id for target in settings.targets],
            inbox=opened.inbox is not None,
            push=settings.push.fixed != "off",
        ),
        lifespan=lifespan,
        cache_hints=CACHE_HINTS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=sessions.subscribe,
        on_unsubscribe_resource=sessions.unsubscribe,
        on_subscriptions_listen=ListenHandler(sessions.bus),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
    )
    # Not by the constructor, which warns of what 2026-07-28 has no longer: the versions before it have it.
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, sessions.set_level)
    # The log first: an answer that `_bounded` refuses is logged for the request as well.
    server.middleware += [client_logs.attend, _bounded, sessions.greet]
    return server


async def _bounded(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Keep every answer within a line that clients can read, and every error short and free of credentials.

    An error may repeat what the client sent; one about its parameters names the field, which the SDK's own does not.
    """
    try:
        result = await call_next(ctx)
    except MCPError as exc:
        error = exc.error
        data: Any = error.data
        if isinstance(data, str):
            data = bounded(redact_text(data), MAX_ERROR_BYTES)
        raise MCPError(error.code, bounded(redact_text(error.message), MAX_ERROR_BYTES), data) from exc
    except ValidationError as exc:
        raise MCPError(types.INVALID_PARAMS, f"Invalid request parameters: {_fields(exc)}") from exc
    if ctx.method == "tools/call" and isinstance(result, dict) and "structuredContent" in result:
        # Measured by the dispatcher, which keeps an answer within less than this (`molecule_runtime.tools.result`).
        return result
    size = _bytes(result)
    if size > MAX_ANSWER_BYTES:
        logger.error("the answer to %s has %d bytes and was not sent", ctx.method, size)
        raise MCPError(
            types.INTERNAL_ERROR,
            f"the answer to {ctx.method} has {size} bytes, and a line {MAX_ANSWER_BYTES} at most; ask for less",
        )
    return result


def _fields(exc: ValidationError) -> str:
    """Say which fields are wrong and how, never with what stood there."""
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    found = [f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors[:10]]
    return bounded(redact_text("; ".join(found)), MAX_ERROR_BYTES)


def _bytes(result: HandlerResult) -> int:
    if isinstance(result, BaseModel):
        result = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return len(json.dumps(result, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        title=spec.title,
        description=spec.short,
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
        annotations=types.ToolAnnotations(
            read_only_hint=spec.annotations.read_only,
            destructive_hint=spec.annotations.destructive,
            idempotent_hint=spec.annotations.idempotent,
            open_world_hint=spec.annotations.open_world,
        ),
    )
