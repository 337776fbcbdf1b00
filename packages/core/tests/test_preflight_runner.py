"""How checks run and how a report looks."""

from __future__ import annotations

import io
import json
import threading
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core.config import load
from molecule_runtime.core.preflight import (
    Check,
    Context,
    Outcome,
    PreflightReport,
    Status,
    render_full,
    render_json,
    render_preflight_report,
    run_checks,
    wants_colour,
)
from molecule_runtime.core.preflight.model import fail, ok, skip, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SECRET = "ghp_" + "Ab3" * 12
WAIT = 10.0


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "config.yaml").write_text("name: x", encoding="utf-8")
    return Context(loaded=load(tmp_path, {}), environ={"CONFIGS_DIR": str(tmp_path)})


def check(
    run: Callable[[Context], Iterable[Outcome]], name: str = "one", *, network: bool = False, deadline: float = WAIT
) -> Check[Context]:
    return Check(id=name, title=name, severity=Status.FAIL, run=run, network=network, deadline=deadline)


def report_of(context: Context, *outcomes: Outcome) -> PreflightReport:
    return run_checks([check(lambda _: outcomes)], context)


def test_checks_run_side_by_side(context: Context) -> None:
    meeting = threading.Barrier(3)

    def meet(_: Context) -> list[Outcome]:
        # Only checks that run at the same time get past this.
        meeting.wait(WAIT)
        return [ok("met")]

    results = run_checks([check(meet, str(number)) for number in range(3)], context).results
    assert [(result.check, result.status) for result in results] == [(str(number), Status.OK) for number in range(3)]


def test_a_check_that_hangs_is_one_failure_after_its_deadline(context: Context) -> None:
    release = threading.Event()

    def hang(_: Context) -> list[Outcome]:
        release.wait(WAIT)
        return []

    try:
        results = run_checks(
            [check(hang, "hangs", deadline=0.05), check(lambda _: [ok("well")], "works")], context
        ).results
    finally:
        release.set()
    assert [(result.check, str(result.status)) for result in results] == [("hangs", "fail"), ("works", "ok")]
    assert "not finished within 0.05 s" in results[0].reason


@pytest.mark.parametrize("error", [RuntimeError("broken\nbadly"), SystemExit(3), KeyboardInterrupt()])
def test_a_check_that_breaks_is_one_failure_and_never_a_crash(context: Context, error: BaseException) -> None:
    def broken(_: Context) -> list[Outcome]:
        raise error

    results = run_checks([check(broken, "breaks"), check(lambda _: [ok("well")], "works")], context).results
    assert [(result.check, str(result.status)) for result in results] == [("breaks", "fail"), ("works", "ok")]
    assert type(error).__name__ in results[0].reason
    assert "\n" not in results[0].reason


def test_a_check_that_breaks_half_way_is_a_failure(context: Context) -> None:
    def broken(_: Context) -> Iterable[Outcome]:
        yield ok("so far")
        raise OSError("disk")

    assert [str(result.status) for result in run_checks([check(broken)], context).results] == ["fail"]


def test_checks_of_the_platform_are_left_out_offline(context: Context) -> None:
    context.offline = True

    def unreachable(_: Context) -> list[Outcome]:
        raise NotImplementedError

    assert [str(result.status) for result in run_checks([check(unreachable, network=True)], context).results] == [
        "skip"
    ]


def test_no_result_repeats_a_secret_or_an_endless_text(context: Context) -> None:
    (result,) = report_of(context, fail(f"bad {SECRET}", f"use {SECRET}", detail=f"{SECRET} {'x ' * 100_000}")).results
    assert SECRET not in str(result)
    assert len(result.detail) <= 1000


def test_what_several_checks_need_is_made_once(context: Context) -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    def use(context: Context) -> list[Outcome]:
        return [ok(str(context.once("thing", make)))]

    results = run_checks([check(use, str(number)) for number in range(5)], context).results
    assert {result.reason for result in results} == {"1"}


# --- the report -------------------------------------------------------------------------------------------------------------


def test_a_clean_report_prints_nothing(context: Context) -> None:
    assert render_preflight_report(report_of(context, ok("well"), skip("nothing"))) == ""


def test_failures_come_first_then_warnings_each_with_its_fix(context: Context) -> None:
    report = report_of(
        context, warn("odd", "look"), fail("bad", "mend", detail="line 1\nline 2"), ok("well"), warn("odder")
    )
    assert render_preflight_report(report).splitlines() == [
        "Preflight:",
        "FAIL  one: bad",
        "        line 1",
        "        line 2",
        "      Fix: mend",
        "WARN  one: odd",
        "      Fix: look",
        "WARN  one: odder",
    ]
    assert render_full(report).splitlines()[-2:] == ["OK    one: well", "1 failed, 2 to look at, 1 ok, 0 skipped"]


def test_the_report_knows_whether_the_workspace_may_run(context: Context, tmp_path: Path) -> None:
    assert report_of(context, warn("odd")).ok
    assert not report_of(context, fail("bad")).ok
    (tmp_path / "config.yaml").write_text("tier: x", encoding="utf-8")
    unusable = Context(loaded=load(tmp_path, {}), environ={})
    assert not report_of(unusable, ok("well")).ok


def test_the_json_form_has_everything(context: Context) -> None:
    data = json.loads(render_json(report_of(context, fail("bad", "mend")), exit_code=1))
    assert (data["ok"], data["exit_code"], data["usable"], data["findings"]) == (False, 1, True, [])
    assert data["counts"] == {"ok": 0, "warn": 0, "fail": 1, "skip": 0}
    assert data["results"] == [
        {"check": "one", "title": "one", "status": "fail", "reason": "bad", "fix": "mend", "detail": ""}
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_and_no_color_turns_it_off(context: Context) -> None:
    assert wants_colour(Terminal(), {})
    assert not wants_colour(Terminal(), {"NO_COLOR": "1"})
    assert not wants_colour(io.StringIO(), {})
    report = report_of(context, fail("bad"))
    assert "\x1b[31mFAIL \x1b[0m" in render_full(report, colour=True)
    assert "\x1b" not in render_full(report)
