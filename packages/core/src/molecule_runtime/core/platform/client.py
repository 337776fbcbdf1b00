"""The one client of the platform, bound to one workspace for life.

It sends that workspace's credentials to that workspace's origin and nowhere else. There is no module state: N workspaces are N
clients, and nothing can be mixed up between them.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
import uuid
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import quote, urljoin

import anyio
import httpx
from pydantic import TypeAdapter, ValidationError

from molecule_runtime.core import envelope, trace_context
from molecule_runtime.core.errors import (
    AccessDeniedError,
    CredentialRejectedError,
    GoneError,
    NotFoundError,
    NotServedError,
    PlatformError,
    PlatformTimeoutError,
    PlatformUnreachableError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
    UnexpectedResponseError,
)
from molecule_runtime.core.identity import origin_of, validate_workspace_id
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.activity_rows import read_activity
from molecule_runtime.core.platform.multipart import FilesForm
from molecule_runtime.core.platform.wire.boot import ResolvedInstructions, SharedFile
from molecule_runtime.core.platform.wire.desktop import DesktopControl, DesktopDone
from molecule_runtime.core.platform.wire.files import UploadAck, UploadedFile, UploadResponse
from molecule_runtime.core.platform.wire.memory import (
    Memory,
    MemoryList,
    MemoryNamespaces,
    MemoryRow,
    RememberRequest,
    RememberResponse,
)
from molecule_runtime.core.platform.wire.plugins import InstallPluginRequest, InstallPluginResponse
from molecule_runtime.core.platform.wire.requests import (
    AddMessageRequest,
    AddMessageResponse,
    ApprovalRow,
    CreateApprovalRequest,
    CreateApprovalResponse,
    CreateRequest,
    CreateRequestResponse,
    DecideResponse,
    RequestDetail,
    RequestOutcome,
    RequestRow,
    RespondRequest,
)
from molecule_runtime.core.platform.wire.workspaces import BroadcastRequest, BroadcastResponse
from molecule_runtime.core.redaction import MIN_VALUE_CHARS, redact_text
from molecule_runtime.core.secretfile import secret_problem
from molecule_runtime.core.tokens import StaticToken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from molecule_runtime.core.platform.multipart import FormFile
    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.core.targets import WorkspaceTarget

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 10.0
"""Seconds; contract `runtime.md` 18."""

NOTIFY_TIMEOUT = 60.0
"""Seconds; contract `runtime.md` 18."""

A2A_CONNECT_TIMEOUT = 30.0
"""Seconds; contract `runtime.md` 7.1."""

A2A_READ_TIMEOUT = 300.0
"""Seconds; contract `runtime.md` 7.1."""

MAX_RESPONSE_BYTES = 10 * 1024 * 1024
"""The proxy's own cap on an answer (contract `platform-api.md` 21)."""

MAX_UPLOAD_BYTES = 25 * 1024 * 1024
"""Of one file that waits for the workspace (contract `platform-api.md` 10.1)."""

UPLOAD_TIMEOUT = 60.0
"""Seconds; contract `runtime.md` 18."""

BROADCAST_TIMEOUT = 30.0
"""Seconds; contract `runtime.md` 7.6."""

INSTALL_TIMEOUT = 300.0
"""Seconds; contract `runtime.md` 7.6."""

REQUEST_TIMEOUT = 20.0
"""Seconds; contract `runtime.md` 7.9."""

DESKTOP_TIMEOUT = 30.0
"""Seconds; contract `runtime.md` 7.11."""

MAX_A2A_REQUEST_BYTES = 1024 * 1024
"""The proxy's cap on a message (contract `platform-api.md` 21); checked here so that the sender learns why."""

_OPAQUE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_REDIRECTS = 3
_SEND_ATTEMPTS = 5
_SEND_BACKOFF_CAP = 16.0
_SHOWN_CHARS = 400
"""Of what the platform says in a refusal; credentials are taken out before it is cut."""

_CLOSE_TIMEOUT = 5.0

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

_T = TypeVar("_T")


def _reader_of(kind: type[_T]) -> Callable[[object], _T]:
    """Return what reads an answer that is no model. It is made when the first comes: most processes ask for few of them."""
    adapter = cache(lambda: TypeAdapter(kind))
    return lambda data: adapter().validate_python(data)


_peers = _reader_of(list[wire.Peer])
_delegations = _reader_of(list[wire.Delegation])
_shared_files = _reader_of(list[SharedFile])
_memories = _reader_of(list[MemoryRow])
_requests = _reader_of(list[RequestRow])
_approvals = _reader_of(list[ApprovalRow])


@dataclass(frozen=True, slots=True)
class Download:
    """A file that the platform gave out: its bytes, and the type that it stated, `""` for none."""

    content: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes


