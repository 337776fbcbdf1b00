"""Approvals: bound to exactly one action, used once, and over after a while."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id
from tests.support.tenants import WAIT_SECONDS, Http, Member, Received, Tenant

from molecule_runtime.tools import (
    ApprovalDeniedError,
    ApprovalGate,
    ApprovalTimeoutError,
    Journal,
    approvals,
    requires_approval,
)
from molecule_runtime.tools.approvals import fingerprint
from molecule_runtime.tools.audit import AuditSettings, AuditTrail
from molecule_runtime.tools.audit.verify import records
from molecule_runtime.tools.telemetry import Telemetry

from .support import context
from .test_requests import answered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def gate_of(
    pools: ConnectionPools,
    url: str,
    member: Member,
    journal: Journal | None = None,
    *,
    timeout: float = WAIT_SECONDS,
    roles: Sequence[str] = (),
    bypass_roles: Sequence[str] = (),
) -> ApprovalGate:
    client = context(pools, (url, member)).client_of(member.id)
    return ApprovalGate(client, journal or Journal(), timeout=timeout, roles=roles, bypass_roles=bypass_roles)


async def waiting(acme: Tenant, count: int = 1) -> list[dict[str, Any]]:
    """What the person is asked, once there is so much."""
    with anyio.fail_after(WAIT_SECONDS):
        while True:
            listed = (await acme.http.get("/requests/pending", headers=acme.admin)).json()
            if len(listed) >= count:
                return list(listed)
            await anyio.sleep(0.02)


async def decide(acme: Tenant, *actions: str) -> None:
    for action in actions:
        (row,) = await waiting(acme)
        await answered(acme, row["id"], "respond", {"action": action})


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_two_calls_have_one_fingerprint_only_if_they_are_the_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert fingerprint("act", dict(reversed(one.items()))) == fingerprint("act", one)
    assert fingerprint("act", one) != fingerprint("Act", one)
    if repr(sorted(one.items(), key=repr)) != repr(sorted(two.items(), key=repr)) and one != two:
        assert fingerprint("act", one) != fingerprint("act", two)


def test_what_json_would_not_tell_apart_has_another_fingerprint() -> None:
    @dataclass
    class Thing:
        name: str

    values: list[Any] = [
        1,
        1.0,
        True,
        "1",
        "True",
        None,
        "None",
        b"1",
        Path("1"),
        {1: 2},
        {"1": 2},
        [1],
        Thing("1"),
        {"name": "1"},
    ]
    assert len({fingerprint("act", {"x": value}) for value in values}) == len(values)
    with pytest.raises(TypeError, match=r"argument x\.inner\[1\] is a object"):
        fingerprint("act", {"x": {"inner": [1, object()]}})


async def test_a_decorated_function_runs_when_a_person_approved_exactly_that(
    acme: Tenant, pools: ConnectionPools
) -> None:
    _, ours = await acme.family()
    gate = gate_of(pools, acme.url, ours)
    ran: list[tuple[str, int]] = []

    @requires_approval(lambda: gate, "Deploy {service}", reason="release {version}")
    async def deploy(service: str, version: int, *, access: str = "") -> str:
        """Deploy."""
        ran.append((service, version))
        return f"deployed {service}"

    assert deploy.__doc__ == "Deploy."
    results: list[str] = []

    async def call() -> None:
        key = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789"  # secret-scan: allow, made up
        results.append(await deploy("shop", 7, access=key))

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            (row,) = await waiting(acme)
            assert row["title"] == "Deploy shop"
            assert row["detail"].startswith("release 7\n\nArguments:")
            assert "sk-ant" not in row["detail"]
            assert "It holds once" in row["detail"]
            assert ran == []
            await answered(acme, row["id"], "respond", {"action": "approved"})
    assert (results, ran) == (["deployed shop"], [("shop", 7)])
    # The same call again is asked for again.
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(decide, acme, "rejected")
            with pytest.raises(ApprovalDeniedError, match=r"'Deploy shop' was denied by user .*it was not done"):
                await deploy("shop", 7)
    assert ran == [("shop", 7)]


async def test_a_request_that_nobody_decides_lapses_and_is_taken_back(acme: Tenant, pools: ConnectionPools) -> None:
    _, ours = await acme.family()
    gate = gate_of(pools, acme.url, ours, timeout=0.2)
    with anyio.fail_after(WAIT_SECONDS):
        with pytest.raises(ApprovalTimeoutError, match="nobody decided") as raised:
            await gate.require("Delete it")
    assert not isinstance(raised.value, ApprovalDeniedError)
    assert isinstance(raised.value, TimeoutError)
    url = f"/requests/{raised.value.request_id}"
    assert (await acme.http.get(url, headers=acme.admin)).json()["request"]["status"] == "cancelled"


async def test_a_process_that_was_killed_while_it_waited_goes_on_with_the_same_request(
    acme: Tenant, pools: ConnectionPools, tmp_path: Path
) -> None:
    _, ours = await acme.family()
    before, after = Journal(tmp_path), Journal(tmp_path)
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(gate_of(pools, acme.url, ours, before).require, "Pay 10")
            await waiting(acme)
            group.cancel_scope.cancel()
    before.close()
    # Decided while no process was there to see it.
    await decide(acme, "approved")
    with anyio.fail_after(WAIT_SECONDS):
        await gate_of(pools, acme.url, ours, after).require("Pay 10")
    assert (await acme.http.get("/requests/pending?status=all", headers=acme.admin)).json()[1:] == []
    after.close()
    # One that was killed before it could write is found on the platform.
    lost = await gate_of(pools, acme.url, ours).ask("Pay 20", arguments={"to": "bob"})
    found = await gate_of(pools, acme.url, ours, after).ask("Pay 20", arguments={"to": "bob"})
    other = await gate_of(pools, acme.url, ours, after).ask("Pay 20", arguments={"to": "eve"})
    assert found.request_id == lost.request_id != other.request_id
    after.close()


async def test_one_approval_lets_one_of_many_through(acme: Tenant, pools: ConnectionPools, tmp_path: Path) -> None:
    _, ours = await acme.family()
    journals = [Journal(tmp_path) for _ in range(3)]
    gates = [gate_of(pools, acme.url, ours, journal, timeout=1.5) for journal in journals]
    first = await gates[0].ask("Once")
    passed: list[int] = []

    async def go(number: int) -> None:
        try:
            await gates[number].require("Once")
        except ApprovalTimeoutError:
            return
        passed.append(number)

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            await answered(acme, first.request_id, "respond", {"action": "approved"})
            for number in range(3):
                group.start_soon(go, number)
    assert len(passed) == 1
    for journal in journals:
        journal.close()


async def test_an_approval_that_was_given_long_ago_allows_nothing(
    acme: Tenant, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = await acme.family()
    gate = gate_of(pools, acme.url, ours)
    asked = await gate.ask("Later")
    await answered(acme, asked.request_id, "respond", {"action": "approved"})
    monkeypatch.setattr(approvals, "GRANT_SECONDS", -3600.0)
    again = await gate.ask("Later")
    assert again.request_id != asked.request_id


async def test_a_role_of_bypass_roles_is_not_asked_and_an_agent_is_no_person(
    scripted: Http, pools: ConnectionPools
) -> None:
    trusted = gate_of(pools, scripted.url, ALICE, roles=("operator",), bypass_roles=("operator",))
    await trusted.require("Anything")
    assert scripted.received == []
    row = {"id": "r-1", "kind": "approval", "status": "approved", "responder_type": "agent", "responder_id": "mallory"}

    async def answer(request: Received) -> tuple[int, Any] | None:
        if request.method == "POST":
            return 201, {"request_id": "r-1", "status": "pending"}
        return 200, [] if "status=" in request.path else {"request": row}

    scripted.answer = answer
    with pytest.raises(ApprovalDeniedError, match="answered by agent mallory, and not by a person"):
        await gate_of(pools, scripted.url, ALICE, roles=("operator",), bypass_roles=("admin",)).require("Anything")


async def test_an_older_platform_is_asked_through_its_approvals_and_lets_them_lapse(
    scripted: Http, pools: ConnectionPools
) -> None:
    rows: list[dict[str, Any]] = []

    async def answer(request: Received) -> tuple[int, Any] | None:
        if not request.path.startswith("/workspaces/alice/approvals"):
            return 404, {"error": "404 page not found"}
        if request.method == "GET":
            return 200, rows
        rows.insert(0, {"id": f"p-{len(rows)}", "action": request.body["action"], **ends.pop(0)})
        return 201, {"approval_id": rows[0]["id"], "status": "pending"}

    ends = [
        {"status": "approved", "decided_by": "human"},
        {"status": "denied", "decided_by": "human"},
        {"status": "denied", "decided_by": "auto-expired"},
    ]
    scripted.answer = answer
    gate = gate_of(pools, scripted.url, ALICE)
    await gate.require("One")
    with pytest.raises(ApprovalDeniedError):
        await gate.require("One")
    with pytest.raises(ApprovalTimeoutError):
        await gate.require("One")


async def test_what_an_adapters_code_asks_for_is_in_the_ledger_and_in_the_trace(
    acme: Tenant, pools: ConnectionPools, tmp_path: Path
) -> None:
    _, ours = await acme.family()
    client = context(pools, (acme.url, ours)).client_of(ours.id)
    trail = AuditTrail(AuditSettings(ledger=tmp_path / "ledger.db", key_file=tmp_path / "ledger.key", content=True))
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen: dict[str, Any] = {"telemetry": Telemetry(tracer_provider=provider), "audit": trail}
    gate = ApprovalGate(client, Journal(), timeout=WAIT_SECONDS, **seen)
    impatient = ApprovalGate(client, Journal(), timeout=0, **seen)
    bypassed = ApprovalGate(client, Journal(), roles=("boss",), bypass_roles=("boss",), **seen)
    with anyio.fail_after(2 * WAIT_SECONDS):
        for action, answer in (("Deploy", "approved"), ("Delete", "rejected")):
            async with anyio.create_task_group() as group:
                group.start_soon(decide, acme, answer)
                if answer == "approved":
                    await gate.require(action, arguments={"service": "shop"})
                else:
                    with pytest.raises(ApprovalDeniedError):
                        await gate.require(action)
        with pytest.raises(ApprovalTimeoutError):
            await impatient.require("Wait")
        await bypassed.require("Do it", arguments={"what": object()})
    trail.close()
    rows = [row for row in records(tmp_path / "ledger.db") if row.operation == "tool_call"]
    assert [row.outcome for row in rows] == ["success", "ApprovalDeniedError", "ApprovalTimeoutError", "success"]
    assert {(row.model_used, row.agent_id, row.human_oversight_flag) for row in rows} == {
        ("requires_approval", ours.id, True)
    }
    assert '"Deploy"' in str(rows[0].content).replace("\\", "")
    spans = exporter.get_finished_spans()
    assert {span.name for span in spans} == {"execute_tool requires_approval"}
    outcomes = [(span.attributes or {}).get("molecule.approval.outcome") for span in spans]
    assert outcomes == ["approved", "rejected", "expired", "bypassed"]
    assert spans[0].context is not None
    assert rows[0].trace_id == format_trace_id(spans[0].context.trace_id)


async def test_a_function_that_cannot_be_guarded_is_refused_at_once(scripted: Http, pools: ConnectionPools) -> None:
    gate = gate_of(pools, scripted.url, ALICE)
    with pytest.raises(TypeError, match="must be an async function"):
        requires_approval(gate, "act")(lambda: None)  # type: ignore[arg-type, return-value] # what a careless author writes

    @requires_approval(gate, "act on {thing}")
    async def act(thing: object) -> None:
        raise AssertionError(thing)

    with pytest.raises(TypeError, match="argument thing is a object"):
        await act(object())
    assert scripted.received == []
