from __future__ import annotations

import dataclasses
import json
import os
import stat
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Tenant

from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.tools import Permissions
from molecule_runtime.tools.audit import AuditTrail, Event, load_audit_settings, log_event
from molecule_runtime.tools.audit.checkpoints import anchored
from molecule_runtime.tools.audit.cli import main
from molecule_runtime.tools.audit.trail import MAX_LATE
from molecule_runtime.tools.audit.verify import records

from .audit_support import checked
from .support import context, done, refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext
    from molecule_runtime.tools.audit import Record

pytestmark = pytest.mark.anyio

ME = Member("11111111-1111-4111-8111-111111111111", "token-of-mine-1234")
OTHER = Member("22222222-2222-4222-8222-222222222222", "token-of-other-5678")


def opened(folder: Path, *, rest_seconds: float = 60, **environ: str) -> AuditTrail:
    settings = load_audit_settings({"AUDIT_LEDGER_DB": str(folder / "ledger.db"), **environ}, folder=None)
    assert settings is not None
    return AuditTrail(settings, rest_seconds=rest_seconds)


def with_trail(ctx: ToolContext, trail: AuditTrail) -> ToolContext:
    return dataclasses.replace(ctx, audit=trail)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def of_calls(folder: Path) -> list[Record]:
    return [row for row in records(folder / "ledger.db") if row.operation == "tool_call"]


