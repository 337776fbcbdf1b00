"""Asks declared MCP servers for their tools: starts each, says hello, lists, and ends it, within deadlines.

Presence in a file says nothing about a server that cannot start (contract `runtime.md` 20.1 items 3 to 6), so this is the evidence.
"""

from __future__ import annotations

import logging
import re
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import anyio
from mcp import ClientSession, StdioServerParameters, stdio_client, types

from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

MAX_TOOLS = 10_000
MAX_PAGES = 100
_AT_ONCE = 8
_STDERR_BYTES = 8192
# What npx says when it cannot even start a server; contract `runtime.md` 9.7.
_LAUNCH = re.compile(
    r"\b(?:ETARGET|ENOTCACHED|ERESOLVE|E404)\b|no matching version|could not determine executable|npm err(?:or|!)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds; contract `runtime.md` 9.7."""

    read: float = 10.0
    """For one answer."""
    server: float = 20.0
    overall: float = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a server did not answer: it cannot be started, it was too slow, or it answered with something else."""

    kind: Literal["launch", "timeout", "protocol"]
    reason: str


@dataclass(slots=True, kw_only=True)
class ProbeReport:
    """What was observed."""

    tools: list[str] | None = None
    """Sorted ids; None when no server answered, `[]` when those that did have no tools."""
    failures: dict[str, Failure] = field(default_factory=dict[str, Failure])


async def probe(
    specs: Mapping[str, Mapping[str, Any]],
    *,
    launch_env: Mapping[str, str] | None = None,
    deadlines: Deadlines | None = None,
) -> ProbeReport:
    """Start each server that has a command, all at once, and collect the ids of their tools.

    A child gets HOME, PATH and the like, then `launch_env`, then its spec's `env`; nothing else of this process. Servers that are
    reached by URL are left out: only their engine has their credentials. Every child is ended before this returns.
    """
    deadlines = deadlines or Deadlines()
    report = ProbeReport()
    answered: dict[str, list[str]] = {}
    quiet = _Quiet()
    source = logging.getLogger("mcp.client.stdio")
    source.addFilter(quiet)
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def ask(server: str, spec: Mapping[str, Any]) -> None:
        async with limiter:
            result = await _ask(server, spec, launch_env or {}, deadlines)
        if isinstance(result, Failure):
            report.failures[server] = result
        else:
            answered[server] = result

    startable = {name: spec for name, spec in specs.items() if isinstance(spec.get("command"), str) and spec["command"]}
    try:
        with anyio.move_on_after(deadlines.overall):
            async with anyio.create_task_group() as tasks:
                for server, spec in startable.items():
                    tasks.start_soon(ask, server, spec)
    finally:
        source.removeFilter(quiet)
    for server in startable.keys() - answered.keys() - report.failures.keys():
        reason = f"no answer within {deadlines.overall:.0f} s for all servers together"
        report.failures[server] = Failure(kind="timeout", reason=reason)
    if answered:
        ids = {_tool_id(server, name) for server, names in answered.items() for name in names}
        report.tools = sorted(ids)[:MAX_TOOLS]
    for server, failure in report.failures.items():
        # One that cannot start will not start later either, so that is loud; a slow one may be quicker next time.
        level = logging.CRITICAL if failure.kind == "launch" else logging.WARNING
        logger.log(level, "MCP server %s (%s): %s", server, failure.kind, failure.reason)
    return report


async def _ask(
    server: str, spec: Mapping[str, Any], launch_env: Mapping[str, str], deadlines: Deadlines
) -> list[str] | Failure:
    try:
        parameters = StdioServerParameters(
            command=spec["command"],
            args=[str(argument) for argument in spec.get("args") or ()],
            env={**launch_env, **_texts(spec.get("env"))},
            cwd=spec.get("cwd"),
        )
        if any("\x00" in text for text in (parameters.command, *parameters.args)):
            raise ValueError("an argument contains a NUL character")
    except ValueError as exc:
        return Failure(kind="launch", reason=f"the declaration cannot be used: {' '.join(str(exc).split())[:300]}")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        try:
            with anyio.fail_after(deadlines.server):
                return await _names(parameters, errors, deadlines.read)
        except TimeoutError:
            return Failure(kind="timeout", reason=f"no answer within {deadlines.server:.0f} s")
        except Exception as exc:  # a server under test may fail in any way
            return _failure(exc, _tail(errors))


async def _names(parameters: StdioServerParameters, errors: TextIO, read_timeout: float) -> list[str]:
    names: list[str] = []
    async with (
        stdio_client(parameters, errlog=errors) as (read_stream, write_stream),
        ClientSession(read_stream, write_stream, read_timeout_seconds=read_timeout) as session,
    ):
        await session.initialize()
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await session.list_tools(params=params)
            names += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if not cursor or len(names) >= MAX_TOOLS:
                break
    return names


def _failure(exc: BaseException, said: str) -> Failure:
    while isinstance(exc, BaseExceptionGroup):
        exc = cast("BaseExceptionGroup[BaseException]", exc).exceptions[0]
    told = " ".join(redact_text(str(exc)).split())[:300] or type(exc).__name__
    if isinstance(exc, OSError) and not said:
        return Failure(kind="launch", reason=f"cannot be started: {told}")
    said = " ".join(redact_text(said).split())[-500:]
    if _LAUNCH.search(said):
        return Failure(kind="launch", reason=f"cannot be started: {said}")
    kind: Literal["timeout", "protocol"] = "timeout" if "timed out" in told.lower() else "protocol"
    return Failure(kind=kind, reason=f"{told}{f'; it said: {said}' if said else ''}")


def _tail(errors: TextIO) -> str:
    errors.seek(0, 2)
    errors.seek(max(0, errors.tell() - _STDERR_BYTES))
    return errors.read()


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key): str(item) for key, item in cast("dict[object, object]", value).items() if item is not None}


def _tool_id(server: str, name: str) -> str:
    return name if name.startswith("mcp__") else f"mcp__{server}__{name}"


class _Quiet(logging.Filter):
    """Keeps the SDK from logging a traceback for each line of a server that prints something else."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False
