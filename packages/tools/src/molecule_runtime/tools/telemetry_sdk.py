"""Turns telemetry on where the standard `OTEL_*` variables ask for it, with the SDK and the exporters of the extra `[otel]`."""

from __future__ import annotations

import logging
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.core import env
from molecule_runtime.tools.telemetry import PROCESS, Telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource

logger = logging.getLogger(__name__)

_CAPTURING: Final = frozenset({"true", "1", "span_only", "span_and_event"})

_SIGNALS: Final = {
    "traces": (env.OTEL_TRACES_EXPORTER, env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT),
    "metrics": (env.OTEL_METRICS_EXPORTER, env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT),
}


def configure(environ: Mapping[str, str], *, service: str) -> Telemetry:
    """Configure the SDK as the environment asks, once in a process and before the first call; return what traces the calls.

    Where nothing is asked for, nothing is imported; what a host application configured by itself is used as it is. The SDK reads what
    is not chosen here (headers, sampling, limits, intervals) from the process's own environment, and flushes when the process ends.

    Args:
        environ: the environment.
        service: `service.name`, unless the environment names one.
    """
    telemetry = _telemetry(environ)
    wanted = _exporters(environ)
    if not wanted or telemetry.is_on():
        return telemetry
    try:
        resource = _resource(environ, service)
        if "traces" in wanted:
            _trace(resource, [_exporter("traces", name, environ) for name in wanted["traces"]])
        if "metrics" in wanted:
            _meter(resource, [_exporter("metrics", name, environ) for name in wanted["metrics"]])
    except ImportError as exc:
        logger.warning('telemetry stays off: %s; pip install "molecule-runtime-tools[otel]"', exc)
    except Exception as exc:  # a third party's start-up: a value that it cannot read must not keep an agent from work
        logger.warning("telemetry stays off: %s: %s", type(exc).__name__, exc)
    return telemetry


def _trace(resource: Resource, exporters: Sequence[Any]) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _meter(resource: Resource, exporters: Sequence[Any]) -> None:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    # An exporter such as prometheus is a reader itself.
    readers = [
        exporter if isinstance(exporter, MetricReader) else PeriodicExportingMetricReader(exporter)
        for exporter in exporters
    ]
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=readers))


def _exporter(signal: str, name: str, environ: Mapping[str, str]) -> Any:
    """Make an exporter by its name, as installed distributions announce it.

    Raises:
        ImportError: it is not installed.
    """
    if name == "otlp":
        name = "otlp_proto_grpc" if env.OTEL_EXPORTER_OTLP_PROTOCOL.get(environ) == "grpc" else "otlp_proto_http"
    found = list(metadata.entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
    if not found:
        raise ImportError(f"no {signal} exporter {name!r} is installed")
    make = found[0].load()
    # stdout belongs to the protocol of molecule-mcp.
    return make(out=sys.stderr) if name == "console" else make()


def _telemetry(environ: Mapping[str, str]) -> Telemetry:
    captures = env.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT.get(environ).lower() in _CAPTURING
    return Telemetry(capture_content=True) if captures else PROCESS


def _exporters(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the exporters of each signal that is asked for, by a variable of its own or by an endpoint."""
    if env.OTEL_SDK_DISABLED.get(environ).lower() == "true":
        return {}
    wanted: dict[str, list[str]] = {}
    for signal, (exporter, endpoint) in _SIGNALS.items():
        has_endpoint = env.OTEL_EXPORTER_OTLP_ENDPOINT.is_set(environ) or endpoint.is_set(environ)
        chosen = exporter.get(environ).lower() or ("otlp" if has_endpoint else "none")
        if names := [name for part in chosen.split(",") if (name := part.strip()) not in {"", "none"}]:
            wanted[signal] = names
    return wanted


def _resource(environ: Mapping[str, str], service: str) -> Resource:
    from opentelemetry.sdk.resources import Resource

    named = env.OTEL_SERVICE_NAME.is_set(environ) or "service.name=" in env.OTEL_RESOURCE_ATTRIBUTES.get(environ)
    return Resource.create({} if named else {"service.name": service})
