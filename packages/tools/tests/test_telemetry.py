from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id
from tests.support.tenants import WAIT_SECONDS, Http, Member, Tenant

from molecule_runtime.core import trace_context
from molecule_runtime.tools import Permissions
from molecule_runtime.tools.telemetry import Telemetry
from molecule_runtime.tools.telemetry_sdk import configure

from .support import context, done, refused, run, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext

pytestmark = pytest.mark.anyio

ME = Member("11111111-1111-4111-8111-111111111111", "token-of-mine-1234")
PEER = "22222222-2222-4222-8222-222222222222"


class Watched:
    """A context whose calls are traced into memory."""

    def __init__(self, ctx: ToolContext, *, capture_content: bool = False) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        meters = MeterProvider(metric_readers=[self._reader])
        telemetry = Telemetry(tracer_provider=self.provider, meter_provider=meters, capture_content=capture_content)
        self.ctx = dataclasses.replace(ctx, telemetry=telemetry)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def everything(self) -> str:
        return "".join(span.to_json() for span in self._exporter.get_finished_spans())

    def durations(self) -> dict[str, list[Mapping[str, Any]]]:
        """The attributes of every point of every histogram."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        data = self._reader.get_metrics_data()
        assert data is not None
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            assert metric.unit == "s"
            for point in metric.data.data_points:
                assert isinstance(point, HistogramDataPoint)
                found.setdefault(metric.name, []).append(dict(point.attributes or {}))
        return found


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_trace_id(span.context.trace_id)


async def test_a_call_is_a_span_and_a_duration_by_the_conventions(scripted: Http, pools: ConnectionPools) -> None:
    watched = Watched(context(pools, (scripted.url, ME)))
    scripted.says((200, []))
    await done(watched.ctx, "list_peers")
    (span,) = watched.spans().values()
    assert (span.name, span.kind, span.status.status_code) == (
        "execute_tool list_peers",
        SpanKind.INTERNAL,
        StatusCode.UNSET,
    )
    assert attributes(span) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "list_peers",
        "gen_ai.tool.type": "function",
        "workspace.id": ME.id,
    }
    described = {"gen_ai.tool.name": "list_peers", "gen_ai.tool.type": "function"}
    assert watched.durations() == {"gen_ai.execute_tool.duration": [described]}
    assert scripted.received[0].headers["traceparent"].split("-")[1] == trace_id(span)


async def test_why_a_call_failed_is_one_word_and_no_text_of_it_is_in_a_span(
    scripted: Http, pools: ConnectionPools
) -> None:
    watched = Watched(context(pools, (scripted.url, ME), permissions=Permissions(("read-only",))))
    await refused(watched.ctx, "delegate_task", workspace_id=PEER, task="the secret plan")
    await refused(watched.ctx, "get_workspace_info", plan="the secret plan")
    await refused(watched.ctx, "the secret plan")
    errors = {name: attributes(span)["error.type"] for name, span in watched.spans().items()}
    assert errors == {
        "execute_tool delegate_task": "permission_denied",
        "invoke_agent": "permission_denied",
        "execute_tool get_workspace_info": "invalid_arguments",
        "execute_tool _OTHER": "unknown_tool",
    }
    assert {(span.status.status_code, span.status.description) for span in watched.spans().values()} == {
        (StatusCode.ERROR, None)
    }
    assert "secret plan" not in watched.everything()
    assert {point["error.type"] for point in watched.durations()["gen_ai.execute_tool.duration"]} == set(
        errors.values()
    )


async def test_a_cancelled_call_ends_its_span(scripted: Http, pools: ConnectionPools) -> None:
    watched = Watched(context(pools, (scripted.url, ME)))
    scripted.answer = _never
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, watched.ctx, "list_peers")
        with anyio.fail_after(WAIT_SECONDS):
            await scripted.arrived.wait()
        tasks.cancel_scope.cancel()
    assert attributes(watched.spans()["execute_tool list_peers"])["error.type"] == "cancelled"


async def test_a_delegation_is_a_client_span_and_its_trace_goes_on_in_the_peer(
    acme: Tenant, agent: Http, pools: ConnectionPools
) -> None:
    me, peer = await acme.family()
    await acme.register(peer, agent)
    agent.says((200, said("the answer")))
    watched = Watched(context(pools, (acme.url, me)))
    await done(watched.ctx, "delegate_task", workspace_id=peer.id, task="the secret plan")
    outer = watched.spans()["execute_tool delegate_task"]
    (inner,) = (span for span in watched.spans().values() if span is not outer)
    assert inner.name.startswith("invoke_agent ")
    assert inner.kind is SpanKind.CLIENT
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    found = attributes(inner)
    assert found["gen_ai.operation.name"] == "invoke_agent"
    assert (found["a2a.source_workspace_id"], found["a2a.target_workspace_id"]) == (me.id, peer.id)
    assert (found["a2a.method.name"], found["server.address"]) == ("SendMessage", "127.0.0.1")
    message = agent.received[-1].body["params"]["message"]
    assert inner.context is not None
    assert message["metadata"]["traceparent"].startswith(f"00-{trace_id(inner)}-{inner.context.span_id:016x}-")
    assert f"traceparent: {message['metadata']['traceparent']}".encode() in bytes(acme.sent)
    arrived = len(agent.received)
    await done(watched.ctx, "delegate_task_async", workspace_id=peer.id, task="the secret plan, later")
    with anyio.fail_after(WAIT_SECONDS):
        while len(agent.received) == arrived:
            agent.arrived.clear()
            await agent.arrived.wait()
    later = agent.received[-1].body["params"]["message"]["metadata"]["traceparent"]
    assert later.split("-")[1] == trace_id(watched.spans()["execute_tool delegate_task_async"])
    assert "secret plan" not in watched.everything()
    assert "the answer" not in watched.everything()
    assert {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "molecule"} in watched.durations()[
        "gen_ai.client.operation.duration"
    ]


async def test_what_came_with_a_trace_goes_on_in_it(scripted: Http, pools: ConnectionPools) -> None:
    watched = Watched(context(pools, (scripted.url, ME)))
    scripted.says((200, []))
    came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with trace_context.continuing(came):
        await done(watched.ctx, "list_peers")
    (span,) = watched.spans().values()
    assert trace_id(span) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert span.parent is not None
    assert (span.parent.span_id, span.parent.is_remote) == (0x00F067AA0BA902B7, True)
    # A span of the agent's own framework lies between, in the same trace.
    with trace_context.continuing(came), watched.provider.get_tracer("agent").start_as_current_span("tools/call"):
        await done(watched.ctx, "get_runtime_identity")
    spans = watched.spans()
    parent = spans["execute_tool get_runtime_identity"].parent
    assert parent is not None
    assert parent == spans["tools/call"].context
    assert trace_id(spans["tools/call"]) == "4bf92f3577b34da6a3ce929d0e0e4736"
    with trace_context.continuing(""):
        await done(watched.ctx, "get_runtime_identity")
    assert watched.spans()["execute_tool get_runtime_identity"].parent is None


async def test_no_tenant_sees_the_trace_of_another(acme: Tenant, globex: Tenant, pools: ConnectionPools) -> None:
    mine, theirs = await acme.create("mine"), await globex.create("theirs")
    watched = Watched(context(pools, (acme.url, mine), (globex.url, theirs)))
    with watched.provider.get_tracer("caller").start_as_current_span("turn"):
        await done(watched.ctx, "list_peers", source_workspace_id=mine.id)
        first = watched.spans()["execute_tool list_peers"]
        await done(watched.ctx, "list_peers", source_workspace_id=theirs.id)
    second = watched.spans()["execute_tool list_peers"]
    turn = watched.spans()["turn"]
    ids = [trace_id(span).encode() for span in (turn, first, second)]
    assert len(set(ids)) == 3
    assert [ids[index] in bytes(acme.sent) for index in range(3)] == [False, True, False]
    assert [ids[index] in bytes(globex.sent) for index in range(3)] == [False, False, True]
    assert [link.context for link in (*first.links, *second.links)] == [turn.context, turn.context]


async def test_a_request_to_another_origin_carries_no_trace(scripted: Http, pools: ConnectionPools) -> None:
    client = context(pools, (scripted.url, ME)).clients[ME.id]
    scripted.says((200, []))
    with trace_context.sending(
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", origin="https://acme.example"
    ):
        await client.peers()
    assert "traceparent" not in scripted.received[0].headers


async def test_content_is_in_a_span_only_where_it_is_asked_for_and_redacted(
    scripted: Http, pools: ConnectionPools
) -> None:
    watched = Watched(context(pools, (scripted.url, ME)), capture_content=True)
    scripted.says((200, {"status": "sent"}))
    said = "hello, Bearer abcdefgh12345678"  # secret-scan: allow, made up
    await done(watched.ctx, "send_message_to_user", message=said)
    found = attributes(watched.spans()["execute_tool send_message_to_user"])
    assert json.loads(found["gen_ai.tool.call.arguments"]) == {"message": "hello, Bearer [REDACTED:bearer_token]"}
    assert json.loads(found["gen_ai.tool.call.result"])


async def test_memory_has_the_spans_of_memory_and_not_what_is_remembered(acme: Tenant, pools: ConnectionPools) -> None:
    me = await acme.create("me")
    watched = Watched(context(pools, (acme.url, me)))
    await done(watched.ctx, "commit_memory", content="the secret plan", scope="LOCAL")
    await done(watched.ctx, "recall_memory", query="secret")
    spans = watched.spans()
    assert spans["create_memory"].kind is SpanKind.CLIENT
    assert attributes(spans["create_memory"])["memory.scope"] == "LOCAL"
    assert attributes(spans["create_memory"])["gen_ai.memory.record.count"] == 1
    assert attributes(spans["search_memory"])["gen_ai.memory.record.count"] == 1
    assert "secret" not in watched.everything()


async def test_an_approval_says_how_it_stands_and_not_what_it_is_about(acme: Tenant, pools: ConnectionPools) -> None:
    me = await acme.create("me")
    watched = Watched(context(pools, (acme.url, me)))
    asked = await done(watched.ctx, "create_approval", action="carry out the secret plan", reason="the secret plan")
    found = attributes(watched.spans()["execute_tool create_approval"])
    assert found["molecule.approval.outcome"] == "pending"
    assert found["molecule.approval.id"] == asked.structured["request_id"]
    assert "secret plan" not in watched.everything()


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Evil: 1", False),
        (7, False),
        (None, False),
    ],
)
def test_only_a_whole_traceparent_of_a_stranger_is_taken(value: object, taken: bool) -> None:
    assert trace_context.traceparent(value) == (value if taken else "")
    assert trace_context.traceparent("junk", value) == (value if taken else "")


CALL = """
import logging, sys
logging.basicConfig()
import anyio
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken
from molecule_runtime.tools import Permissions, ToolContext, dispatch
from molecule_runtime.tools.telemetry_sdk import configure

