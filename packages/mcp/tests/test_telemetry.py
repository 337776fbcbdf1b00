"""`molecule-mcp` under the standard `OTEL_*` variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .processes import one, session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.tenants import Tenant

pytestmark = pytest.mark.anyio


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a log, whatever stands between them."""
    found: list[dict[str, Any]] = []
    decoder = json.JSONDecoder()
    position = text.find("{")
    while position != -1:
        try:
            value, position = decoder.raw_decode(text, position)
        except ValueError:
            position += 1
        else:
            found.append(value)
        position = text.find("{", position)
    return found


async def test_a_call_is_a_span_within_that_of_the_request_and_the_session_stays_whole(
    acme: Tenant, tmp_path: Path
) -> None:
    _, ours = await acme.family()
    where = one(tmp_path / "p", acme.url, ours, OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="console")
    async with session(where) as mcp:
        assert "team-lead" in await mcp.text("list_peers")
    written = objects_in(where.log_text())
    spans = {span["name"]: span for span in written if "parent_id" in span}
    request, call = spans["tools/call list_peers"], spans["execute_tool list_peers"]
    assert call["parent_id"] == request["context"]["span_id"]
    assert call["context"]["trace_id"] == request["context"]["trace_id"]
    assert request["attributes"]["mcp.method.name"] == "tools/call"
    assert call["attributes"]["workspace.id"] == ours.id
    assert call["resource"]["attributes"]["service.name"] == "molecule-mcp"
    assert f"traceparent: 00-{call['context']['trace_id'][2:]}-{call['context']['span_id'][2:]}-".encode() in acme.sent
    scopes = [
        scope
        for data in written
        for resource in data.get("resource_metrics", [])
        for scope in resource["scope_metrics"]
    ]
    names = {metric["name"] for scope in scopes for metric in scope["metrics"]}
    assert {"gen_ai.execute_tool.duration", "mcp.server.operation.duration"} <= names
