"""The official conformance suite against `molecule-mcp --transport http` with a real local platform behind it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.conformance.mcp.forwarding import forwarded
from tests.conformance.mcp.judging import problems, read
from tests.conformance.mcp.scenarios import BOTH, NEW, SCENARIOS, Applicable, NotApplicable
from tests.support.mcp_over_http import INITIALIZE, Served

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SECONDS = 150.0


@pytest.mark.parametrize("revision", BOTH)
async def test_the_scenarios_that_apply_pass(
    server: Served, node: Path, packages: Path, tmp_path: Path, revision: str
) -> None:
    async with server.http() as http:
        hello = (await http.post("/mcp", json=INITIALIZE)).json()
    suite = packages / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    async with forwarded(server) as url:
        command = [
            str(node),
            str(suite),
            "server",
            "--url",
            url,
            "--requirements",
            revision,
            "-o",
            str(tmp_path / "out"),
        ]
        with anyio.fail_after(SECONDS):
            ran = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT, cwd=tmp_path)
    found = read(tmp_path / "out")
    wrong = list(problems(found, SCENARIOS, revision, hello["result"]["capabilities"]))
    assert not wrong, "\n".join(["", *wrong, ran.stdout.decode()[-3000:] if not found else ""])


def _check(identity: str, status: str) -> dict[str, Any]:
    return {"id": identity, "status": status, "errorMessage": "because"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a": [_check("x", "SUCCESS"), _check("y", "FAILURE")]}, []),
        ({"a": [_check("x", "SUCCESS"), _check("y", "SUCCESS")]}, ["a: y passes now"]),
        ({"a": [_check("x", "WARNING"), _check("y", "FAILURE")]}, ["a: nothing was checked", "a: x: WARNING: because"]),
        ({"a": [_check("y", "FAILURE"), _check("x", "SUCCESS")], "new": []}, ["new: new at"]),
        ({}, ["a: the suite has it no more"]),
    ],
)
def test_what_fails_what_is_new_and_what_is_gone_is_told(
    found: dict[str, list[dict[str, Any]]], said: list[str]
) -> None:
    known: dict[str, Applicable | NotApplicable] = {
        "a": Applicable(excepted={"y": "a reason"}),
        "b": NotApplicable(reason="of an example"),
        "c": Applicable(needs=("something",)),
    }
    others = {"b": [_check("z", "FAILURE")], "c": [_check("z", "FAILURE")]}
    told = list(problems({**found, **others}, known, NEW, ["tools"]))
    assert len(told) == len(said), told
    assert all(line.startswith(start) for line, start in zip(told, said, strict=True)), told


def test_a_scenario_counts_as_soon_as_the_server_declares_what_it_needs() -> None:
    known = {"c": Applicable(needs=("something",))}
    found = {"c": [_check("x", "SUCCESS"), _check("z", "FAILURE")]}
    assert list(problems(found, known, NEW, ["something"])) == ["c: z: FAILURE: because"]
