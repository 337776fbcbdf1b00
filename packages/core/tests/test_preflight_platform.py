"""The checks that ask the platform: a real server with scripted answers."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core.config import load
from molecule_runtime.core.preflight import Context, Result, Status, run_checks
from molecule_runtime.core.preflight.platform import PLATFORM_CHECKS

from .support import TOKEN, Answer, ScriptedPlatform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOWHERE = "http://127.0.0.1:1"


def run(tmp_path: Path, url: str, **environ: str) -> dict[str, Result]:
    (tmp_path / "config.yaml").write_text("", encoding="utf-8")
    given = {
        "CONFIGS_DIR": str(tmp_path),
        "WORKSPACE_ID": "ws-1",
        "PLATFORM_URL": url,
        "MOLECULE_WORKSPACE_TOKEN": TOKEN,
        **environ,
    }
    given = {name: value for name, value in given.items() if value}
    report = run_checks(PLATFORM_CHECKS, Context(loaded=load(tmp_path, given), environ=given))
    assert TOKEN not in str(report)
    return {result.check.removeprefix("platform."): result for result in report.results}


def statuses(results: Mapping[str, Result]) -> dict[str, str]:
    return {name: str(result.status) for name, result in results.items()}


@pytest.fixture
def healthy(platform: ScriptedPlatform) -> ScriptedPlatform:
    platform.on("GET", "/health", Answer(body={"status": "ok"}))
    platform.on("POST", "/registry/heartbeat", Answer(body={"status": "ok"}))
    return platform


def test_a_platform_that_answers_and_takes_the_token_is_well(healthy: ScriptedPlatform, tmp_path: Path) -> None:
    assert statuses(run(tmp_path, healthy.url)) == {"reachable": "ok", "token": "ok", "clock": "ok"}


def test_the_token_is_tried_with_one_heartbeat_and_never_by_registering(
    healthy: ScriptedPlatform, tmp_path: Path
) -> None:
    run(tmp_path, healthy.url)
    (beat,) = healthy.to("POST", "/registry/heartbeat")
    assert (beat.json, beat.bearer) == ({"workspace_id": "ws-1"}, TOKEN)
    assert {(request.method, request.path) for request in healthy.requests} == {
        ("GET", "/health"),
        ("POST", "/registry/heartbeat"),
    }


def test_whether_the_platform_answers_is_asked_once_and_without_credentials(
    healthy: ScriptedPlatform, tmp_path: Path
) -> None:
    run(tmp_path, healthy.url)
    (asked,) = healthy.to("GET", "/health")
    assert asked.bearer is None
    assert asked.headers["origin"] == healthy.url


def test_a_platform_that_does_not_run_is_one_failure(tmp_path: Path) -> None:
    results = run(tmp_path, NOWHERE)
    assert statuses(results) == {"reachable": "fail", "token": "skip", "clock": "skip"}
    assert NOWHERE in results["reachable"].reason


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(401, "fail"), (403, "fail"), (404, "fail"), (410, "fail"), (400, "fail"), (429, "warn"), (503, "warn")],
)
def test_what_the_platform_says_of_the_token(
    healthy: ScriptedPlatform, tmp_path: Path, status: int, outcome: str
) -> None:
    healthy.on("POST", "/registry/heartbeat", Answer(status=status, body={"error": f"no, {TOKEN} is bad"}))
    result = run(tmp_path, healthy.url)["token"]
    assert (str(result.status), bool(result.fix)) == (outcome, True)


def test_something_that_is_not_the_platform_is_found_out(platform: ScriptedPlatform, tmp_path: Path) -> None:
    page = Answer(body=b"<html>Welcome</html>", headers={"Content-Type": "text/html"})
    platform.on("POST", "/registry/heartbeat", page)
    results = run(tmp_path, platform.url)
    assert statuses(results) == {"reachable": "warn", "token": "fail", "clock": "ok"}
    assert "PLATFORM_URL" in results["token"].fix


def test_a_platform_that_fails_inside_is_a_failure(healthy: ScriptedPlatform, tmp_path: Path) -> None:
    healthy.on("GET", "/health", Answer(status=502, body={}))
    assert run(tmp_path, healthy.url)["reachable"].status is Status.FAIL


def test_without_a_token_or_a_name_nothing_is_sent(healthy: ScriptedPlatform, tmp_path: Path) -> None:
    assert run(tmp_path, healthy.url, MOLECULE_WORKSPACE_TOKEN="")["token"].status is Status.SKIP
    assert run(tmp_path, healthy.url, WORKSPACE_ID="")["token"].status is Status.SKIP
    assert healthy.to("POST", "/registry/heartbeat") == []
    assert statuses(run(tmp_path, "ftp://x")) == {"reachable": "skip", "token": "skip", "clock": "skip"}


@pytest.mark.parametrize(
    ("theirs", "words"), [(0, "agrees"), (-30, "agrees"), (30, "agrees"), (-3600, "s ahead of"), (3600, "s behind")]
)
def test_a_clock_that_differs_from_the_platforms_is_worth_a_word(
    healthy: ScriptedPlatform, tmp_path: Path, theirs: int, words: str
) -> None:
    def dated(_: object) -> Answer:
        date = formatdate(time.time() + theirs, usegmt=True)
        return Answer(
            raw=f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
        )

    healthy.on("GET", "/health", dated)
    result = run(tmp_path, healthy.url)["clock"]
    assert result.status is (Status.OK if words == "agrees" else Status.WARN)
    assert words in result.reason


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_date_that_cannot_be_read_is_no_finding(healthy: ScriptedPlatform, tmp_path: Path, date: str) -> None:
    raw = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
    healthy.on("GET", "/health", Answer(raw=raw))
    assert run(tmp_path, healthy.url)["clock"].status is Status.SKIP
