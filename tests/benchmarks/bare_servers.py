"""The peers that servers of ours are measured against: a bare starlette endpoint, a bare proxy on httpx, an agent that answers at once,
the smallest agent that can be written with the A2A SDK, and a platform that takes whatever a host tells it.

python -m tests.benchmarks.bare_servers endpoint|agent|proxy|sdk|platform [TARGET]    prints its URL, serves until it is killed
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

ANSWER = b'{"jsonrpc":"2.0","id":"1","result":{"kind":"message","role":"agent","messageId":"m","parts":[{"kind":"text","text":"hello"}]}}'


async def endpoint(request: Request) -> Response:
    """Read a JSON body and answer a JSON body."""
    await request.json()
    return JSONResponse({"status": "ok"})


def proxy(target: str) -> Starlette:
    """Return an application that passes a body on and the answer back."""
    client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None, max_keepalive_connections=64))

    async def forward(request: Request) -> Response:
        headers = {"Content-Type": "application/json"}
        answer = await client.post(target, content=await request.body(), headers=headers)
        return Response(answer.content, answer.status_code, media_type="application/json")

    return Starlette(routes=[Route("/", forward, methods=["POST"])])


def platform() -> Starlette:
    """Return an application that registers a workspace and hears its heartbeats."""

    async def taken(request: Request) -> Response:
        await request.body()
        return JSONResponse({"status": "ok"})

    async def nothing(_: Request) -> Response:
        return JSONResponse([])

    return Starlette(
        routes=[Route("/registry/{what}", taken, methods=["POST"]), Route("/{rest:path}", nothing, methods=["GET"])]
    )


def sdk_echo(url: str) -> Starlette:
    """Return the smallest agent on the A2A SDK: it repeats what it is told, and answers both versions of the protocol."""
    # Here, not above: no other peer needs it, and it takes most of a second.
    from a2a.helpers import new_text_message
    from a2a.server.agent_execution import AgentExecutor, RequestContext
    from a2a.server.request_handlers import DefaultRequestHandler
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
    from a2a.server.tasks import InMemoryTaskStore
    from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill

    class Echo(AgentExecutor):
        async def execute(self, context: RequestContext, event_queue: Any) -> None:
            text = f"You said: {context.get_user_input()}"
            await event_queue.enqueue_event(new_text_message(text, context_id=context.context_id))

        async def cancel(self, context: RequestContext, event_queue: Any) -> None:
            raise NotImplementedError

    card = AgentCard(
        name="echo",
        description="Repeats what it is told.",
        version="1",
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="Echo", description="Repeats.", tags=["echo"])],
    )
    handler = DefaultRequestHandler(agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=card)
    rpc = create_jsonrpc_routes(handler, rpc_url="/", enable_v0_3_compat=True)
    return Starlette(routes=[*create_agent_card_routes(card), *rpc])


class Agent(asyncio.Protocol):
    """Answers every request with the same message; as little work as can be, so that the proxies are what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
            if isinstance(self._transport, asyncio.WriteTransport):
                self._transport.write(head + ANSWER)


async def serve_agent(listener: socket.socket) -> None:
    """Serve the agent until cancelled."""
    server = await asyncio.get_running_loop().create_server(Agent, sock=listener)
    await server.serve_forever()


def main() -> None:
    """Serve what the first argument names."""
    kind = sys.argv[1]
    # With its protocol named, as uvicorn's own sockets: asyncio turns Nagle's algorithm off only then.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    if kind == "agent":
        asyncio.run(serve_agent(listener))
        return
    match kind:
        case "proxy":
            app = proxy(sys.argv[2])
        case "platform":
            app = platform()
        case "sdk":
            app = sdk_echo(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        case _:
            app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    config = uvicorn.Config(app, log_config=None, access_log=False, http="h11", ws="none", lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
