"""Asks the user which workspace acts, where a call named none and several are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mcp.server.context import ServerRequestContext

FIELD: Final = "source_workspace_id"

ANSWER_SECONDS: Final = 50.0
"""Many clients end a call after a minute, their own question to the user included."""

MAX_CHOICES: Final = 100
"""More than a person reads in a list; with more workspaces the call is refused as before."""


def can_ask(ctx: ServerRequestContext[Any, Any], choices: Collection[str]) -> bool:
    """Tell whether the client can ask its user, by a form."""
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    if elicitation is None or len(choices) > MAX_CHOICES:
        return False
    # Before there were two modes, an empty object meant forms.
    if elicitation.form is None and elicitation.url is not None:
        return False
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS or ctx.session.can_send_request


async def choose(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, choices: Mapping[str, str]
) -> str | types.InputRequiredResult | None:
    """Return the workspace that the user chose, None where they did not, or (2026-07-28) the question as the answer of this call.

    Waits for `ANSWER_SECONDS` at most.

    Args:
        ctx: the call.
        params: of the call.
        choices: what the user reads, by the id of each workspace.
    """
    question = types.ElicitRequestFormParams(
        message=f"Which workspace shall do this ({params.name})?",
        requested_schema={
            "type": "object",
            "properties": {
                FIELD: {
                    "type": "string",
                    "title": "Workspace",
                    "description": "The workspace that acts, with its own token at its own platform.",
                    "enum": list(choices),
                    "enumNames": list(choices.values()),
                }
            },
            "required": [FIELD],
        },
    )
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        answer = (params.input_responses or {}).get(FIELD)
        if answer is None:
            return types.InputRequiredResult(input_requests={FIELD: types.ElicitRequest(params=question)})
        return _chosen(answer, choices)
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            result = await ctx.session.elicit_form(
                question.message, question.requested_schema, related_request_id=ctx.request_id
            )
    except (MCPError, TimeoutError, ValidationError):
        # Also an answer that is none: the call is refused as it would be without a question.
        return None
    return _chosen(result, choices)


def _chosen(answer: object, choices: Collection[str]) -> str | None:
    if not isinstance(answer, types.ElicitResult) or answer.action != "accept" or answer.content is None:
        return None
    value = answer.content.get(FIELD)
    return value if isinstance(value, str) and value in choices else None
