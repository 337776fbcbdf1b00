"""What every request passes first, and what every answer carries."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from molecule_runtime.localplatform import LocalSettings, create_app, serve

if TYPE_CHECKING:
    from .support import World

pytestmark = pytest.mark.anyio


def port_of(world: World) -> str:
    return world.platform.url.rsplit(":", 1)[1]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1", "null", "", "http://[", "file://"]
)
async def test_a_foreign_origin_is_a_403_without_a_body(world: World, origin: str) -> None:
    answer = await world.http.get("/health", headers={"Origin": origin.format(port=port_of(world))})
    assert (answer.status_code, answer.content) == (403, b"")


async def test_the_platforms_own_origin_passes(world: World) -> None:
    assert (await world.http.get("/health", headers={"Origin": world.platform.url})).status_code == 200
    under_another_name = {"Origin": f"http://localhost:{port_of(world)}", "Host": f"localhost:{port_of(world)}"}
    assert (await world.http.get("/health", headers=under_another_name)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:{port}",
        "10.0.0.1",
        "0.0.0.0:{port}",
        "a/b",
        "x@127.0.0.1",
        "127.0.0.1:x",
    ],
)
async def test_a_foreign_host_name_is_refused(world: World, host: str) -> None:
    answer = await world.http.get("/health", headers={"Host": host.format(port=port_of(world))})
    assert (answer.status_code, answer.json()["error"]) == (403, "host not allowed")


async def test_a_request_without_a_host_is_refused(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port_of(world)))
    writer.write(b"GET /health HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"403"
    writer.close()
    await writer.wait_closed()


async def test_further_host_names_can_be_allowed(settings: LocalSettings) -> None:
    settings = replace(settings, allowed_hosts=("Host.Docker.Internal",))
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        assert (await http.get("/health", headers={"Host": "host.docker.internal:8080"})).status_code == 200
        assert (await http.get("/health", headers={"Host": "other.docker.internal"})).status_code == 403


async def test_every_answer_is_json_and_carries_the_security_headers(world: World) -> None:
    requests = [
        ("GET", "/health", 200),
        ("GET", "/healthz", 200),
        ("GET", "/nope", 404),
        ("GET", "/workspaces/x/nope", 404),
        ("GET", "/health/", 404),
        ("PUT", "/health", 405),
        ("GET", "/registry/register", 405),
        ("GET", "/workspaces", 401),
        ("GET", "/workspaces/NOT-OK", 400),
        ("GET", "/workspaces/nobody", 404),
    ]
    for method, path, status in requests:
        answer = await world.http.request(method, path)
        assert (path, answer.status_code) == (path, status)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["content-security-policy"] == "default-src 'self'"
        assert isinstance(answer.json(), dict)
        if status >= 400:
            assert answer.json()["error"]


async def test_a_wrong_method_names_the_right_ones(world: World) -> None:
    answer = await world.http.put("/workspaces/x/tokens")
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})


@pytest.mark.parametrize("identifier", ["UPPER", "a_b", "-a", "a" * 129, "%20a", "a%0a", "..%2Fx"])
async def test_a_bad_workspace_id_in_the_path_is_a_400(world: World, identifier: str) -> None:
    for path in (f"/workspaces/{identifier}/activity", f"/registry/{identifier}/peers"):
        answer = await world.http.get(path, headers=world.admin)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid workspace ID")


async def test_a_json_body_over_its_limit_is_a_413(world: World) -> None:
    answer = await world.http.post("/registry/heartbeat", content=b'{"x":"' + b"x" * 300_000 + b'"}')
    assert (answer.status_code, answer.json()["error"]) == (413, "request body too large")


async def test_the_app_runs_under_any_asgi_server(settings: LocalSettings) -> None:
    app = create_app(replace(settings, allowed_hosts=("testserver",)))
    started, stop = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, str]:
        if not started.is_set():
            return {"type": "lifespan.startup"}
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: object) -> None:
        del message
        started.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))  # type: ignore[arg-type]
        await started.wait()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            assert (await http.get("/health")).json() == {"status": "ok"}
            assert (await http.get("/workspaces")).status_code == 401
        stop.set()
