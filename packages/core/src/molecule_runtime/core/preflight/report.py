"""Shows a report: for people with the failures first, for programs as JSON."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.core.preflight.model import Result, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from molecule_runtime.core.preflight.runner import PreflightReport

_COLOURS = {Status.FAIL: "31", Status.WARN: "33", Status.OK: "32", Status.SKIP: "2"}


def wants_colour(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether to colour: on a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return stream.isatty() and not env.NO_COLOR.is_set(environ)


def render_preflight_report(report: PreflightReport, *, colour: bool = False) -> str:
    """Return the failures and then the warnings, each with what to do; `""` when there are none."""
    lines = _problems(report.results, colour=colour)
    if not lines:
        return ""
    return "\n".join(["Preflight:", *lines])


def render_full(report: PreflightReport, *, colour: bool = False) -> str:
    """Return the whole report: failures, warnings, then what is well and what was left out, and the count."""
    return render_results(str(report.config), report.results, colour=colour)


def render_results(heading: str, results: Sequence[Result], *, colour: bool = False) -> str:
    """Return results under a heading: failures, warnings, then what is well and what was left out, and the count."""
    counts = Counter(result.status for result in results)
    lines = [heading, *_problems(results, colour=colour)]
    for status in (Status.OK, Status.SKIP):
        lines += [_line(result, colour=colour) for result in results if result.status is status]
    words = {Status.FAIL: "failed", Status.WARN: "to look at", Status.OK: "ok", Status.SKIP: "skipped"}
    lines.append(", ".join(f"{counts[status]} {word}" for status, word in words.items()))
    return "\n".join(lines)


def render_json(report: PreflightReport, *, exit_code: int) -> str:
    """Return the report as one JSON object."""
    counts = Counter(str(result.status) for result in report.results)
    return json.dumps(
        {
            "ok": report.ok,
            "exit_code": exit_code,
            "config": str(report.config),
            "usable": report.usable,
            "counts": {str(status): counts[str(status)] for status in Status},
            "findings": [finding.to_dict() for finding in report.findings],
            "results": [result.to_dict() for result in report.results],
        },
        indent=2,
    )


def _problems(results: Sequence[Result], *, colour: bool) -> list[str]:
    lines: list[str] = []
    for result in (result for status in (Status.FAIL, Status.WARN) for result in results if result.status is status):
        lines.append(_line(result, colour=colour))
        lines += [f"        {line}" for line in result.detail.splitlines()]
        if result.fix:
            lines.append(f"      Fix: {result.fix}")
    return lines


def _line(result: Result, *, colour: bool) -> str:
    word = f"{result.status.upper():<5}"
    if colour:
        word = f"\x1b[{_COLOURS[result.status]}m{word}\x1b[0m"
    return f"{word} {result.check}: {result.reason}"