async def main():
    async with ConnectionPools() as pools:
        target = WorkspaceTarget(id="11111111-1111-4111-8111-111111111111", platform_url="http://127.0.0.1:9", token=StaticToken("t" * 20))
        context = ToolContext(clients={target.id: PlatformClient(target, pools)}, permissions=Permissions(("operator",)),
                              telemetry=configure(ENVIRON, service="test"))
        result = await dispatch("get_runtime_identity", {}, context)
        print(result.is_error, sorted(name for name in sys.modules if name.startswith("opentelemetry")))

anyio.run(main)
"""


def in_a_process(**environ: str) -> subprocess.CompletedProcess[str]:
    code = f"ENVIRON = {environ!r}\n{CALL}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)


def test_without_the_variables_nothing_of_opentelemetry_is_loaded() -> None:
    assert in_a_process().stdout == "False []\n"


def test_the_sdk_can_be_disabled_whatever_else_is_set() -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}
    assert not configure(environ, service="test").is_on()


def test_the_standard_variables_turn_it_on_and_stdout_stays_clean() -> None:
    traced = in_a_process(
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY",
    )
    assert traced.stdout.startswith("False ['opentelemetry'")
    assert len(traced.stdout.splitlines()) == 1
    span = json.loads(traced.stderr)
    assert span["name"] == "execute_tool get_runtime_identity"
    assert span["resource"]["attributes"]["service.name"] == "test"
    assert "gen_ai.tool.call.result" in span["attributes"]


def test_an_exporter_that_is_not_installed_is_one_warning_with_its_remedy(caplog: pytest.LogCaptureFixture) -> None:
    assert not configure({"OTEL_TRACES_EXPORTER": "jaeger"}, service="test").is_on()
    (line,) = caplog.messages
    assert "'jaeger'" in line
    assert 'pip install "molecule-runtime-tools[otel]"' in line


class Exporter(SpanExporter):
    """Keeps what it gets, once `answers` is set."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.exported: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.answers.wait(WAIT_SECONDS)
        self.exported += [span.name for span in spans]
        return SpanExportResult.SUCCESS


async def test_the_last_spans_leave_a_process_that_ends_also_from_a_thread_and_only_once(
    scripted: Http, pools: ConnectionPools
) -> None:
    exporter = Exporter()
    exporter.answers.set()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))  # of its own accord it exports every 5 s
    telemetry = Telemetry(tracer_provider=provider)
    await run(dataclasses.replace(context(pools, (scripted.url, ME)), telemetry=telemetry), "get_runtime_identity")
    assert exporter.exported == []
    with anyio.fail_after(WAIT_SECONDS):
        await anyio.to_thread.run_sync(telemetry.shutdown)
        telemetry.shutdown()
    assert exporter.exported == ["execute_tool get_runtime_identity"]


def test_a_collector_that_does_not_answer_keeps_no_process_from_ending(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=provider)
    provider.get_tracer("test").start_span("last").end()
    telemetry.shutdown(timeout=0.05)
    # It came back while the exporter still waits.
    assert exporter.exported == []
    assert "were not exported within" in caplog.text
    exporter.answers.set()


def test_what_was_never_turned_on_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    Telemetry().shutdown()
    assert caplog.messages == []


async def _never(request: Any) -> tuple[int, Any]:
    del request
    await anyio.sleep_forever()
    return 200, None