async def test_every_call_leaves_a_record_of_who_what_and_how_it_ended_and_not_of_what_was_said(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    trail = opened(tmp_path)
    ctx = with_trail(context(pools, (scripted.url, ME), permissions=Permissions(("read-only",))), trail)
    scripted.says((200, []))
    await done(ctx, "list_peers")
    await refused(ctx, "delegate_task", workspace_id=OTHER.id, task="the secret plan")
    await refused(ctx, "list_peers", nonsense="the secret plan")
    await refused(ctx, "the_secret_plan_tool")
    scripted.says((500, {"error": "down"}))
    await refused(ctx, "list_peers")
    trail.close()
    rows = of_calls(tmp_path)
    assert [(row.model_used, row.outcome, row.risk_flag) for row in rows] == [
        ("list_peers", "success", False),
        ("delegate_task", "permission_denied", True),
        ("list_peers", "invalid_arguments", False),
        ("the_secret_plan_tool", "unknown_tool", False),
        ("list_peers", "failure", False),
    ]
    assert {row.agent_id for row in rows} == {ME.id}
    assert len({row.session_id for row in rows}) == 1
    assert all(row.input_hash and row.output_hash and row.content is None for row in rows)
    assert b"secret plan" not in everything_in(tmp_path)
    assert checked(tmp_path / "ledger.db").valid


async def test_waiting_for_messages_fills_no_ledger_but_a_refused_wait_does(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    trail = opened(tmp_path)
    ctx = with_trail(context(pools, (scripted.url, ME)), trail)
    assert "inbox" in await refused(ctx, "inbox_peek")
    trail.close()
    assert len(of_calls(tmp_path)) == 1


async def test_content_is_kept_where_it_is_asked_for_and_redacted(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    trail = opened(tmp_path, AUDIT_LEDGER_CONTENT="1")
    ctx = with_trail(context(pools, (scripted.url, ME)), trail)
    scripted.says((200, {"status": "sent"}))
    secret = "ghp_" + "a1B2" * 9
    await done(ctx, "send_message_to_user", message=f"the key is {secret}")
    trail.close()
    (row,) = of_calls(tmp_path)
    kept = json.loads(row.content or "")
    assert json.loads(kept["arguments"]) == {"message": "the key is [REDACTED:github_pat]"}
    assert kept["answer"]
    assert secret.encode() not in everything_in(tmp_path)
    assert row.human_oversight_flag


async def test_a_call_that_is_cancelled_has_its_record(scripted: Http, pools: ConnectionPools, tmp_path: Path) -> None:
    trail = opened(tmp_path)
    ctx = with_trail(context(pools, (scripted.url, ME)), trail)
    scripted.answer = _never
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, ctx, "list_peers")
        with anyio.fail_after(WAIT_SECONDS):
            await scripted.arrived.wait()
        tasks.cancel_scope.cancel()
    trail.close()
    (row,) = of_calls(tmp_path)
    assert (row.outcome, row.output_hash) == ("cancelled", None)


async def test_calls_that_come_together_are_written_together_and_none_is_lost(tmp_path: Path) -> None:
    trail = opened(tmp_path)
    async with anyio.create_task_group() as tasks:
        for number in range(400):
            tasks.start_soon(trail.record, Event(agent_id="ws", operation="tool_call", model_used=str(number)))
    trail.close()
    rows = of_calls(tmp_path)
    assert sorted(int(row.model_used) for row in rows) == list(range(400))
    assert len({row.timestamp for row in rows}) < 50, "one lock and one sync for many"
    assert checked(tmp_path / "ledger.db").valid


async def test_a_ledger_that_cannot_be_written_fails_no_call_and_gets_its_records_later(
    scripted: Http, pools: ConnectionPools, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ledger.db").mkdir()
    trail = opened(tmp_path, rest_seconds=0)
    ctx = with_trail(context(pools, (scripted.url, ME)), trail)
    scripted.says((200, []))
    for _ in range(2):
        await done(ctx, "list_peers")
    assert caplog.text.count("cannot be written, its records wait") == 1
    (tmp_path / "ledger.db").rmdir()
    await done(ctx, "get_runtime_identity")
    trail.close()
    assert "2 audit records are late" in caplog.text
    assert [row.model_used for row in of_calls(tmp_path)] == ["list_peers", "list_peers", "get_runtime_identity"]


async def test_what_waits_for_a_ledger_is_bounded_and_goes_in_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ledger.db").mkdir()
    trail = opened(tmp_path)
    for number in range(MAX_LATE + 5):
        await trail.record(Event(agent_id="ws", operation="tool_call", model_used=str(number)))
    (tmp_path / "ledger.db").rmdir()
    trail.close()
    assert "5 are lost" in caplog.text
    assert [int(row.model_used) for row in of_calls(tmp_path)] == list(range(5, MAX_LATE + 5))


async def test_checkpoints_go_to_the_platform_of_the_only_tenant_and_prove_a_cut_from_there(
    acme: Tenant, pools: ConnectionPools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trail = opened(tmp_path, AUDIT_LEDGER_ANCHOR="1")
    me = await acme.create("me")
    ctx = with_trail(context(pools, (acme.url, me)), trail)
    async with anyio.create_task_group() as tasks:
        for _ in range(498):
            tasks.start_soon(trail.record, Event(agent_id=me.id, operation="tool_call"))
    # The ledger began with a record of its own, so this is the 500th, which brings the checkpoint.
    await done(ctx, "list_peers")
    kept = await anchored(ctx.clients[me.id])
    trail.close()
    assert [checkpoint.seq for checkpoint in kept] == [500]
    assert checked(tmp_path / "ledger.db", anchors=kept).valid
    environ = {"AUDIT_LEDGER_DB": str(tmp_path / "ledger.db"), "PLATFORM_URL": acme.url}
    environ |= {"WORKSPACE_ID": me.id, "MOLECULE_WORKSPACE_TOKEN": me.token}

    async def command(**changes: str) -> int:
        return await anyio.to_thread.run_sync(lambda: main(["verify", "--anchored"], environ={**environ, **changes}))

    assert await command() == 0
    for file in ("ledger.db", "ledger.checkpoints.jsonl"):
        (tmp_path / file).unlink()
    assert await command() == 1
    assert "the end was cut off" in capsys.readouterr().out
    assert await command(MOLECULE_WORKSPACE_TOKEN=me.token[::-1]) == 3
    assert await command(PLATFORM_URL="") == 2


async def test_no_tenant_gets_a_checkpoint_of_a_ledger_that_another_is_in(
    acme: Tenant, globex: Tenant, pools: ConnectionPools, tmp_path: Path
) -> None:
    trail = opened(tmp_path, AUDIT_LEDGER_ANCHOR="1")
    mine, theirs = await acme.create("mine"), await globex.create("theirs")
    ctx = with_trail(context(pools, (acme.url, mine), (globex.url, theirs)), trail)
    async with anyio.create_task_group() as tasks:
        for _ in range(498):
            tasks.start_soon(trail.record, Event(agent_id=mine.id, operation="tool_call"))
    await done(ctx, "list_peers", source_workspace_id=mine.id)
    await done(ctx, "list_peers", source_workspace_id=theirs.id)
    trail.close()
    # The 500th record brought one, the end of the process another.
    assert checked(tmp_path / "ledger.db").checkpoints == 2
    for tenant, workspace in ((acme, mine), (globex, theirs)):
        assert b"audit/checkpoint" not in tenant.sent
        assert not await anchored(ctx.clients[workspace.id])
    assert [row.agent_id for row in of_calls(tmp_path)][-2:] == [mine.id, theirs.id]


def test_the_ledger_is_where_the_environment_says(tmp_path: Path) -> None:
    settings = load_audit_settings({}, folder=tmp_path)
    assert settings is not None
    assert settings.ledger == tmp_path / "audit_ledger.db"
    assert settings.key_file == tmp_path / "audit_ledger.key"
    assert load_audit_settings({}, folder=None) is None
    assert load_audit_settings({"AUDIT_LEDGER_DB": "off"}, folder=tmp_path) is None
    elsewhere = {"AUDIT_LEDGER_DB": "sqlite:////srv/audit.db", "AUDIT_LEDGER_SALT": "s4lt"}
    relocated = load_audit_settings(elsewhere, folder=tmp_path)
    assert relocated is not None
    assert str(relocated.ledger) == "/srv/audit.db"
    assert "s4lt" not in repr(relocated)
    with pytest.raises(ConfigurationError, match="postgresql"):
        load_audit_settings({"AUDIT_LEDGER_DB": "postgresql://host/db"}, folder=tmp_path)


def test_event_lines_have_the_fields_of_the_predecessor_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log" / "audit.jsonl"
    monkeypatch.setenv("AUDIT_LOG_PATH", str(file))
    monkeypatch.setenv("WORKSPACE_ID", "ws-env")
    old = os.umask(0)
    try:
        made = log_event(
            "memory", "memory.write", "LOCAL", "success", note={"key": "Bearer abcdefgh12345678"}, actor_hint=1
        )
    finally:
        os.umask(old)
    given = log_event(
        "rbac",
        "delegate",
        "ws-2",
        "denied",
        actor="ws-9",
        trace_id="t-1",
        **{"timestamp": "never", "huge": "x" * 99_999},
    )
    assert given == "t-1"
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["event_type"], first["workspace_id"], first["actor"], first["trace_id"]) == (
        "memory",
        "ws-env",
        "ws-env",
        made,
    )
    assert first["note"] == {"key": "Bearer [REDACTED:bearer_token]"}
    assert (second["actor"], second["outcome"], second["cut"]) == ("ws-9", "denied", ["huge"])
    assert second["timestamp"] != "never", "an extra field never replaces one of ours"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_event_that_cannot_be_written_is_only_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("AUDIT_LOG_PATH", str(tmp_path / "folder"))
    assert log_event("x", "y", "z", "failure", trace_id="t") == "t"
    assert "was not written" in caplog.text


async def _never(request: Any) -> tuple[int, Any]:
    del request
    await anyio.sleep_forever()
    return 200, None
