"""Preflight: what keeps a workspace from running, before it runs (contract `workspace-host.md` 7).

Each check is a small object with an id; they run side by side, each with a deadline, and report together.
"""

from molecule_runtime.core.preflight.adapter import ADAPTER_CHECK
from molecule_runtime.core.preflight.local import LOCAL_CHECKS
from molecule_runtime.core.preflight.model import Check, Context, Outcome, Result, Status, Subject, fail, ok, skip, warn
from molecule_runtime.core.preflight.platform import PLATFORM_CHECKS, Health, ask_health, clock, reached, token_verdict
from molecule_runtime.core.preflight.report import (
    render_full,
    render_json,
    render_preflight_report,
    render_results,
    wants_colour,
)
from molecule_runtime.core.preflight.runner import PreflightReport, results_of, run_checks

ALL_CHECKS = (*LOCAL_CHECKS, ADAPTER_CHECK, *PLATFORM_CHECKS)
"""Every check, in the order of a report."""

BOOT_CHECKS = tuple(check for check in ALL_CHECKS if check.at_boot)
"""What the host runs at every start: cheap, local, and not found out by starting anyway."""


def run_preflight(context: Context) -> PreflightReport:
    """Run every check."""
    return run_checks(ALL_CHECKS, context)


__all__ = [
    "ALL_CHECKS",
    "BOOT_CHECKS",
    "Check",
    "Context",
    "Health",
    "Outcome",
    "PreflightReport",
    "Result",
    "Status",
    "Subject",
    "ask_health",
    "clock",
    "fail",
    "ok",
    "reached",
    "render_full",
    "render_json",
    "render_preflight_report",
    "render_results",
    "results_of",
    "run_checks",
    "run_preflight",
    "skip",
    "token_verdict",
    "wants_colour",
    "warn",
]
