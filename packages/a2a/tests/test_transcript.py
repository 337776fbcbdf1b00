"""The transcript: what the adapter tells, what is asked for wrongly, and what is too much."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from molecule_runtime.a2a import transcript

from .support import DEADLINE, ECHO, FakePlatform, Workspace, ready, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]


def adapter(statement: str, *, sync: bool = False) -> str:
    return (
        ECHO
        + f"""
        {"" if sync else "async "}def transcript_lines(self, since=0, limit=100):
            {statement}
    """
    )


PAGE = (
    'return {"runtime": "x", "supported": True, "lines": ["%s" for n in range(since, since + limit)],'
    ' "cursor": since + limit, "more": True, "source": None}'
)


@asynccontextmanager
async def asking(workspace: Workspace, platform: FakePlatform) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {platform.token}"}
    async with (
        serving(workspace),
        httpx.AsyncClient(base_url=workspace.url, trust_env=False, headers=headers, timeout=DEADLINE) as client,
    ):
        await ready(workspace)
        yield client


async def test_an_adapter_that_keeps_none_says_so(make_workspace: Make, platform: FakePlatform) -> None:
    async with asking(make_workspace(), platform) as client:
        answer = await client.get("/transcript?since=7")
        assert answer.json() == {
            "runtime": "echo",
            "supported": False,
            "lines": [],
            "cursor": 7,
            "more": False,
            "source": None,
        }


@pytest.mark.parametrize("sync", [True, False])
async def test_the_bounds_of_a_page_are_those_of_the_contract(
    make_workspace: Make, platform: FakePlatform, sync: bool
) -> None:
    async with asking(make_workspace(adapter(PAGE % "x", sync=sync)), platform) as client:
        for query, lines, cursor in (
            ("", 100, 100),
            ("since=5&limit=2", 2, 7),
            ("since=-5&limit=0", 1, 1),
            ("limit=100000", 1000, 1000),
            ("limit=", 100, 100),
        ):
            page = (await client.get(f"/transcript?{query}")).json()
            assert (len(page["lines"]), page["cursor"]) == (lines, cursor)


@pytest.mark.parametrize("value", ["x", "1.5", "1e3", "0x10", "\uff11", "1_0", "9" * 5000])
async def test_what_is_no_integer_is_refused(make_workspace: Make, platform: FakePlatform, value: str) -> None:
    async with asking(make_workspace(), platform) as client:
        for name in ("since", "limit"):
            answer = await client.get("/transcript", params={name: value})
            assert answer.status_code == 400
            assert answer.json()["error"] == "since and limit must be integers"


async def test_a_page_that_is_too_large_is_shorter_and_goes_on_where_it_ends(
    make_workspace: Make, platform: FakePlatform
) -> None:
    async with asking(make_workspace(adapter(PAGE % ("x" * 30_000))), platform) as client:
        answer = await client.get("/transcript?limit=500")
        assert len(answer.content) <= transcript.MAX_TRANSCRIPT_BYTES
        page = answer.json()
        assert len(page["lines"]) == page["cursor"] > 10


async def test_a_single_line_that_is_too_large_is_left_out_so_that_the_next_can_be_read(
    make_workspace: Make, platform: FakePlatform
) -> None:
    async with asking(make_workspace(adapter(PAGE % ("x" * 1_100_000))), platform) as client:
        page = (await client.get("/transcript?since=3&limit=2")).json()
        assert page["cursor"] == 4
        assert page["lines"] == ["[this line is larger than a whole page may be, and is left out]"]


@pytest.mark.parametrize(
    "statement",
    [
        'raise RuntimeError("api_key=sk-abcdefghijklmnopqrstuvwxyz123456")',  # secret-scan: allow, made up
        "return [1]",
        "return {'lines': [object()]}",
        "return {'lines': [float('nan')]}",
        "import anyio; await anyio.sleep(60)",
    ],
)
async def test_an_adapter_that_fails_is_a_503_that_shows_no_secret(
    make_workspace: Make, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr(transcript, "TRANSCRIPT_SECONDS", 0.2 if "sleep" in statement else DEADLINE)
    async with asking(make_workspace(adapter(statement)), platform) as client:
        answer = await client.get("/transcript")
        assert answer.status_code == 503
        assert set(answer.json()) == {"error", "detail"}
        assert "sk-abc" not in answer.text


async def test_what_json_cannot_say_in_utf8_is_replaced(make_workspace: Make, platform: FakePlatform) -> None:
    statement = "return {'lines': ['a' + chr(0xd800)]}"
    async with asking(make_workspace(adapter(statement)), platform) as client:
        assert json.loads((await client.get("/transcript")).content) == {"lines": ["a?"]}
