"""Spans and metrics of tool calls, by OpenTelemetry's conventions for generative AI, agents and memory.

Only the API is used, and only once somebody has configured an SDK: without one nothing is imported and a call pays one look into
`sys.modules`. Names: github.com/open-telemetry/semantic-conventions-genai, as of November 2026 (in development there); beside them the
attributes of the predecessor (contract `workspace-host.md` 19.9).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Sized
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from molecule_runtime.core import registry, trace_context
from molecule_runtime.core.identity import origin_of
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Link, Span, SpanContext, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.result import ToolResult

logger = logging.getLogger(__name__)

SCOPE: Final = "molecule_runtime.tools"
"""The instrumentation scope."""

PROVIDER: Final = "molecule"
"""`gen_ai.provider.name` of what the platform does for us."""

MAX_CONTENT_CHARS: Final = 16 * 1024
"""Of arguments or an answer in one attribute, where content is asked for."""

SHUTDOWN_SECONDS: Final = 1.0
"""That the last spans and metrics may keep a process from ending; a process with tools at work has two in all (issue 7, point 4)."""

_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Seconds, as the conventions have them."""

_OPERATIONS: Final[Mapping[str, str]] = {
    "delegate_task": "invoke_agent",
    "delegate_task_async": "invoke_agent",
    "commit_memory": "create_memory",
    "recall_memory": "search_memory",
    "forget_memory": "delete_memory",
}
"""`gen_ai.operation.name` of the tools that are an operation of their own, which gets a span within that of the tool."""

APPROVAL: Final = "requires_approval"
"""What an adapter's code asks for by itself is written down like a call of a tool of this name."""

_APPROVALS: Final = frozenset({"create_approval", "create_request", APPROVAL})


@dataclass(slots=True)
class ToolSpan:
    """One call that is being traced: the span of the tool, and within it that of its operation, where it has one."""

    trace_id: str
    spans: list[Span]
    _result: ToolResult | None = field(default=None)

    def finish(self, result: ToolResult) -> None:
        """Take the answer; what it means for the spans is written when they end."""
        self._result = result

    @property
    def result(self) -> ToolResult | None:
        """The answer; None for a call that was cancelled."""
        return self._result

    def set(self, name: str, value: AttributeValue | None) -> None:
        """Set an attribute of every span of the call; nothing for None."""
        if value is not None:
            for span in self.spans:
                span.set_attribute(name, value)


