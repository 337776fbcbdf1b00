"""What is nested deeply must not spoil the list that it ends up in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.localplatform import web

from .support import FakeAgent, Received, http_answer, message

if TYPE_CHECKING:
    from .support import World

pytestmark = pytest.mark.anyio


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_as_many_levels_as_are_allowed_are_read_and_one_more_is_not() -> None:
    assert json.dumps(web.parse(nested(web.MAX_NESTING).encode())) == nested(web.MAX_NESTING)
    with pytest.raises(ValueError, match="nested"):
        web.parse(nested(web.MAX_NESTING + 1).encode())
    with pytest.raises(ValueError, match="nested"):
        web.parse(('{"a":' * 100_000).encode() + b"1" + b"}" * 100_000)
    # Many brackets beside each other are no levels.
    assert len(web.parse(b"[" + b",".join([b"[]"] * 1000) + b"]")) == 1000


@pytest.mark.parametrize("levels", [web.MAX_NESTING, 500, 969, 5000])
async def test_a_message_with_deep_metadata_leaves_the_inbox_of_its_receiver_readable(
    world: World, levels: int
) -> None:
    _, left, right = await world.family()
    await world.register(right)
    text = json.dumps(message("hi", deep=0)).replace('"deep": 0', f'"deep": {nested(levels)}')
    sent = await world.http.post(f"/workspaces/{right.id}/a2a", content=text, headers=left.auth)
    assert (sent.status_code, sent.json()["error"]) == (400, "invalid JSON")
    await world.send(left, right, "after")
    assert [row["summary"] for row in await world.activity(right, type="a2a_receive")] == ["after"]


@pytest.mark.parametrize("path", ["activity", "memory", "memories", "notify", "requests", "checkpoints"])
@pytest.mark.parametrize("value", [nested(973), nested(500).replace("[]", '["\\ud800"]')])
async def test_a_deep_body_is_a_400_whoever_takes_it(world: World, path: str, value: str) -> None:
    alice = await world.create()
    fields = {"activity_type": "agent_log", "key": "k", "content": "c", "scope": "LOCAL", "message": "m"}
    body = f'{json.dumps(fields)[:-1]}, "value": {value}, "metadata": {value}}}'
    answer = await world.http.post(f"/workspaces/{alice.id}/{path}", content=body, headers=alice.auth)
    assert (answer.status_code, "nested" in answer.json()["hint"]) == (400, True)
    assert isinstance(await world.activity(alice), list)


async def test_a_deep_answer_of_an_agent_is_a_bad_answer(world: World, agent: FakeAgent) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)

    async def deep(request: Received) -> bytes:
        del request
        return http_answer(f'{{"jsonrpc": "2.0", "id": "1", "result": {nested(969)}}}'.encode())

    agent.answer = deep
    answer = await world.send(left, right)
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["delivery_confirmed"]) == (502, True)
    rows = await world.activity(right, type="a2a_receive")
    assert [row["status"] for row in rows] == ["error"]
