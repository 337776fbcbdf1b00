"""The activity list as an inbox, reports, and messages to the person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .support import frame_of, message

if TYPE_CHECKING:
    from .support import World

pytestmark = pytest.mark.anyio

ZERO = "00000000-0000-0000-0000-000000000000"


async def test_a_cursor_reads_ascending_and_the_plain_list_newest_first(world: World) -> None:
    _, left, right = await world.family()
    await world.register(right)
    for text in ("one", "two", "three", "four"):
        await world.send(left, right, text)
    rows = await world.activity(right)
    assert [row["summary"] for row in rows] == ["four", "three", "two", "one"]
    assert [row["seq"] for row in rows] == sorted((row["seq"] for row in rows), reverse=True)
    oldest = rows[-1]["id"]
    assert [row["summary"] for row in await world.activity(right, since_id=oldest)] == ["two", "three", "four"]
    assert [row["summary"] for row in await world.activity(right, since_id=oldest, limit=1)] == ["two"]
    assert await world.activity(right, since_id=rows[0]["id"]) == []


async def test_an_unknown_or_foreign_cursor_is_a_410(world: World) -> None:
    _, left, right = await world.family()
    await world.register(left)
    await world.register(right)
    await world.send(left, right)
    (row,) = await world.activity(right)
    for cursor in (ZERO, "junk"):
        answer = await world.http.get(
            f"/workspaces/{right.id}/activity", params={"since_id": cursor}, headers=right.auth
        )
        assert answer.status_code == 410
        assert "error" in answer.json()
    foreign = await world.http.get(f"/workspaces/{left.id}/activity", params={"since_id": row["id"]}, headers=left.auth)
    assert foreign.status_code == 410


async def test_the_list_is_filtered_as_the_contract_says(world: World) -> None:
    parent, left, right = await world.family()
    await world.register(right)
    await world.send(left, right, "from left")
    world.clock.now += 100
    await world.send(parent, right, "from parent")
    world.clock.now += 100
    await world.http.post(f"/workspaces/{right.id}/a2a", json=message("from the person"), headers=world.admin)
    await world.http.post(
        f"/workspaces/{right.id}/activity", json={"activity_type": "agent_log", "summary": "log"}, headers=right.auth
    )

    async def summaries(**query: Any) -> list[str]:
        return [row["summary"] for row in await world.activity(right, **query)]

    assert await summaries(type="a2a_receive") == ["from the person", "from parent", "from left"]
    assert await summaries(source="canvas") == ["from the person"]
    assert await summaries(source="agent") == ["log", "from parent", "from left"]
    assert await summaries(peer_id=left.id) == ["from left"]
    assert await summaries(since_secs=150) == ["log", "from the person", "from parent"]
    middle = (await world.activity(right, peer_id=parent.id))[0]["created_at"]
    assert await summaries(before_ts=middle) == ["from left"]
    assert await summaries(before_ts=middle.replace("Z", "+00:00")) == ["from left"]
    for junk in ("x", "-1", "0", ""):
        assert len(await summaries(limit=junk)) == 4


@pytest.mark.parametrize(
    "query",
    [
        {"source": "moon"},
        {"since_secs": "0"},
        {"since_secs": "-1"},
        {"since_secs": "soon"},
        {"before_ts": "yesterday"},
        {"before_ts": "2026-01-01T00:00:00"},
        {"peer_id": "../x"},
    ],
)
async def test_a_query_value_out_of_its_range_is_a_400(world: World, query: dict[str, str]) -> None:
    alice = await world.create()
    answer = await world.http.get(f"/workspaces/{alice.id}/activity", params=query, headers=alice.auth)
    assert answer.status_code == 400


async def test_peer_info_names_the_sender_and_lists_files(world: World) -> None:
    parent = await world.create("parent")
    left = await world.create("left", parent_id=parent.id, role="cook")
    right = await world.create("right", parent_id=parent.id)
    await world.register(right)
    body = message("see file")
    file = {"uri": "workspace:/a.txt", "name": "a.txt", "mimeType": "text/plain"}
    body["params"]["message"]["parts"].append({"kind": "file", "file": file})
    await world.http.post(f"/workspaces/{right.id}/a2a", json=body, headers=left.auth)
    (row,) = await world.activity(right, include="peer_info")
    assert (row["peer_name"], row["peer_role"]) == ("left", "cook")
    assert row["agent_card_url"] == f"{world.platform.url}/registry/discover/{left.id}"
    assert row["attachments"] == [
        {"kind": "file", "uri": "workspace:/a.txt", "mime_type": "text/plain", "name": "a.txt"}
    ]
    assert "peer_name" not in (await world.activity(right))[0]


async def test_a_page_ends_before_it_is_too_large_to_read_and_the_cursor_goes_on(world: World) -> None:
    _, left, right = await world.family()
    await world.register(right)
    await world.send(left, right, "first")
    (first,) = await world.activity(right)
    for index in range(10):
        await world.send(left, right, f"{index}" + "x" * 1_000_000)
    seen: list[str] = []
    cursor = first["id"]
    while page := await world.activity(right, since_id=cursor):
        assert len(page) < 10
        seen += [row["summary"][0] for row in page]
        cursor = page[-1]["id"]
    assert seen == list("0123456789")


async def test_a_notification_is_stored_in_its_documented_form(world: World) -> None:
    alice = await world.create("alice")
    attachment = {"uri": "workspace:/a.txt", "name": "a.txt", "mimeType": "text/plain", "size": 3}
    async with world.platform.bus.subscribe() as stream:
        answer = await world.http.post(
            f"/workspaces/{alice.id}/notify", json={"message": "done", "attachments": [attachment]}, headers=alice.auth
        )
        frame = await frame_of(stream, "AGENT_MESSAGE")
    assert answer.json() == {"status": "sent"}
    assert frame.payload == {"message": "done", "workspace_id": alice.id, "name": "alice", "attachments": [attachment]}
    (row,) = await world.activity(alice, type="a2a_receive")
    assert (row["method"], row["source_id"]) == ("notify", None)
    assert "request_body" not in row
    assert row["response_body"] == {"result": "done", "parts": [{"kind": "file", "file": attachment}]}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "message is required"),
        ({"message": ""}, "message is required"),
        ({"message": 7}, "message is required"),
        (
            {"message": "x", "attachments": [{"uri": "u", "name": "n"}, {"uri": "u"}]},
            "attachment[1]: uri and name are required",
        ),
    ],
)
async def test_an_incomplete_notification_is_a_400(world: World, body: dict[str, Any], error: str) -> None:
    alice = await world.create()
    answer = await world.http.post(f"/workspaces/{alice.id}/notify", json=body, headers=alice.auth)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_report_is_stored_as_the_agents_own(world: World) -> None:
    alice = await world.create()
    report = {"activity_type": "agent_log", "summary": "s", "metadata": {"k": 1}, "duration_ms": 5}
    answer = await world.http.post(f"/workspaces/{alice.id}/activity", json=report, headers=alice.auth)
    assert answer.json() == {"status": "logged"}
    (row,) = await world.activity(alice)
    assert (row["source_id"], row["request_body"], row["duration_ms"]) == (alice.id, {"k": 1}, 5)
    unknown = await world.http.post(f"/workspaces/{alice.id}/activity", json={"activity_type": "x"}, headers=alice.auth)
    assert unknown.status_code == 400
    assert "agent_log" in unknown.json()["error"]
    forged = {"activity_type": "agent_log", "source_id": "somebody-else"}
    answer = await world.http.post(f"/workspaces/{alice.id}/activity", json=forged, headers=alice.auth)
    assert (answer.status_code, answer.json()["error"]) == (403, "source_id must match authenticated workspace")


async def test_acknowledging_only_moves_forward(world: World) -> None:
    alice = await world.create()
    url = f"/workspaces/{alice.id}/activity/ack"

    async def ack(value: object) -> Any:
        return (await world.http.post(url, json={"acked_seq": value}, headers=alice.auth)).json()

    assert await ack(5) == {"last_acked_seq": 5}
    assert await ack(3) == {"last_acked_seq": 5}
    for junk in (-1, "x", None, True, 1.5):
        assert "error" in await ack(junk)
