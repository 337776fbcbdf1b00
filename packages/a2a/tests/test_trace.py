"""The trace of a message goes on in the agent's turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from .gated import said, send, text_in
from .support import DEADLINE, ECHO, Workspace, ready, serving

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

TRACED = ECHO.replace(
    'return f"You said: {turn.text}"',
    'return format(trace.get_current_span().get_span_context().trace_id, "032x")',
).replace("    class Adapter", "    from opentelemetry import trace\n\n    class Adapter")

FIRST = "4bf92f3577b34da6a3ce929d0e0e4736"
SECOND = "0af7651916cd43dd8448eb211c80319c"
NONE = "0" * 32


async def test_a_turn_belongs_to_the_trace_that_its_message_came_with(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(TRACED)
    async with serving(workspace):
        await ready(workspace)

        async def trace_of(metadata: dict[str, object], header: str = "") -> str:
            if not header:
                return text_in(await send(workspace, said("which trace?", metadata=metadata)))
            params = {"message": said("which trace?", metadata=metadata), "configuration": {"blocking": True}}
            body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": params}
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
                answer = await client.post(workspace.url, json=body, headers={"traceparent": header})
            return text_in(answer.json()["result"])

        assert await trace_of({"traceparent": f"00-{FIRST}-00f067aa0ba902b7-01"}) == FIRST
        assert await trace_of({}) == NONE, "the next message has nothing of the one before"
        assert await trace_of({"traceparent": "00-zzz"}) == NONE
        assert await trace_of({"traceparent": {"not": "text"}}) == NONE
        assert await trace_of({}, f"00-{SECOND}-00f067aa0ba902b7-01") == SECOND
        # The proxy's own request is not what the message belongs to.
        both = await trace_of({"traceparent": f"00-{FIRST}-00f067aa0ba902b7-01"}, f"00-{SECOND}-00f067aa0ba902b7-01")
        assert both == FIRST
