"""Activity: reports, the inbox, and what agents say to the person (contract 7, 24.4)."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from .site import Member, envelope, refusal

if TYPE_CHECKING:
    import httpx

    from .site import Agent, Site

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-0000-0000-000000000000"
REPORTABLE = ("a2a_send", "a2a_receive", "task_update", "agent_log", "skill_promotion", "memory_write", "error")


async def report(site: Site, member: Member, *summaries: str, **fields: Any) -> None:
    for summary in summaries:
        body = {"activity_type": "agent_log", "summary": summary, **fields}
        assert await site.post(member, "activity", body) == {"status": "logged"}


async def listed(site: Site, member: Member, **query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await site.get(member, "activity", **query)
    return rows


async def summaries(site: Site, member: Member, **query: Any) -> list[str]:
    return [row["summary"] for row in await listed(site, member, **query)]


async def refused(site: Site, member: Member, **query: Any) -> httpx.Response:
    return await site.http.get(f"/workspaces/{member.id}/activity", params=query, headers=member.auth)


def when(row: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(row["created_at"].replace("Z", "+00:00"))


@pytest.mark.contract("7.1", "7.2", era="april")
async def test_a_report_is_stored_and_listed(site: Site) -> None:
    _, member, peer = await site.family()
    body = {
        "activity_type": "task_update", "method": "step", "summary": "halfway", "target_id": peer.id, "status": "timeout",
        "error_detail": "slow", "duration_ms": 12, "request_body": {"a": [1, None]}, "response_body": "text",
    }  # fmt: skip
    assert await site.post(member, "activity", body) == {"status": "logged"}
    (row,) = await listed(site, member)
    assert {key: row[key] for key in body} == body
    assert (row["workspace_id"], row["source_id"]) == (member.id, member.id)
    assert str(uuid.UUID(row["id"])) == row["id"]
    assert when(row).tzinfo is not None


@pytest.mark.contract("7.1", "7.2", era="april")
async def test_what_a_report_leaves_out_is_null_or_absent(site: Site) -> None:
    member = await site.create()
    await site.post(member, "activity", {"activity_type": "agent_log"})
    (row,) = await listed(site, member)
    assert row["status"] == "ok"
    assert [row[key] for key in ("target_id", "duration_ms", "error_detail")] == [None] * 3
    assert not row.keys() & {"request_body", "response_body", "tool_trace"}


@pytest.mark.contract("7.2", era="april")
async def test_the_metadata_of_a_report_stands_for_its_request(site: Site) -> None:
    member = await site.create()
    await report(site, member, "alone", metadata={"m": 1})
    await report(site, member, "both", metadata={"m": 1}, request_body={"r": 1})
    both, alone = await listed(site, member)
    assert alone["request_body"] == {"m": 1}
    assert both["request_body"] == {"r": 1}


@pytest.mark.contract("7.2", era="april")
async def test_agents_report_what_is_theirs_to_report(site: Site) -> None:
    member = await site.create()
    for kind in REPORTABLE:
        await site.post(member, "activity", {"activity_type": kind})
    for kind in ("delegation", "cron_run", "memory_write_global", "broadcast_receive", "Agent_Log", "nonsense"):
        answer = await site.http.post(
            f"/workspaces/{member.id}/activity", json={"activity_type": kind}, headers=member.auth
        )
        error = refusal(answer, 400)["error"]
        assert all(name in error for name in REPORTABLE)
    assert [row["activity_type"] for row in await listed(site, member)] == list(reversed(REPORTABLE))


@pytest.mark.contract("7.2", "1.2", era="april")
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"summary": "x"}', b'{"activity_type": 7}'])
async def test_a_report_without_a_type_is_refused(site: Site, body: bytes) -> None:
    member = await site.create()
    refusal(await site.http.post(f"/workspaces/{member.id}/activity", content=body, headers=member.auth), 400)
    assert await listed(site, member) == []


@pytest.mark.contract("7.2", "23.13", era="april")
async def test_a_report_about_something_that_is_no_workspace_is_taken(site: Site) -> None:
    # Whether the row is kept is the server's own affair; the agent never hears of a failure.
    member = await site.create()
    await report(site, member, "odd", target_id="The Helper")
    await report(site, member, "even")
    assert (await summaries(site, member))[0] == "even"


@pytest.mark.contract("7.1", "7.2", era="april")
async def test_long_reports_are_kept_whole(site: Site) -> None:
    member = await site.create()
    body = {
        "activity_type": "error",
        "summary": "s" * 5000,
        "error_detail": "ü" * 20_000,
        "request_body": {"x": "y" * 50_000},
    }
    await site.post(member, "activity", body)
    (row,) = await listed(site, member)
    assert {key: row[key] for key in body} == body


@pytest.mark.contract("7.2", "23.14", era="april")
async def test_nobody_reports_in_anothers_name(site: Site) -> None:
    _, member, peer = await site.family()
    body = {"activity_type": "agent_log", "source_id": peer.id}
    answer = await site.http.post(f"/workspaces/{member.id}/activity", json=body, headers=member.auth)
    refusal(answer, 403, "source_id must match authenticated workspace")
    for own in (member.id, ""):
        await site.post(member, "activity", {**body, "source_id": own})
    assert {row["source_id"] for row in await listed(site, member)} == {member.id}


@pytest.mark.contract("7.1", era="april")
async def test_the_newest_row_comes_first_and_the_limit_holds(site: Site) -> None:
    member = await site.create()
    await report(site, member, "one", "two", "three")
    assert await summaries(site, member) == ["three", "two", "one"]
    assert await summaries(site, member, limit=2) == ["three", "two"]
    for junk in ("0", "-1", "many", ""):
        assert len(await summaries(site, member, limit=junk)) == 3
    assert len(await summaries(site, member, limit=100_000)) == 3


@pytest.mark.contract("7.1", "21", era="april")
async def test_a_hundred_rows_are_listed_where_nobody_says_how_many_and_five_hundred_at_most(site: Site) -> None:
    member = await site.create()
    batches = 17
    async with anyio.create_task_group() as group:
        for number in range(batches):
            group.start_soon(report, site, member, *(f"{number}" for _ in range(30)))
    assert len(await listed(site, member)) == 100
    assert len(await listed(site, member, limit=101)) == 101
    for limit in (500, 501, 30 * batches):
        assert len(await listed(site, member, limit=limit)) == 500


@pytest.mark.contract("7.1", era="april")
async def test_rows_are_filtered_by_type(site: Site) -> None:
    member = await site.create()
    await report(site, member, "log")
    await report(site, member, "fault", activity_type="error")
    assert await summaries(site, member, type="error") == ["fault"]
    assert await summaries(site, member, type="no_such_type") == []


@pytest.mark.contract("7.1", era="april")
async def test_rows_are_filtered_by_who_caused_them(site: Site, agent: Agent) -> None:
    _, member, peer = await site.family()
    await site.register(member, agent)
    await site.send(None, member, "from the person")
    await site.send(peer, member, "from a peer")
    await site.inbox(member, 2)
    assert [row["source_id"] for row in await listed(site, member, source="canvas")] == [None]
    assert [row["source_id"] for row in await listed(site, member, source="agent")] == [peer.id]
    refusal(await refused(site, member, source="elsewhere"), 400)


@pytest.mark.contract("24.4", era="june")
async def test_rows_after_a_cursor_come_in_ascending_order(site: Site) -> None:
    member = await site.create()
    await report(site, member, "one", "two", "three", "four")
    rows = {row["summary"]: row["id"] for row in await listed(site, member)}
    assert await summaries(site, member, since_id=rows["two"]) == ["three", "four"]
    assert await summaries(site, member, since_id=rows["one"], limit=2) == ["two", "three"]
    assert await summaries(site, member, since_id=rows["four"]) == []
    await report(site, member, "five")
    assert await summaries(site, member, since_id=rows["four"]) == ["five"]
    assert await summaries(site, member, since_id=rows["one"], type="error") == []


@pytest.mark.contract("24.4", era="june")
async def test_a_cursor_goes_with_the_other_filters(site: Site, agent: Agent) -> None:
    parent, member, peer = await site.family()
    await site.register(member, agent)
    await report(site, member, "begin")
    (begin,) = await listed(site, member)
    for who in (None, peer, parent, peer):
        await site.send(who, member)
    await site.inbox(member, 4)
    await report(site, member, "end")
    query = {"since_id": begin["id"], "type": "a2a_receive"}
    sources = [row["source_id"] for row in await listed(site, member, **query)]
    assert sources == [None, peer.id, parent.id, peer.id]
    assert len(await listed(site, member, **query, peer_id=peer.id)) == 2
    assert len(await listed(site, member, **query, source="canvas")) == 1
    assert len(await listed(site, member, **query, source="agent", limit=2)) == 2
    rows = await listed(site, member, since_id=begin["id"], since_secs=3600)
    assert [row["activity_type"] for row in rows] == ["a2a_receive"] * 4 + ["agent_log"]


@pytest.mark.contract("24.4", era="june")
async def test_the_sequence_numbers_of_rows_only_grow(site: Site) -> None:
    member = await site.create()
    await report(site, member, "one", "two", "three")
    numbers = [row["seq"] for row in reversed(await listed(site, member))]
    assert numbers == sorted(set(numbers))


@pytest.mark.contract("24.4", "25", era="june")
async def test_a_cursor_that_is_not_there_is_gone(site: Site) -> None:
    member, other = await site.create(), await site.create()
    await report(site, member, "own")
    await report(site, other, "foreign")
    (foreign,) = await listed(site, other)
    for cursor in (NOBODY, str(uuid.uuid4()), foreign["id"]):
        refusal(await refused(site, member, since_id=cursor, type="a2a_receive", limit=1), 410)


@pytest.mark.contract("24.4", era="june")
async def test_rows_of_the_last_seconds_are_listed(site: Site) -> None:
    member = await site.create()
    await report(site, member, "just now")
    for seconds in (60, 30 * 86_400, 10**9, 10**30):
        assert await summaries(site, member, since_secs=seconds) == ["just now"]
    for junk in ("0", "-5", "soon", "1.5", "\u0661"):
        refusal(await refused(site, member, since_secs=junk), 400)


@pytest.mark.contract("24.4", era="june")
async def test_one_pages_back_from_a_moment(site: Site) -> None:
    member = await site.create()
    await report(site, member, "one", "two")
    two, one = await listed(site, member)
    assert await summaries(site, member, before_ts=two["created_at"]) == ["one"]
    assert await summaries(site, member, before_ts=one["created_at"]) == []
    assert await summaries(site, member, before_ts="2999-01-01T00:00:00Z", limit=1) == ["two"]
    assert await summaries(site, member, before_ts="2999-01-01T00:00:00.5+02:00") == ["two", "one"]
    for junk in ("yesterday", "2026-06-30", "17", "2026-13-01T00:00:00Z", "2026-06-30T12:00:00"):
        refusal(await refused(site, member, before_ts=junk), 400)


@pytest.mark.contract("24.4", era="june")
async def test_rows_from_or_to_one_peer_are_listed(site: Site, agent: Agent) -> None:
    parent, member, peer = await site.family()
    await site.register(member, agent)
    await site.send(peer, member, "from the peer")
    await site.send(parent, member, "from the parent")
    await site.inbox(member, 2)
    await report(site, member, "to the peer", target_id=peer.id)
    rows = await listed(site, member, peer_id=peer.id)
    assert [(row["source_id"], row["target_id"]) for row in rows] == [(member.id, peer.id), (peer.id, member.id)]
    assert await listed(site, member, peer_id=str(uuid.uuid4())) == []
    refusal(await refused(site, member, peer_id="Not An Id"), 400)


@pytest.mark.contract("24.4", era="june")
async def test_rows_name_the_peer_and_its_files_when_asked(site: Site) -> None:
    parent = await site.create("parent")
    member = await site.create("member", parent_id=parent.id)
    peer = await site.create("peer", parent_id=parent.id, role="draws")
    await site.register(member)
    sent = envelope("look", str(uuid.uuid4()))
    file = {"uri": "workspace:/workspace/a.png", "name": "a.png", "mimeType": "image/png"}
    sent["params"]["message"]["parts"].append({"kind": "file", "file": file})
    await site.post_message(peer, member, sent)
    (row,) = await listed(site, member, include="peer_info")
    assert (row["peer_name"], row["peer_role"]) == (peer.name, "draws")
    assert row["agent_card_url"]
    assert row["attachments"] == [
        {"kind": "file", "uri": file["uri"], "mime_type": "image/png", "name": "a.png"}
    ]  # fmt: skip
    (row,) = await listed(site, member)
    assert not row.keys() & {"peer_name", "peer_role", "agent_card_url", "attachments"}


@pytest.mark.contract("24.4", era="june")
async def test_an_acknowledgement_only_moves_forward(site: Site) -> None:
    member = await site.create()
    await report(site, member, "one", "two")
    two, one = await listed(site, member)
    for acked, stands in (
        (one["seq"], one["seq"]),
        (two["seq"], two["seq"]),
        (one["seq"], two["seq"]),
        (0, two["seq"]),
    ):
        assert await site.post(member, "activity/ack", {"acked_seq": acked}) == {"last_acked_seq": stands}
    for junk in (-1, "one", 1.5, None, True):
        answer = await site.http.post(
            f"/workspaces/{member.id}/activity/ack", json={"acked_seq": junk}, headers=member.auth
        )
        refusal(answer, 400)


@pytest.mark.contract("7.3", "28.1", era="april")
async def test_what_an_agent_says_to_the_person_is_a_notify_row(site: Site) -> None:
    member = await site.create()
    files = [{"uri": "workspace:/workspace/a.txt", "name": "a.txt", "mimeType": "text/plain", "size": 3},
             {"uri": "https://example.com/b", "name": "b"}]  # fmt: skip
    assert await site.post(member, "notify", {"message": "it is done", "attachments": files}) == {"status": "sent"}
    assert await site.post(member, "notify", {"message": "really"}) == {"status": "sent"}
    plain, attached = await listed(site, member, type="a2a_receive", source="canvas")
    assert (attached["method"], attached["source_id"]) == ("notify", None)
    assert "request_body" not in attached
    assert attached["response_body"]["result"] == "it is done"
    assert attached["response_body"]["parts"] == [{"kind": "file", "file": file} for file in files]
    assert plain["response_body"] == {"result": "really"}


@pytest.mark.contract("7.3", era="april")
@pytest.mark.parametrize(
    ("body", "error"),
    [({}, "message is required"), ({"message": ""}, "message is required"), ({"attachments": []}, "message is required"),
     ({"message": "x", "attachments": [{"uri": "u", "name": "n"}, {"uri": "u"}]}, "attachment[1]: uri and name are required"),
     ({"message": "x", "attachments": [{"uri": "", "name": "n"}]}, "attachment[0]: uri and name are required")],
)  # fmt: skip
async def test_a_message_to_the_person_needs_its_parts(site: Site, body: dict[str, Any], error: str) -> None:
    member = await site.create()
    answer = await site.http.post(f"/workspaces/{member.id}/notify", json=body, headers=member.auth)
    refusal(answer, 400, error)
    assert await listed(site, member) == []


@pytest.mark.contract("7.3", era="april")
async def test_a_workspace_that_is_not_there_says_nothing(site: Site) -> None:
    gone = await site.create()
    await site.http.delete(f"/workspaces/{gone.id}", headers=site.admin)
    for workspace_id in (gone.id, str(uuid.uuid4())):
        answer = await site.http.post(f"/workspaces/{workspace_id}/notify", json={"message": "x"}, headers=site.admin)
        refusal(answer, 404, "workspace not found")


@pytest.mark.contract("24.3", "24.4", "26.3", era="june")
async def test_a_polling_agent_reads_its_inbox_with_a_cursor_and_answers(site: Site) -> None:
    _, member, peer = await site.family()
    await site.register(member)
    await site.register(peer)
    await site.send(peer, member, "question", message_id=str(uuid.uuid4()))
    (question,) = await listed(site, member, type="a2a_receive", since_secs=30)
    await site.send(None, member, "from the person", message_id=str(uuid.uuid4()))
    await site.post(member, "notify", {"message": "answer to the person"})
    await site.send(member, Member(question["source_id"], "", ""), "answer to the peer", message_id=str(uuid.uuid4()))
    new = await listed(site, member, type="a2a_receive", since_id=question["id"])
    assert [(row["method"], row["source_id"]) for row in new] == [("message/send", None), ("notify", None)]
    (answer,) = await listed(site, peer, type="a2a_receive")
    assert answer["source_id"] == member.id
