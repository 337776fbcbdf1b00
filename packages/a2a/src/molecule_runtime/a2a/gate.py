"""The gate that every request passes first: browsers are kept out, senders are authenticated, and size, time and number are bounded.

What is not named here as something else is A2A, so that a binding that is added later is guarded from its first day.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.to_thread

from molecule_runtime.a2a import inbound
from molecule_runtime.a2a.authentication import InboundAuth, platform_secret_of
from molecule_runtime.a2a.bodies import Body, declared_size, header_values, too_large
from molecule_runtime.a2a.refusals import CLOSE, Refusal
from molecule_runtime.a2a.uploads import MAX_FORM_BYTES
from molecule_runtime.core.bearer import bearer_matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from molecule_runtime.a2a.settings import HostSettings
    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.tokens import TokenSource


class Side(Enum):
    """Which face of the host a path belongs to."""

    OPEN = "open"
    TRANSCRIPT = "transcript"
    UPLOAD = "upload"
    INTERNAL = "internal"
    A2A = "a2a"


CARD_PATHS = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""The second is the name before A2A 0.3 (contract `platform-api.md` 18)."""

OPEN_PATHS = frozenset({"/health", "/ready", *CARD_PATHS})
TRANSCRIPT_PATH = "/transcript"
INTERNAL_PREFIX = "/internal/"
UPLOAD_PATH = "/internal/chat/uploads/ingest"
FILE_PATH = "/internal/file/read"
RPC_PATHS = ("/", "/a2a")

BODY_SECONDS = 30.0
"""For the body of a request to arrive."""

UPLOAD_SECONDS = 120.0
"""For the files of a chat to arrive (contract `platform-api.md` 24.9)."""

RETRY_SECONDS = 5
"""What whoever comes when all places are taken is told to wait."""

MOST: Mapping[Side, int] = {Side.TRANSCRIPT: 4, Side.UPLOAD: 4, Side.INTERNAL: 16}
"""Requests at once; that of A2A is `a2a.max_requests`."""

_PRIVATE_SUFFIXES = (".localhost", ".internal", ".local")
_MAX_KNOWN_HOSTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """What the gate of one host goes by.

    Attributes:
        auth: for A2A.
        token: of the workspace, for its transcript.
        platform_secret: for what only the platform may ask.
        hosts: names under which this host is reached, besides those that no foreign page can have.
        max_requests: of A2A, at once.
        body_seconds: for a body to arrive.
        upload_seconds: for an upload to arrive.
    """

    auth: InboundAuth
    token: TokenSource
    platform_secret: TokenSource
    hosts: frozenset[str] = field(default_factory=frozenset[str])
    max_requests: int
    body_seconds: float
    upload_seconds: float


def rules_of(settings: HostSettings, config: WorkspaceConfig, auth: InboundAuth) -> GateRules:
    """Return the rules of a host."""
    own = urlsplit(settings.workspace_url).hostname if settings.workspace_url else None
    names = (own, settings.bind_host, settings.hostname, *config.a2a.allowed_hosts)
    return GateRules(
        auth=auth,
        token=settings.target.token,
        platform_secret=platform_secret_of(settings),
        hosts=frozenset(name.lower().rstrip(".") for name in names if name),
        max_requests=config.a2a.max_requests,
        body_seconds=BODY_SECONDS,
        upload_seconds=UPLOAD_SECONDS,
    )


