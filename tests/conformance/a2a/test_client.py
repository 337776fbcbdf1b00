"""The official client, in each binding and version that the card declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from .site import WAIT_SECONDS

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio


@pytest.mark.spec("1.0", "5.1", "5.2")
@pytest.mark.spec("0.3.0", "5.6.3")
@pytest.mark.parametrize(("binding", "version"), [("JSONRPC", "1.0"), ("JSONRPC", "0.3"), ("HTTP+JSON", "1.0")])
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "wait"])
async def test_it_sends_follows_gets_and_cancels(agent: Agent, binding: str, version: str, *, streaming: bool) -> None:
    from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
    from a2a.helpers import new_text_message
    from a2a.types import CancelTaskRequest, GetTaskRequest, Role, SendMessageRequest, TaskState

    with anyio.fail_after(WAIT_SECONDS):
        card = await A2ACardResolver(agent.http, agent.url).get_agent_card()
        kept = [
            one
            for one in card.supported_interfaces
            if (one.protocol_binding, one.protocol_version) == (binding, version)
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        config = ClientConfig(httpx_client=agent.http, streaming=streaming, supported_protocol_bindings=[binding])
        client = ClientFactory(config).create(card)

        request = SendMessageRequest(message=new_text_message("say hi", role=Role.ROLE_USER))
        answers = [answer async for answer in client.send_message(request)]
        assert answers[0].message.parts[0].text == "hi"

        request = SendMessageRequest(message=new_text_message("count 2", role=Role.ROLE_USER))
        kinds = [answer.WhichOneof("payload") async for answer in client.send_message(request)]
        assert kinds[0] == "task"
        assert len(kinds) == (5 if streaming else 1)

        request = SendMessageRequest(message=new_text_message("ask", role=Role.ROLE_USER))
        task_id = ""
        async for answer in client.send_message(request):
            task_id = task_id or answer.task.id
        task = await client.get_task(GetTaskRequest(id=task_id))
        assert task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        cancelled = await client.cancel_task(CancelTaskRequest(id=task_id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