class PlatformClient:
    """Calls the platform as one workspace.

    Every method raises a `PlatformError` when the platform did not do what was asked, and every wait has a deadline in seconds.
    A 401 is answered by reading the token source once more; the call is repeated when the token has changed since.
    """

    def __init__(
        self, target: WorkspaceTarget, pools: ConnectionPools, *, user_agent: str = "molecule-runtime"
    ) -> None:
        self.target = target
        self._origin = origin_of(target.platform_url)
        # Without the client of httpx above it: of a heartbeat's time a fifth went into what it does for browsers (cookies, redirects,
        # schemes of authentication), and a thousand workspaces send fifty of them each second.
        self._transport = pools.transport(target.platform_url)
        self._closed = False
        self._fixed_headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "Connection": "keep-alive",
            "User-Agent": user_agent,
        }

    @property
    def workspace_id(self) -> str:
        """The workspace that this client acts for."""
        return self.target.id

    # --- registry ---------------------------------------------------------------------------------------------------------

    async def register(
        self, request: wire.RegisterRequest, *, timeout: float = DEFAULT_TIMEOUT
    ) -> wire.RegisterResponse:
        """`POST /registry/register`. `auth_token` in the answer comes once: save it before anything else."""
        return await self._call(
            "POST",
            "/registry/register",
            wire.RegisterResponse.model_validate,
            json_body=request.body(),
            timeout=timeout,
        )

    async def heartbeat(
        self, request: wire.HeartbeatRequest, *, timeout: float = DEFAULT_TIMEOUT
    ) -> wire.HeartbeatResponse:
        """`POST /registry/heartbeat`."""
        return await self._call(
            "POST",
            "/registry/heartbeat",
            wire.HeartbeatResponse.model_validate,
            json_body=request.body(),
            timeout=timeout,
        )

    async def update_card(
        self, agent_card: Mapping[str, Any], *, timeout: float = DEFAULT_TIMEOUT
    ) -> wire.StatusResponse:
        """`POST /registry/update-card`."""
        request = wire.UpdateCardRequest(workspace_id=self.target.id, agent_card=dict(agent_card))
        return await self._call(
            "POST",
            "/registry/update-card",
            wire.StatusResponse.model_validate,
            json_body=request.body(),
            timeout=timeout,
        )

    async def discover(self, workspace_id: str, *, timeout: float = DEFAULT_TIMEOUT) -> wire.Discovered:
        """`GET /registry/discover/:id`: name and URL of a workspace that this one may talk to."""
        path = f"/registry/discover/{_segment(workspace_id)}"
        return await self._call("GET", path, wire.Discovered.model_validate, identify=True, timeout=timeout)

    async def peers(self, *, timeout: float = DEFAULT_TIMEOUT) -> list[wire.Peer]:
        """`GET /registry/:id/peers`: parent, siblings and children."""
        return await self._call("GET", f"/registry/{self.target.id}/peers", _peers, timeout=timeout)

    # --- the workspace itself ---------------------------------------------------------------------------------------------

    async def workspace(self, workspace_id: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> wire.Workspace:
        """`GET /workspaces/:id`: this workspace's row, or another's.

        Raises:
            GoneError: the workspace was removed.
        """
        path = f"/workspaces/{_segment(self.target.id if workspace_id is None else workspace_id)}"
        return await self._call("GET", path, wire.Workspace.model_validate, timeout=timeout)

    async def instructions(self, *, timeout: float = DEFAULT_TIMEOUT) -> str:
        """`GET /workspaces/:id/instructions/resolve`: the platform's rules for this workspace, one markdown text; `""` for none.

        Raises:
            NotFoundError: an older platform, which has no rules.
        """
        path = self._own("instructions/resolve")
        return (await self._call("GET", path, ResolvedInstructions.model_validate, timeout=timeout)).instructions

    async def shared_context(self, *, timeout: float = DEFAULT_TIMEOUT) -> list[SharedFile]:
        """`GET /workspaces/:id/shared-context`: the files that the parent shares with this workspace; none without a parent.

        Raises:
            NotFoundError: a newer platform, where parents share nothing (contract `platform-api.md` 24).
        """
        return await self._call("GET", self._own("shared-context"), _shared_files, timeout=timeout)

    async def activity(
        self,
        *,
        type: str | None = None,
        since_id: str | None = None,
        since_secs: int | None = None,
        before_ts: str | None = None,
        peer_id: str | None = None,
        include_peer_info: bool = False,
        limit: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[wire.ActivityRow]:
        """`GET /workspaces/:id/activity`, in the server's order: ascending with `since_id`, newest first without.

        A row that cannot be read is an `activity_rows.UnreadRow`.

        Raises:
            GoneError: `since_id` was pruned; start again without it.
        """
        query: dict[str, str] = {}
        for name, value in (
            ("type", type),
            ("since_id", since_id),
            ("since_secs", since_secs),
            ("before_ts", before_ts),
            ("peer_id", peer_id),
            ("include", "peer_info" if include_peer_info else None),
            ("limit", limit),
        ):
            if value is not None:
                query[name] = str(value)
        return await self._call("GET", self._own("activity"), read_activity, query=query, timeout=timeout)

    async def acknowledge_activity(self, seq: int, *, timeout: float = DEFAULT_TIMEOUT) -> wire.AckResponse:
        """`POST /workspaces/:id/activity/ack`: the inbox up to this row was dealt with.

        Raises:
            NotFoundError: an older platform, which keeps rows by their age alone.
        """
        return await self._call(
            "POST",
            self._own("activity/ack"),
            wire.AckResponse.model_validate,
            json_body=wire.AckRequest(acked_seq=seq).body(),
            timeout=timeout,
        )

    async def log_activity(self, request: wire.ActivityRequest, *, timeout: float = 5.0) -> wire.StatusResponse:
        """`POST /workspaces/:id/activity`: best effort on the platform's side too."""
        return await self._call(
            "POST", self._own("activity"), wire.StatusResponse.model_validate, json_body=request.body(), timeout=timeout
        )

    async def notify(
        self, message: str, *, attachments: Sequence[wire.Attachment] = (), timeout: float = NOTIFY_TIMEOUT
    ) -> wire.StatusResponse:
        """`POST /workspaces/:id/notify`: a chat message to the human."""
        request = wire.NotifyRequest(message=message, attachments=list(attachments))
        return await self._call(
            "POST", self._own("notify"), wire.StatusResponse.model_validate, json_body=request.body(), timeout=timeout
        )

    async def pending_upload(self, file_id: str, *, timeout: float = UPLOAD_TIMEOUT) -> Download:
        """`GET /workspaces/:id/pending-uploads/:file_id/content`: a file that waits for this workspace, at most `MAX_UPLOAD_BYTES`.

        Raises:
            NotFoundError: it was acknowledged, or it expired.
        """
        path = self._own(f"pending-uploads/{uuid.UUID(file_id)}/content")
        return await self._ask("GET", path, _download, timeout=timeout, most=MAX_UPLOAD_BYTES)

    async def acknowledge_upload(self, file_id: str, *, timeout: float = DEFAULT_TIMEOUT) -> UploadAck:
        """`POST /workspaces/:id/pending-uploads/:file_id/ack`: the file was saved, and the platform need not keep it.

        Raises:
            NotFoundError: it expired.
        """
        path = self._own(f"pending-uploads/{uuid.UUID(file_id)}/ack")
        return await self._call("POST", path, UploadAck.model_validate, json_body={}, timeout=timeout)

    async def upload(self, files: Sequence[FormFile], *, timeout: float = UPLOAD_TIMEOUT) -> list[UploadedFile]:
        """`POST /workspaces/:id/chat/uploads`: store files for the chat, streamed; one answer for each, in their order."""
        form = FilesForm(files)
        read = UploadResponse.model_validate
        return (await self._call("POST", self._own("chat/uploads"), read, content=form, timeout=timeout)).files

    async def broadcast(self, message: str, *, timeout: float = BROADCAST_TIMEOUT) -> BroadcastResponse:
        """`POST /workspaces/:id/broadcast`: to every workspace that this one may talk to.

        Raises:
            AccessDeniedError: nobody enabled it for this workspace.
        """
        body = BroadcastRequest(message=message).body()
        read = BroadcastResponse.model_validate
        return await self._call("POST", self._own("broadcast"), read, json_body=body, timeout=timeout)

    async def install_plugin(self, source: str, *, timeout: float = INSTALL_TIMEOUT) -> InstallPluginResponse:
        """`POST /workspaces/:id/plugins`: install a plugin; a workspace that the platform runs restarts for it."""
        body = InstallPluginRequest(source=source).body()
        read = InstallPluginResponse.model_validate
        return await self._call("POST", self._own("plugins"), read, json_body=body, timeout=timeout)

    # --- memory -----------------------------------------------------------------------------------------------------------

    async def remember(self, request: RememberRequest, *, timeout: float = DEFAULT_TIMEOUT) -> RememberResponse:
        """`POST /workspaces/:id/memories`; both generations of the platform write here.

        Raises:
            AccessDeniedError: the scope is GLOBAL and the workspace is no root.
        """
        read = RememberResponse.model_validate
        return await self._call("POST", self._own("memories"), read, json_body=request.body(), timeout=timeout)

    async def memories(
        self, *, scope: str = "", text: str = "", limit: int = 50, timeout: float = DEFAULT_TIMEOUT
    ) -> list[MemoryRow]:
        """`GET /workspaces/:id/memories`: the older shape. Without a scope, what this workspace stored itself."""
        query = {"scope": scope, "q": text, "limit": str(limit)}
        named = {name: value for name, value in query.items() if value}
        return await self._call("GET", self._own("memories"), _memories, query=named, timeout=timeout)

    async def memory_namespaces(self, *, timeout: float = DEFAULT_TIMEOUT) -> MemoryNamespaces:
        """`GET /workspaces/:id/v2/namespaces`: where this workspace may read and write.

        Raises:
            NotFoundError: an older platform.
            UnavailableError: a platform whose memory is not configured.
        """
        path = self._own("v2/namespaces")
        return await self._call("GET", path, MemoryNamespaces.model_validate, timeout=timeout)

    async def memories_in(
        self,
        namespace: str,
        *,
        text: str = "",
        kind: str | None = None,
        limit: int = 50,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[Memory]:
        """`GET /workspaces/:id/v2/memories`: what one namespace holds, the newest or the best match first."""
        query = {"namespace": namespace, "q": text, "kind": kind or "", "limit": str(limit)}
        named = {name: value for name, value in query.items() if value}
        path = self._own("v2/memories")
        return (await self._call("GET", path, MemoryList.model_validate, query=named, timeout=timeout)).memories

    async def forget(self, memory_id: str, *, v2: bool, timeout: float = DEFAULT_TIMEOUT) -> wire.StatusResponse:
        """`DELETE /workspaces/:id/v2/memories/:id`, or without `v2/` on an older platform: a memory of this workspace.

        Raises:
            NotFoundError: there is none, or another workspace wrote it.
        """
        # Older servers answer 500 to what is no UUID (contract `platform-api.md` 8.1), and it never reaches a URL unread.
        path = self._own(f"{'v2/' if v2 else ''}memories/{uuid.UUID(memory_id)}")
        return await self._call("DELETE", path, wire.StatusResponse.model_validate, timeout=timeout)

    # --- the desktop ------------------------------------------------------------------------------------------------------

    async def desktop_screenshot(self, *, timeout: float = DESKTOP_TIMEOUT) -> Download:
        """`GET /workspaces/:id/desktop/screenshot`: a PNG.

        Raises:
            NotFoundError: this workspace has no desktop.
        """
        path = self._own("desktop/screenshot")
        return await self._ask("GET", path, _download, identify=True, timeout=timeout, most=MAX_UPLOAD_BYTES)

    async def desktop_input(self, event: Mapping[str, Any], *, timeout: float = DESKTOP_TIMEOUT) -> DesktopDone:
        """`POST /workspaces/:id/desktop/input`: one click, text, key or address.

        Raises:
            RequestRefusedError: `status` 409 while a person has control.
        """
        path = self._own("desktop/input")
        return await self._call(
            "POST", path, DesktopDone.model_validate, json_body=event, identify=True, timeout=timeout
        )

    async def desktop_control(self, *, timeout: float = DESKTOP_TIMEOUT) -> DesktopControl:
        """`GET /workspaces/:id/desktop/control`: whether a person has control."""
        path = self._own("desktop/control")
        return await self._call("GET", path, DesktopControl.model_validate, identify=True, timeout=timeout)

    # --- other agents -----------------------------------------------------------------------------------------------------

    async def delegate(
        self,
        target_id: str,
        task: str,
        *,
        idempotency_key: str,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> wire.DelegateResponse:
        """`POST /workspaces/:id/delegate`: start a durable delegation. 202 (new) and 200 (same key again) are both success.

        `metadata` goes into that of the message; a platform that does not know it ignores it.
        """
        request = wire.DelegateRequest(
            target_id=validate_workspace_id(target_id), task=task, idempotency_key=idempotency_key
        )
        if metadata is not None:
            request.metadata = dict(metadata)
        return await self._call(
            "POST",
            self._own("delegate"),
            wire.DelegateResponse.model_validate,
            json_body=request.body(),
            timeout=timeout,
        )

    async def delegations(self, *, timeout: float = DEFAULT_TIMEOUT) -> list[wire.Delegation]:
        """`GET /workspaces/:id/delegations`: newest first, at most 50."""
        return await self._call("GET", self._own("delegations"), _delegations, timeout=timeout)

    async def record_delegation(
        self, target_id: str, task: str, delegation_id: str, *, timeout: float = DEFAULT_TIMEOUT
    ) -> wire.StatusResponse:
        """`POST /workspaces/:id/delegations/record`: put a task that this workspace sent itself on the books."""
        body = wire.RecordDelegationRequest(
            target_id=validate_workspace_id(target_id), task=task, delegation_id=delegation_id
        ).body()
        path = self._own("delegations/record")
        return await self._call("POST", path, wire.StatusResponse.model_validate, json_body=body, timeout=timeout)

    async def queued_message(
        self, target_id: str, queue_id: str, *, timeout: float = DEFAULT_TIMEOUT
    ) -> wire.QueuedMessage:
        """`GET /workspaces/:target/a2a/queue/:queue_id`: what became of a message that waits for a busy target.

        Raises:
            NotFoundError: there is none that this workspace sent, or the platform is older and does not tell.
        """
        path = f"/workspaces/{_segment(target_id)}/a2a/queue/{self._opaque(queue_id, 'queue id')}"
        return await self._call("GET", path, wire.QueuedMessage.model_validate, identify=True, timeout=timeout)

    # --- requests and approvals -------------------------------------------------------------------------------------------

    async def create_request(
        self, request: CreateRequest, *, timeout: float = REQUEST_TIMEOUT
    ) -> CreateRequestResponse:
        """`POST /workspaces/:id/requests`: ask the person or another agent.

        Raises:
            NotFoundError: an older platform, which has approvals alone.
        """
        read = CreateRequestResponse.model_validate
        return await self._call("POST", self._own("requests"), read, json_body=request.body(), timeout=timeout)

    async def requests(
        self, *, incoming: bool = False, status: str = "", timeout: float = REQUEST_TIMEOUT
    ) -> list[RequestRow]:
        """`GET /workspaces/:id/requests`, or `…/requests/inbox`: what this workspace asked for, or is asked; newest first, at most 50."""
        path = self._own("requests/inbox" if incoming else "requests")
        query = {"status": status} if status else None
        return await self._call("GET", path, _requests, query=query, timeout=timeout)

    async def request(self, request_id: str, *, timeout: float = REQUEST_TIMEOUT) -> RequestDetail:
        """`GET /workspaces/:id/requests/:requestId`: one request with its messages.

        Raises:
            NotFoundError: there is none of this id that concerns this workspace.
        """
        return await self._call("GET", self._request(request_id), RequestDetail.model_validate, timeout=timeout)

    async def respond_request(
        self, request_id: str, action: Literal["done", "rejected", "approved"], *, timeout: float = REQUEST_TIMEOUT
    ) -> RequestOutcome:
        """`POST …/requests/:requestId/respond`, as this agent.

        Raises:
            NotFoundError: there is none, or it was answered already.
        """
        body = RespondRequest(action=action, responder_type="agent", responder_id=self.target.id).body()
        path = f"{self._request(request_id)}/respond"
        return await self._call("POST", path, RequestOutcome.model_validate, json_body=body, timeout=timeout)

    async def add_request_message(
        self, request_id: str, text: str, *, timeout: float = REQUEST_TIMEOUT
    ) -> AddMessageResponse:
        """`POST …/requests/:requestId/messages`, as this agent."""
        body = AddMessageRequest(body=text, author_type="agent", author_id=self.target.id).body()
        path = f"{self._request(request_id)}/messages"
        return await self._call("POST", path, AddMessageResponse.model_validate, json_body=body, timeout=timeout)

    async def cancel_request(self, request_id: str, *, timeout: float = REQUEST_TIMEOUT) -> RequestOutcome:
        """`POST …/requests/:requestId/cancel`.

        Raises:
            NotFoundError: there is none, or it was answered already.
        """
        path = f"{self._request(request_id)}/cancel"
        return await self._call("POST", path, RequestOutcome.model_validate, json_body={}, timeout=timeout)

    async def create_approval(
        self, request: CreateApprovalRequest, *, timeout: float = REQUEST_TIMEOUT
    ) -> CreateApprovalResponse:
        """`POST /workspaces/:id/approvals`: what a platform without requests has; both know it."""
        read = CreateApprovalResponse.model_validate
        return await self._call("POST", self._own("approvals"), read, json_body=request.body(), timeout=timeout)

    async def approvals(self, *, timeout: float = REQUEST_TIMEOUT) -> list[ApprovalRow]:
        """`GET /workspaces/:id/approvals`: newest first, at most 50."""
        return await self._call("GET", self._own("approvals"), _approvals, timeout=timeout)

    async def withdraw_approval(self, approval_id: str, *, timeout: float = REQUEST_TIMEOUT) -> DecideResponse:
        """`POST …/approvals/:approvalId/withdraw`.

        Raises:
            NotFoundError: it was decided, or the platform is older and lets it lapse.
        """
        path = self._own(f"approvals/{self._opaque(approval_id, 'approval id')}/withdraw")
        return await self._call("POST", path, DecideResponse.model_validate, json_body={}, timeout=timeout)

    # --- messages ---------------------------------------------------------------------------------------------------------

    async def send_message(
        self,
        target_id: str,
        text: str,
        *,
        message_id: str | None = None,
        context_id: str | None = None,
        files: Sequence[envelope.File] = (),
        metadata: Mapping[str, Any] | None = None,
        timeout: float = A2A_READ_TIMEOUT,
    ) -> envelope.Answer:
        """`POST /workspaces/:target/a2a`: say something to another agent and return its answer.

        Sent again only when it was certainly not delivered: no connection, or the platform says that the target is restarting or
        waking up. A read that times out is not repeated, since the target may be at work on it. The message names its sender in
        `metadata.source_workspace_id`, whatever `metadata` says, because the proxy passes no caller on (contract
        `platform-api.md` 5.3).

        Returns:
            The agent's `Reply`, an `Accepted` acknowledgement, or a `Failure` that an agent reported.

        Raises:
            PlatformError: the platform refused or could not deliver the message.
        """
        target_id = validate_workspace_id(target_id)
        # The proxy passes no header on, so the trace goes on in the peer through the message itself.
        trace = trace_context.outgoing(self._origin)
        body = envelope.message_send(
            text,
            message_id=message_id,
            context_id=context_id,
            files=files,
            metadata={
                **({trace_context.KEY: trace} if trace else {}),
                **(metadata or {}),
                "source_workspace_id": self.target.id,
            },
        )
        encoded = _encode(body)
        path = f"/workspaces/{target_id}/a2a"
        if len(encoded) > MAX_A2A_REQUEST_BYTES:
            raise RequestRefusedError(
                f"the message is {len(encoded)} bytes and the platform takes {MAX_A2A_REQUEST_BYTES}; send less, or attach a file",
                workspace_id=self.target.id,
                request=f"POST {path}",
            )
        deadline = time.monotonic() + timeout
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._call(
                    "POST",
                    path,
                    envelope.read_answer,
                    content=encoded,
                    identify=True,
                    timeout=max(0.001, deadline - time.monotonic()),
                    connect_timeout=A2A_CONNECT_TIMEOUT,
                )
            except (PlatformUnreachableError, UnavailableError) as exc:
                if isinstance(exc, UnavailableError) and exc.delivered is not False:
                    raise
                pause = min(2.0 ** (attempt - 1), _SEND_BACKOFF_CAP) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
                if isinstance(exc, UnavailableError) and exc.retry_after is not None:
                    pause = max(pause, exc.retry_after)
                if attempt >= _SEND_ATTEMPTS or time.monotonic() + pause >= deadline:
                    raise
                logger.info(
                    "message to %s not delivered (%s); attempt %d in %.1f s", target_id, exc, attempt + 1, pause
                )
                await anyio.sleep(pause)

    async def events_address(self) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of `GET /ws`, the events that this workspace may see, for a WebSocket to them.

        Raises:
            CredentialRejectedError: the token cannot be sent.
        """
        scheme, _, rest = self.target.platform_url.partition("://")
        token = await self._token("GET /ws")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws", self._headers(token, identify=True)

    async def aclose(self) -> None:
        """Release this client: requests that are under way are answered, later ones refused with `NotServedError`.

        The shared connections stay with their pool, for as long as another client of the origin is there.
        """
        self._closed = True
        await self._transport.aclose()

    async def __aenter__(self) -> PlatformClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"PlatformClient({self.target.id!r} at {self.target.platform_url!r})"

    # --- one request ------------------------------------------------------------------------------------------------------

    def _own(self, name: str) -> str:
        return f"/workspaces/{self.target.id}/{name}"

    def _request(self, request_id: str) -> str:
        return self._own(f"requests/{self._opaque(request_id, 'request id')}")

    def _opaque(self, value: str, what: str) -> str:
        """Return an id that the platform made as one URL path segment: a row's id, not a path."""
        if not _OPAQUE_ID.fullmatch(value):
            raise RequestRefusedError(
                f"{value[:_SHOWN_CHARS]!r} is no {what}: letters, digits, '_' and '-', at most 128",
                workspace_id=self.target.id,
                request=what,
            )
        return value

    def _headers(self, token: str, *, identify: bool) -> dict[str, str]:
        return headers_for(self.target, token, identify=identify)

    async def _call(
        self,
        method: str,
        path: str,
        read: Callable[[Any], _T],
        *,
        json_body: Mapping[str, Any] | None = None,
        content: bytes | FilesForm | None = None,
        query: Mapping[str, str] | None = None,
        identify: bool = False,
        timeout: float,
        connect_timeout: float | None = None,
    ) -> _T:
        if json_body is not None:
            content = _encode(json_body)
        return await self._ask(
            method,
            path,
            lambda answer, request: self._read(answer, request, read),
            content=content,
            query=query,
            identify=identify,
            timeout=timeout,
            connect_timeout=connect_timeout,
            most=MAX_RESPONSE_BYTES,
        )

    async def _ask(
        self,
        method: str,
        path: str,
        take: Callable[[_Answer, str], _T],
        *,
        content: bytes | FilesForm | None = None,
        query: Mapping[str, str] | None = None,
        identify: bool = False,
        timeout: float,
        connect_timeout: float | None = None,
        most: int,
    ) -> _T:
        request = f"{method} {path}"
        tokens = [await self._token(request)]
        deadline = time.monotonic() + timeout
        try:
            answer = await self._send(
                method, path, content, query, tokens[0], identify, deadline, connect_timeout, most
            )
            if answer.status == 401:
                fresh = await self._token(request)
                if fresh and fresh != tokens[0]:
                    tokens.append(fresh)
                    answer = await self._send(
                        method, path, content, query, fresh, identify, deadline, connect_timeout, most
                    )
            if not 200 <= answer.status < 300:
                raise self._refusal(answer, request, tokens)
            return take(answer, request)
        except PlatformError as exc:
            # A server may echo what it was sent: in a header, in a redirect, as a key.
            exc.args = (_without(str(exc), tokens),)
            raise

    async def _token(self, request: str) -> str:
        source = self.target.token
        # A file is read on a thread; a token that is in memory is not worth one.
        token = source.read() if isinstance(source, StaticToken) else await anyio.to_thread.run_sync(source.read)
        if token and (problem := secret_problem(token)):
            raise CredentialRejectedError(
                f"{request}: the token of workspace {self.target.id} ({self.target.token.description}) {problem}",
                workspace_id=self.target.id,
                request=request,
            )
        return token

    def _read(self, answer: _Answer, request: str, read: Callable[[Any], _T]) -> _T:
        data = self._json(answer, request)
        try:
            return read(data)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise UnexpectedResponseError(
                f"{request}: the answer is not of the documented shape ({where}: {first['msg']})",
                workspace_id=self.target.id,
                request=request,
                status=answer.status,
            ) from None

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | FilesForm | None,
        query: Mapping[str, str] | None,
        token: str,
        identify: bool,
        deadline: float,
        connect_timeout: float | None,
        most: int,
    ) -> _Answer:
        request = f"{method} {path}"
        url = self.target.platform_url + path
        headers = self._fixed_headers | self._headers(token, identify=identify)
        if isinstance(content, FilesForm):
            headers |= {"Content-Type": content.content_type, "Content-Length": str(content.length)}
        elif content is not None:
            headers["Content-Type"] = "application/json"
        remaining = max(0.001, deadline - time.monotonic())
        limits = {
            "connect": min(connect_timeout or remaining, remaining),
            "read": remaining,
            "write": remaining,
            "pool": remaining,
        }
        try:
            with anyio.fail_after(remaining):
                for _ in range(_MAX_REDIRECTS + 1):
                    body = content.stream() if isinstance(content, FilesForm) else content
                    outgoing = httpx.Request(
                        method,
                        _parsed(url),
                        params=query,
                        content=body,
                        headers=headers,
                        extensions={"timeout": limits},
                    )
                    answer = await self._exchange(outgoing, request, most)
                    if answer.status not in {301, 302, 307, 308}:
                        return answer
                    url = self._redirect_target(answer, url, method, request)
                    query = None
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
        ) as exc:
            raise PlatformUnreachableError(
                f"cannot reach {self._origin} ({_reason(exc)}); is the platform running, and is platform_url right?",
                workspace_id=self.target.id,
                request=request,
            ) from exc
        except (httpx.TimeoutException, TimeoutError) as exc:
            raise PlatformTimeoutError(
                f"{self._origin} did not answer {request} in time; it may have received the request",
                workspace_id=self.target.id,
                request=request,
            ) from exc
        except httpx.HTTPError as exc:
            raise UnavailableError(
                f"the connection to {self._origin} broke during {request} ({_reason(exc)}); it may have received the request",
                workspace_id=self.target.id,
                request=request,
                # The cause quotes bytes of the server, which may echo the token.
            ) from None
        raise UnexpectedResponseError(
            f"{request}: more than {_MAX_REDIRECTS} redirects", workspace_id=self.target.id, request=request
        )

    async def _exchange(self, outgoing: httpx.Request, request: str, most: int) -> _Answer:
        if self._closed:
            raise NotServedError(
                f"{request}: workspace {self.target.id} was removed from the settings of this process, or changed there, and nothing "
                "was sent; call again if it is still served",
                workspace_id=self.target.id,
                request=request,
            )
        response = await self._transport.handle_async_request(outgoing)
        response.request = outgoing
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            chunks: list[bytes] = []
            size = 0
            # What is not encoded needs no decoder.
            async for chunk in response.aiter_bytes() if "content-encoding" in response.headers else stream:
                size += len(chunk)
                if size > most:
                    raise UnexpectedResponseError(
                        f"{request}: the answer is larger than {most} bytes",
                        workspace_id=self.target.id,
                        request=request,
                        status=response.status_code,
                    )
                chunks.append(chunk)
            return _Answer(response.status_code, response.headers, b"".join(chunks))
        finally:
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await stream.aclose()

    def _redirect_target(self, answer: _Answer, url: str, method: str, request: str) -> str:
        try:
            location = urljoin(url, str(answer.headers.get("location", "")))
            origin = origin_of(location)
        except ValueError:
            # An address that is no URL: a port of letters, half a bracket.
            location, origin = "", "nowhere"
        if origin != self._origin:
            raise UnexpectedResponseError(
                f"{request}: refused a redirect from {self._origin} to {origin}; credentials stay with their own platform",
                workspace_id=self.target.id,
                request=request,
                status=answer.status,
            )
        if method != "GET" and answer.status in {301, 302}:
            raise UnexpectedResponseError(
                f"{request}: the platform answered with a redirect ({answer.status}); platform_url must be the API's own address",
                workspace_id=self.target.id,
                request=request,
                status=answer.status,
            )
        return location

    def _json(self, answer: _Answer, request: str) -> object:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            kind = answer.headers.get("content-type", "no content type").split(";")[0]
            raise UnexpectedResponseError(
                f"{request}: the answer is not JSON but {kind}; check that platform_url {self.target.platform_url!r} is the platform's API",
                workspace_id=self.target.id,
                request=request,
                status=answer.status,
            ) from None

    def _refusal(self, answer: _Answer, request: str, tokens: Sequence[str]) -> PlatformError:
        details: dict[str, Any] = {}
        try:
            parsed: object = json.loads(answer.body)
            if isinstance(parsed, dict):
                details = cast("dict[str, Any]", parsed)
        except (ValueError, RecursionError):
            pass
        said = details.get("error")
        if not isinstance(said, str) or not said:
            said = answer.body.decode(errors="replace").strip() or "no details"
        text = _without(said, tokens)[:_SHOWN_CHARS]
        hint = details.get("hint")
        if isinstance(hint, str) and hint:
            text += f" ({_without(hint, tokens)[:_SHOWN_CHARS]})"
        message = f"{request}: {answer.status} {text}"
        common: dict[str, Any] = {"workspace_id": self.target.id, "request": request, "status": answer.status}
        stated = (
            _seconds(answer.headers.get("retry-after")) or _seconds_until(answer.headers),
            _seconds(details.get("retry_after")),
            _seconds(details.get("retry_after_seconds")),
        )
        retry_after = next((seconds for seconds in stated if seconds), None)
        match answer.status:
            case 401:
                return CredentialRejectedError(
                    f"{message}; the token of workspace {self.target.id} ({self.target.token.description}) was refused: it may be revoked,"
                    " or the workspace deleted",
                    **common,
                )
            case 403:
                return AccessDeniedError(message, **common)
            case 404:
                return NotFoundError(message, **common)
            case 410:
                return GoneError(message, **common)
            case 429:
                return RateLimitedError(message, retry_after=retry_after, **common)
            case status if status >= 500:
                delivered = details.get("delivery_confirmed")
                # Refused before anything was forwarded (contract `platform-api.md` 5.2, 5.4, 24.5).
                if delivered is None and any(details.get(key) is True for key in ("restarting", "waking", "warming")):
                    delivered = False
                return UnavailableError(
                    message,
                    retry_after=retry_after,
                    delivered=delivered if isinstance(delivered, bool) else None,
                    **common,
                )
            case status if status < 400:
                return UnexpectedResponseError(message, **common)
            case _:
                return RequestRefusedError(message, **common)


def _download(answer: _Answer, _: str) -> Download:
    return Download(answer.body, str(answer.headers.get("content-type", "")).partition(";")[0].strip())


def _segment(value: str) -> str:
    """Return an id as one URL path segment; ids that break the rule never reach the URL."""
    return quote(validate_workspace_id(value), safe="")


def headers_for(target: WorkspaceTarget, token: str, *, identify: bool = False) -> dict[str, str]:
    """Return the headers of a request to the platform of a target, and to nowhere else: the one place that builds them.

    Args:
        target: whose request it is.
        token: its current token; `""` for none.
        identify: say which workspace asks.
    """
    origin = origin_of(target.platform_url)
    # Origin: the SaaS edge turns a call without it into a 404 (contract `platform-api.md` 1.4).
    headers = {"Origin": origin}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if identify:
        headers["X-Workspace-ID"] = target.id
    if target.org_id:
        headers["X-Molecule-Org-Id"] = target.org_id
    if trace := trace_context.outgoing(origin):
        headers[trace_context.KEY] = trace
    return headers


def _encode(body: Mapping[str, Any]) -> bytes:
    """Return compact JSON. A lone surrogate, which has no UTF-8 form, becomes its JSON escape."""
    return _compact.encode(body).encode(errors="backslashreplace")


@lru_cache(maxsize=512)
def _parsed(url: str) -> httpx.URL:
    """Return a URL that was parsed before, as that of the heartbeats of a platform: each time anew costs as much as sending it."""
    return httpx.URL(url)


def _without(text: str, tokens: Sequence[str]) -> str:
    """Take this client's tokens, and whatever looks like a credential, out of a text for people."""
    for token in tokens:
        if len(token) >= MIN_VALUE_CHARS:
            # In any case: a host name, for one, comes out in lower case.
            text = re.sub(re.escape(token), "[REDACTED:token]", text, flags=re.IGNORECASE)
    # Cut after that, so that no half of a token remains, and before the patterns, which a page of megabytes would keep busy.
    return redact_text(text[: _SHOWN_CHARS * 10])


def _reason(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


def _seconds(value: object) -> float | None:
    try:
        seconds = float(cast("str", value))
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < 86_400 else None


def _seconds_until(headers: httpx.Headers) -> float | None:
    """Return the seconds up to the date that `Retry-After` may hold (RFC 9110 10.2.3), by the clock of the server where it tells it."""
    until, now = _moment(headers.get("retry-after")), _moment(headers.get("date"))
    if until is None:
        return None
    return _seconds(until - (time.time() if now is None else now))


def _moment(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError):
        return None