class Gate:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, rules: GateRules) -> None:
        self._app = app
        self._rules = rules
        self._most = {**MOST, Side.A2A: rules.max_requests}
        self._taken = dict.fromkeys(Side, 0)
        self._known_hosts: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        side = side_of(scope["path"])
        seconds = self._rules.upload_seconds if side is Side.UPLOAD else self._rules.body_seconds
        body = Body(scope, receive, seconds=seconds)
        try:
            self._keep_browsers_out(scope)
            await self._authenticate(side, scope)
            self._enter(side)
        except Refusal as refusal:
            await _refuse(refusal, scope, body, send)
            return
        try:
            passed = await _passed(side, scope, body)
        except Refusal as refusal:
            await _refuse(refusal, scope, body, send)
        else:
            await self._app(scope, passed, _draining(body, send) if body.more else send)
        finally:
            self._taken[side] -= 1

    def _keep_browsers_out(self, scope: Scope) -> None:
        if header_values(scope, b"transfer-encoding") and header_values(scope, b"content-length"):
            # Two lengths of one body: whoever reads the other one takes the rest for a request of its own (RFC 9112, 6.1).
            hint = "send Content-Length or Transfer-Encoding, not both"
            raise Refusal(400, "not a valid HTTP request", hint=hint, headers=CLOSE)
        if header_values(scope, b"origin"):
            # Only browsers say it, and no page belongs to this server.
            hint = "agents send no Origin header; a page can ask the platform instead"
            raise Refusal(403, "browsers are not served", hint=hint, headers=CLOSE)
        # A page whose name was made to lead here says that name. What says none (HTTP/1.0) is no browser.
        if not all(self._is_ours(host) for host in header_values(scope, b"host")):
            hint = "reach it under its address or its own name, or add the name to a2a.allowed_hosts in config.yaml"
            raise Refusal(403, "host not allowed", hint=hint, headers=CLOSE)

    async def _authenticate(self, side: Side, scope: Scope) -> None:
        match side:
            case Side.OPEN:
                return
            case Side.TRANSCRIPT:
                source, hint = self._rules.token, "send the workspace's own token as Authorization: Bearer"
            case Side.UPLOAD | Side.INTERNAL:
                source, hint = self._rules.platform_secret, "only the platform may ask this, with its inbound secret"
            case Side.A2A:
                if self._rules.auth.secret is None:
                    return
                source, hint = self._rules.auth.secret, "the agent card says which bearer token to send"
        expected = await anyio.to_thread.run_sync(source.read)
        if not bearer_matches(expected, scope["headers"]):
            headers = {"WWW-Authenticate": 'Bearer realm="molecule-runtime"'}
            raise Refusal(401, "unauthorized", hint=hint, headers=headers)

    def _enter(self, side: Side) -> None:
        most = self._most.get(side)
        if most is not None and self._taken[side] >= most:
            hint = f"{most} are served; ask again in {RETRY_SECONDS} s"
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise Refusal(503, "too many requests at once", hint=hint, headers=headers)
        self._taken[side] += 1

    def _is_ours(self, host_header: bytes) -> bool:
        known = self._known_hosts.get(host_header)
        if known is None:
            if len(self._known_hosts) >= _MAX_KNOWN_HOSTS:
                self._known_hosts.clear()
            known = self._known_hosts[host_header] = is_own_name(host_header.decode("latin-1"), self._rules.hosts)
        return known


def side_of(path: str) -> Side:
    """Return which face of the host a path belongs to."""
    if path in OPEN_PATHS:
        return Side.OPEN
    if path == TRANSCRIPT_PATH:
        return Side.TRANSCRIPT
    if path.startswith(INTERNAL_PREFIX):
        return Side.UPLOAD if path == UPLOAD_PATH else Side.INTERNAL
    return Side.A2A


def is_own_name(host_header: str, names: frozenset[str]) -> bool:
    """Tell whether a `Host` is one that a foreign page cannot have made lead here.

    An address cannot be, nor a name without a dot (a container on its network) or under a suffix that the public DNS does not have.
    """
    try:
        parts = urlsplit(f"//{host_header}")
        host = (parts.hostname or "").rstrip(".")
        # Read for its check.
        _ = parts.port
    except ValueError:
        return False
    if not host or parts.path or parts.query or parts.fragment or parts.username is not None:
        return False
    if host in names or "." not in host or host.endswith(_PRIVATE_SUFFIXES):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _passed(side: Side, scope: Scope, body: Body) -> Receive:
    if not body.more:
        return body.receive
    most = MAX_FORM_BYTES if side is Side.UPLOAD else inbound.MAX_BODY_BYTES
    if (declared_size(scope) or 0) > most:
        raise too_large(most)
    return body.receive if side is Side.UPLOAD else await body.whole(most)


def _draining(body: Body, send: Send) -> Send:
    """Return a `send` that first reads what is left of a body that was refused half-way."""

    async def send_after_the_rest(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            await body.drain()
        await send(message)

    return send_after_the_rest


async def _refuse(refusal: Refusal, scope: Scope, body: Body, send: Send) -> None:
    await body.drain()
    if body.more:
        refusal.headers.update(CLOSE)
    await _rendered(refusal, scope["path"])(scope, body.receive, send)


def _rendered(refusal: Refusal, path: str) -> Response:
    if path not in RPC_PATHS:
        return refusal.response()
    # A caller of JSON-RPC reads errors in that form.
    response = inbound.error_response(
        None,
        status=refusal.status,
        code=inbound.INVALID_REQUEST,
        message=f"{refusal.error}: {refusal.hint}" if refusal.hint else refusal.error,
    )
    response.headers.update(refusal.headers)
    return response
