"""Runs checks side by side, each with a deadline. A check that breaks or hangs is one failed check, never a crash."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from molecule_runtime.core.preflight.model import Check, Outcome, Result, Status, SubjectT, fail, ok, skip
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from molecule_runtime.core.config import Finding
    from molecule_runtime.core.preflight.model import Context

_MAX_TEXT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightReport:
    """What all checks found, in the order of the checks.

    Attributes:
        config: the file that was checked.
        usable: whether the file can be used at all.
        findings: everything that is wrong with the file.
    """

    config: Path
    usable: bool
    results: tuple[Result, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def failures(self) -> tuple[Result, ...]:
        """What keeps the workspace from running."""
        return self.of(Status.FAIL)

    @property
    def warnings(self) -> tuple[Result, ...]:
        """What is worth a look."""
        return self.of(Status.WARN)

    @property
    def ok(self) -> bool:
        """Whether the workspace may run."""
        return self.usable and not self.failures

    def of(self, status: Status) -> tuple[Result, ...]:
        """Return the results with a status."""
        return tuple(result for result in self.results if result.status is status)


def run_checks(checks: Sequence[Check[Context]], context: Context) -> PreflightReport:
    """Run the checks of a workspace side by side and return what they found."""
    return PreflightReport(
        config=context.loaded.path,
        usable=context.config is not None,
        results=results_of(checks, context),
        findings=context.loaded.findings,
    )


def results_of(checks: Sequence[Check[SubjectT]], subject: SubjectT) -> tuple[Result, ...]:
    """Run checks side by side and return what they found, in the order of the checks."""
    jobs = [_Job(check, subject) for check in checks]
    started = time.monotonic()
    for job in jobs:
        job.start()
    results: list[Result] = []
    for job in jobs:
        job.join(max(0.0, started + job.check.deadline - time.monotonic()))
        results += [_result(job.check, outcome) for outcome in job.outcomes()]
    return tuple(results)


class _Job(threading.Thread, Generic[SubjectT]):
    """One check on a thread of its own, which cannot hold up the end of the process."""

    def __init__(self, check: Check[SubjectT], subject: SubjectT) -> None:
        super().__init__(name=f"molecule-check-{check.id}", daemon=True)
        self.check = check
        self._subject = subject
        self._found: list[Outcome] | None = None

    def run(self) -> None:
        if self.check.network and self._subject.offline:
            self._found = [skip("not asked for: --offline")]
            return
        try:
            self._found = list(self.check.run(self._subject)) or [ok("nothing to object to")]
        except BaseException as exc:
            # BaseException: whatever ends a check must not end the others.
            reason = " ".join(str(exc).split()) or "no message"
            self._found = [fail(f"the check itself failed: {type(exc).__name__}: {reason}")]

    def outcomes(self) -> list[Outcome]:
        if self._found is None:
            return [fail(f"not finished within {self.check.deadline:g} s", "see whether a disk or the network hangs")]
        return self._found


def _result(check: Check[Any], outcome: Outcome) -> Result:
    def clean(text: str) -> str:
        return redact_text(text[: _MAX_TEXT * 4])[:_MAX_TEXT]

    return Result(
        check=check.id,
        title=check.title,
        status=outcome.status,
        reason=clean(" ".join(outcome.reason.split())),
        fix=clean(" ".join(outcome.fix.split())),
        detail=clean(outcome.detail.strip()),
    )
