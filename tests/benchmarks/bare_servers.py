"""The peers that servers of ours are measured against: a bare starlette endpoint, a bare proxy on httpx, an agent that answers at once.

python -m tests.benchmarks.bare_servers endpoint|agent|proxy [TARGET]    prints its URL, serves until it is killed
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

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
    app = proxy(sys.argv[2]) if kind == "proxy" else Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    config = uvicorn.Config(app, log_config=None, access_log=False, http="h11", ws="none", lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
