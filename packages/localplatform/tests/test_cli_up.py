"""What `molecule-local up` is started with reaches the platform that runs, and the other commands find it."""

from __future__ import annotations

import json
import resource
import socket
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from .shell import environment, ran, started

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def register(url: str, made: dict[str, Any], agent_url: str, **headers: str) -> httpx.Response:
    body = {"id": made["id"], "url": agent_url, "agent_card": {"name": "alice"}}
    token = {"Authorization": f"Bearer {made['connection']['auth_token']}"}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        return await http.post("/registry/register", json=body, headers={**token, **headers})


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        ("local", {"http://127.0.0.1:9/": True, "http://10.1.2.3/": False, "http://1.1.1.1/": True}),
        ("private", {"http://127.0.0.1:9/": True, "http://10.1.2.3/": True, "http://169.254.169.254/": False}),
        ("strict", {"http://127.0.0.1:9/": False, "http://10.1.2.3/": False, "http://1.1.1.1/": True}),
    ],
)
async def test_the_rule_for_urls(rule: str, admitted: dict[str, bool], data: Path) -> None:
    async with started(data, "up", "--port", "0", "--json", "--url-rule", rule) as platform:
        url = json.loads(await platform.out_line())["url"]
        made = (await ran(data, "workspace", "create", "alice", "--external", "--json")).data
        for agent_url, expected in admitted.items():
            assert (await register(url, made, agent_url)).is_success is expected, agent_url


async def test_the_rate_limit(data: Path) -> None:
    async with started(data, "up", "--port", "0", "--json", "--rate-limit", "5") as platform:
        url = json.loads(await platform.out_line())["url"]
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            codes = [(await http.get("/health")).status_code for _ in range(7)]
        assert codes == [200] * 5 + [429] * 2
        done = await ran(data, "status")
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert "rate limit exceeded; try again in " in done.err


async def test_an_organisation_is_served_alone_and_our_commands_belong_to_it(data: Path) -> None:
    async with started(data, "up", "--port", "0", "--json", "--org-id", "org-7") as platform:
        url = json.loads(await platform.out_line())["url"]
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/openapi.json")).status_code == 404
        made = (await ran(data, "workspace", "create", "alice", "--external", "--poll", "--json")).data
        assert "alice" in (await ran(data, "status")).said
        assert "alice" in (await ran(data, "logs")).said
        connection = (await ran(data, "connect", made["id"], "--json")).data
        assert connection["variables"]["MOLECULE_ORG_ID"] == "org-7"
        done = await ran(data, "status", "--url", url, MOLECULE_ORG_ID="org-7")
        assert "alice" in done.said
        done = await ran(data, "workspace", "list", "--url", url)
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert "MOLECULE_ORG_ID" in done.err
        done = await ran(data, "logs", "--url", url)
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert "MOLECULE_ORG_ID" in done.err


async def test_results_of_delegations_are_left_in_the_inbox_too(data: Path) -> None:
    async with started(data, "up", "--port", "0", "--json", "--delegation-results-in-inbox") as platform:
        url = json.loads(await platform.out_line())["url"]
        made = (await ran(data, "workspace", "create", "alice", "--external", "--poll", "--json")).data
        token = {"Authorization": f"Bearer {made['connection']['auth_token']}"}
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers=token) as http:
            body = {"target_id": "00000000-0000-0000-0000-000000000000", "task": "rest"}
            await http.post(f"/workspaces/{made['id']}/delegate", json=body)
            async with started(data, "logs", "-f") as watcher:
                assert "finds a result in its inbox: rest" in await watcher.out_with("inbox")
            rows = (await http.get(f"/workspaces/{made['id']}/activity?type=a2a_receive")).json()
    assert [row["method"] for row in rows] == ["delegate_result"]


async def test_an_admin_token_of_another_folder_is_explained(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "admin_token").write_text("wrong")
    async with started(data, "up", "--port", "0", "--json") as platform:
        done = await ran(other, "status", "--url", json.loads(await platform.out_line())["url"])
    assert done.code == 1
    assert "--data" in done.err


async def test_a_taken_port_is_one_line_and_exit_code_2(data: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        async with started(data, "up", "--port", str(other.getsockname()[1])) as refused:
            done = await refused.finish()
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "--port" in done.err


async def test_a_second_platform_on_the_same_data_is_refused(data: Path) -> None:
    async with started(data, "up", "--port", "0", "--json") as platform:
        await platform.out_line()
        async with started(data, "up", "--port", "0") as refused:
            done = await refused.finish()
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "in use" in done.err


async def test_a_platform_that_does_not_run_is_exit_code_1(data: Path) -> None:
    await anyio.Path(data).mkdir()
    await anyio.Path(data / "admin_token").write_text("x")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = await ran(data, "workspace", "list", "--url", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "molecule-local up" in done.err


async def test_as_many_files_may_be_open_as_the_system_allows(data: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]));"
        "from molecule_runtime.localplatform.commands.up import raise_open_files; raise_open_files();"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    process = await anyio.run_process([sys.executable, "-c", code], env=environment(data))
    soft, hard = map(int, process.stdout.split())
    assert soft == hard or hard == resource.RLIM_INFINITY
    assert soft > 64
