"""Every tool through three views, for one tenant and for two with platforms of their own, and not a byte of one at the other."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
from jsonschema import Draft202012Validator
from tests.support.tenants import bearer

from molecule_runtime.core import registry

from .cases import ANSWER_FOR_ALL, CASES, TAKES_NO_WORKSPACE
from .sides import SECONDS, Side, side
from .views import VIEWS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from .cases import Case
    from .views import View

pytestmark = pytest.mark.anyio

ORG = "org-of-acme-0001"
CONFIG = "tier: 3\nrbac:\n  roles: [operator]\nsandbox:\n  timeout: 20\n"
VALIDATORS = {spec.name: Draft202012Validator(spec.output_schema) for spec in registry.TOOLS}


@asynccontextmanager
async def tenants(folder: Path) -> AsyncGenerator[tuple[Side, Side]]:
    """Acme, whose platform asks for its organisation, and Globex."""
    async with side("acme", folder, org_id=ORG) as acme, side("globex", folder) as globex:
        yield acme, globex


def environ(folder: Path, first: Side, *others: Side) -> Mapping[str, str]:
    """All that a process is told."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    (state / "config.yaml").write_text(CONFIG, encoding="utf-8")
    variables = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "CONFIGS_DIR": str(state),
        "MOLECULE_FILES_DIR": str(folder / "files"),
        "PLATFORM_URL": first.tenant.url,
        "MOLECULE_ORG_ID": first.org_id,
        "PYTHONWARNINGS": "error",
    }
    if others:
        return {**variables, "MOLECULE_WORKSPACES": json.dumps([each.entry() for each in (first, *others)])}
    return {**variables, "WORKSPACE_ID": first.ours.id, "MOLECULE_WORKSPACE_TOKEN": first.ours.token}


@asynccontextmanager
async def opened(name: str, folder: Path, first: Side, *others: Side) -> AsyncGenerator[View]:
    with anyio.fail_after(2 * SECONDS):
        async with VIEWS[name](folder, environ(folder, first, *others)) as view:
            for each in (first, *others):
                each.served = [one.ours.id for one in (first, *others)]
                await each.online()
            yield view


async def check(view: View, case: Case, acting: Side) -> None:
    """Make a call of a case and hold its answer to what the case and the tool's schema say."""
    if case.before is not None:
        await case.before(acting)
    names = {} if case.tool in TAKES_NO_WORKSPACE else acting.names
    with anyio.fail_after(SECONDS):
        answer = await view.call(case.tool, {**case.arguments(acting), **names})
    assert answer.is_error is case.refused, (case.tool, answer)
    if not answer.is_error:
        VALIDATORS[case.tool].validate(answer.data)  # pyright: ignore[reportUnknownMemberType]
    assert case.holds(acting, answer), (case.tool, answer)


def assert_apart(one: Side, other: Side) -> None:
    """Nothing of one tenant reached the other, and no peer saw the token of who talks to it."""
    for here, foreign in ((one, other), (other, one)):
        seen = here.seen_by_others()
        assert [word for word in foreign.secrets() if word.encode() in seen] == []
        assert here.ours.token not in json.dumps([(each.headers, each.body) for each in here.agent.received])


def test_the_cases_are_one_for_every_tool() -> None:
    assert sorted(case.tool for case in CASES) == sorted(registry.tool_names())


@pytest.mark.parametrize("where", ["address", "headers", "body"])
async def test_a_word_of_one_tenant_is_found_wherever_it_stands_in_a_request_to_the_other(
    where: str, tmp_path: Path
) -> None:
    async with tenants(tmp_path) as (acme, globex), httpx.AsyncClient(trust_env=False) as http:
        assert_apart(acme, globex)
        await http.post(
            f"{acme.tenant.url}/workspaces/{globex.ours.id if where == 'address' else 'x'}/notify",
            headers=bearer(globex.ours) if where == "headers" else {},
            json={"message": globex.marker if where == "body" else "x"},
        )
        with pytest.raises(AssertionError):
            assert_apart(acme, globex)


@pytest.mark.parametrize("name", VIEWS)
async def test_every_tool_serves_one_tenant_alone(name: str, tmp_path: Path) -> None:
    async with tenants(tmp_path) as (acme, globex):
        async with opened(name, tmp_path, acme) as view:
            for case in CASES:
                await check(view, case, acme)
        assert globex.front.received == []
        assert_apart(acme, globex)
        own = acme.seen_by_others()
        assert all(word.encode() in own for word in (acme.ours.token, acme.ours.id, acme.marker, ORG))


@pytest.mark.parametrize("name", VIEWS)
async def test_every_tool_serves_two_tenants_apart(name: str, tmp_path: Path) -> None:
    async with tenants(tmp_path) as (acme, globex):
        async with opened(name, tmp_path, acme, globex) as view:
            for acting in (acme, globex):
                acting.names = {"source_workspace_id": acting.ours.id}
            for case in CASES:
                for acting in (acme, globex):
                    await check(view, case, acting)
            # Who does not say who acts is asked to, and nothing is done meanwhile.
            for case in CASES:
                if case.tool in ANSWER_FOR_ALL:
                    continue
                answer = await view.call(case.tool, case.arguments(acme))
                assert answer.is_error, case.tool
                assert f"name one in source_workspace_id: {acme.ours.id}, {globex.ours.id}" in answer.text, case.tool
            everybody = await view.call("list_peers", {})
            assert {row["id"] for row in everybody.data["peers"]} == {acme.lead.id, globex.lead.id}
        assert_apart(acme, globex)
        for each in (acme, globex):
            own = each.seen_by_others()
            assert all(word.encode() in own for word in (each.ours.token, each.ours.id, each.marker))