class Telemetry:
    """Traces calls with the given providers, or with the process's own once it has some.

    Args:
        tracer_provider: None for the process's own.
        meter_provider: None for the process's own.
        capture_content: spans carry arguments and answers, redacted (`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`).
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        capture_content: bool = False,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._capture_content = capture_content
        self._tracer: Tracer | None = None
        self._histograms: dict[str, Histogram] = {}
        self._ending = threading.Lock()
        self._has_ended = False

    def is_on(self) -> bool:
        """Tell whether anybody looks: an SDK is configured. The API alone, which other libraries load, is nobody."""
        if self._tracer_provider is not None or self._meter_provider is not None:
            return True
        if "opentelemetry.sdk" not in sys.modules:
            return False
        trace, metrics = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.metrics")
        if trace is not None and not isinstance(
            trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
        ):
            return True
        # The proxy of metrics is not a public name; a provider that only forwards is called so.
        return metrics is not None and type(metrics.get_meter_provider()).__name__ not in {
            "_ProxyMeterProvider",
            "NoOpMeterProvider",
        }

    def shutdown(self, timeout: float = SHUTDOWN_SECONDS) -> None:
        """Export what was not exported yet and stop, for a process that ends. Blocking, in any thread; once, later calls do nothing.

        A collector that does not answer costs `timeout` seconds, `SHUTDOWN_SECONDS` at most, and then what it was not told is lost.
        """
        with self._ending:
            if self._has_ended or not self.is_on():
                return
            self._has_ended = True
        deadline = time.monotonic() + max(0.0, min(timeout, SHUTDOWN_SECONDS))
        # Threads of their own, which keep no process alive: an exporter heeds no deadline but its own, of 10 s.
        threads = [
            threading.Thread(target=_end, args=(provider,), name="molecule-telemetry-end", daemon=True)
            for provider in self._providers()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            logger.warning("the last spans or metrics were not exported within %.1f s, and are lost", timeout)

    def _providers(self) -> list[object]:
        """Return the providers that can be shut down."""
        trace, metrics = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.metrics")
        tracers = self._tracer_provider or (trace and trace.get_tracer_provider())
        meters = self._meter_provider or (metrics and metrics.get_meter_provider())
        return [provider for provider in (tracers, meters) if hasattr(provider, "shutdown")]

    @contextmanager
    def tool_call(
        self, name: str, arguments: Mapping[str, Any] | None, *, client: PlatformClient | None, is_shared: bool
    ) -> Generator[ToolSpan]:
        """Trace one call of a tool.

        Args:
            name: of the tool, as the caller wrote it.
            arguments: of the call.
            client: of the workspace that acts; None where that is not known.
            is_shared: this process serves several tenants. Then a call is a trace of its own, linked to what it was called from, so
                that no platform sees the trace id of another.
        """
        from opentelemetry import trace

        known = name if name in registry.tool_names() or name == APPROVAL else "_OTHER"
        common: dict[str, AttributeValue] = {"workspace.id": client.workspace_id} if client else {}
        attributes: dict[str, AttributeValue] = {
            **common,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": known,
            "gen_ai.tool.type": "function",
        }
        parent, links = _parent(is_shared=is_shared)
        tracer = self._get_tracer()
        began = time.monotonic()
        with ExitStack() as stack:
            outer = tracer.start_span(f"execute_tool {known}", context=parent, attributes=attributes, links=links)
            spans = [outer]
            stack.callback(outer.end)
            stack.enter_context(_current(outer))
            operation = _OPERATIONS.get(name)
            if operation is not None:
                about = {**common, **_about(operation, arguments, client)}
                inner = tracer.start_span(operation, kind=trace.SpanKind.CLIENT, attributes=about)
                spans.append(inner)
                stack.callback(inner.end)
                stack.enter_context(_current(inner))
            here = spans[-1].get_span_context()
            if client is not None and here.is_valid:
                origin = origin_of(client.target.platform_url)
                stack.enter_context(trace_context.sending(_as_traceparent(here), origin=origin))
            call = ToolSpan(trace.format_trace_id(here.trace_id) if here.is_valid else "", spans)
            try:
                yield call
            finally:
                error = _error_of(call.result)
                self._describe(call, name, operation, arguments, error)
                self._measure(time.monotonic() - began, known, operation, error)

    def mcp_call(self, tool: str, seconds: float, result: ToolResult) -> None:
        """Measure a `tools/call` of an MCP server, whose span the MCP SDK writes."""
        if self.is_on():
            described: dict[str, AttributeValue] = {
                "mcp.method.name": "tools/call",
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": tool if tool in registry.tool_names() else "_OTHER",
                "network.transport": "pipe",
                **({"error.type": "tool_error"} if result.is_error else {}),
            }
            self._histogram("mcp.server.operation.duration", "The duration of an MCP request.").record(
                seconds, described
            )

    def _describe(
        self, call: ToolSpan, name: str, operation: str | None, arguments: Mapping[str, Any] | None, error: str | None
    ) -> None:
        from opentelemetry.trace import StatusCode

        spans, result = call.spans, call.result
        if error is not None:
            call.set("error.type", error)
            for span in spans:
                # Without the text: it may quote what the peer or the model wrote.
                span.set_status(StatusCode.ERROR)
        if result is None:
            return
        said = result.structured
        if operation == "invoke_agent":
            peer = said.get("name")
            if isinstance(peer, str) and peer:
                spans[-1].update_name(f"invoke_agent {peer[:64]}")
                spans[-1].set_attribute("gen_ai.agent.name", peer[:64])
            call.set("a2a.task_id", _text(said.get("delegation_id")))
        elif operation is not None:
            memories = said.get("memories")
            count = len(memories) if isinstance(memories, Sized) else int(error is None)
            spans[-1].set_attribute("gen_ai.memory.record.count", count)
            if (record := _text(said.get("id") or said.get("memory_id"))) is not None:
                spans[-1].set_attribute("gen_ai.memory.record.id", record)
        if name in _APPROVALS:
            call.set("molecule.approval.id", _text(said.get("request_id") or said.get("approval_id") or said.get("id")))
            call.set("molecule.approval.outcome", _text(said.get("status") or said.get("outcome")))
        if self._capture_content:
            spans[0].set_attribute("gen_ai.tool.call.arguments", _content(dict(arguments or {})))
            spans[0].set_attribute("gen_ai.tool.call.result", _content(said))

    def _measure(self, seconds: float, tool: str, operation: str | None, error: str | None) -> None:
        failed: dict[str, AttributeValue] = {} if error is None else {"error.type": error}
        described: dict[str, AttributeValue] = {"gen_ai.tool.name": tool, "gen_ai.tool.type": "function", **failed}
        self._histogram("gen_ai.execute_tool.duration", "The duration of a single tool execution.").record(
            seconds, described
        )
        if operation is not None:
            described = {"gen_ai.operation.name": operation, "gen_ai.provider.name": PROVIDER, **failed}
            self._histogram("gen_ai.client.operation.duration", "GenAI operation duration.").record(seconds, described)

    def _get_tracer(self) -> Tracer:
        if self._tracer is None:
            from opentelemetry import trace

            self._tracer = trace.get_tracer(SCOPE, tracer_provider=self._tracer_provider)
        return self._tracer

    def _histogram(self, name: str, description: str) -> Histogram:
        found = self._histograms.get(name)
        if found is None:
            from opentelemetry import metrics

            found = metrics.get_meter(SCOPE, meter_provider=self._meter_provider).create_histogram(
                name, unit="s", description=description, explicit_bucket_boundaries_advisory=_BUCKETS
            )
            self._histograms[name] = found
        return found


PROCESS: Final = Telemetry()
"""Traces with whatever the process has configured, without content."""


def _end(provider: Any) -> None:
    try:
        provider.shutdown()
    except Exception as exc:  # a third party's exporter: nothing it does may keep a process from ending
        logger.warning("telemetry did not end well: %s: %s", type(exc).__name__, exc)


def _parent(*, is_shared: bool) -> tuple[Context | None, list[Link]]:
    """Return the context to start in (None for the current one) and the links: see `Telemetry.tool_call`."""
    if not is_shared:
        return None, []
    from opentelemetry import trace
    from opentelemetry.context import Context

    caller = trace.get_current_span().get_span_context()
    return Context(), [trace.Link(caller)] if caller.is_valid else []


def _current(span: Span) -> Any:
    from opentelemetry import trace

    # What goes wrong is in the answer; the text of an exception may quote content.
    return trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)


def _as_traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _about(
    operation: str, arguments: Mapping[str, Any] | None, client: PlatformClient | None
) -> dict[str, AttributeValue]:
    """Return the attributes that are known before an operation begins: where it goes and whom it is for, never what it says."""
    about: dict[str, AttributeValue] = {"gen_ai.operation.name": operation, "gen_ai.provider.name": PROVIDER}
    given = arguments or {}
    if client is not None:
        address = urlsplit(client.target.platform_url)
        about["server.address"] = address.hostname or ""
        about["server.port"] = address.port or (443 if address.scheme == "https" else 80)
    if operation == "invoke_agent":
        peer = given.get("workspace_id")
        about["a2a.method.name"] = "SendMessage"
        if client is not None:
            about["a2a.source_workspace_id"] = client.workspace_id
        if isinstance(peer, str) and len(peer) <= 128:
            about["a2a.target_workspace_id"] = about["gen_ai.agent.id"] = peer
    elif (scope := given.get("scope")) in {"LOCAL", "TEAM", "GLOBAL"}:
        about["memory.scope"] = str(scope)
    return about


def _error_of(result: ToolResult | None) -> str | None:
    if result is None:
        return "cancelled"
    return (result.error_type or "tool_error") if result.is_error else None


def _text(value: object) -> str | None:
    return value[:128] if isinstance(value, str) and value else None


def _content(value: object) -> str:
    return redact_text(json.dumps(value, ensure_ascii=False, default=str))[:MAX_CONTENT_CHARS]
