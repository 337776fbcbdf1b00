"""What a client can read: the workspaces, how they are, their peers, their inboxes and their activity.

Reading changes nothing: a message that is read here stays where it is. Every answer is JSON that fits into one line of 60 KiB; what is
longer comes in pages, and says where to read on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

import anyio
import mcp_types as types

from molecule_runtime.core.errors import PlatformError
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.mcp.changes import STATUS, WORKSPACES, inbox_uri
from molecule_runtime.mcp.status import summary
from molecule_runtime.tools import dispatch
from molecule_runtime.tools.peers import chronological, history_row
from molecule_runtime.tools.result import SHRINK_TO, bounded, shrunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.mcp.opening import Opened
    from molecule_runtime.mcp.settings import McpSettings
    from molecule_runtime.mcp.status import TargetStatus
    from molecule_runtime.tools import InboxMessage

MIME_TYPE: Final = "application/json"

MAX_PAGE_BYTES: Final = 40 * 1024
"""Of the items of one page, as they stand in an answer, inside a JSON string: a client may read lines of 64 KiB at most (contract
`consumers.md` 4.1)."""

MAX_DATA_BYTES: Final = 54 * 1024
"""Of everything in one answer, in the same measure."""

MAX_TEXT_CHARS: Final = 12_000
"""Of a message in one answer: three bytes for each character, and the quotes of the JSON string, fit into a line."""

MAX_LISTED_MESSAGES: Final = 100
"""Messages that `resources/list` names, over all workspaces; the others are found in the resource of their inbox."""

_PREVIEW_BYTES: Final = 512
_MAX_ATTACHMENT_BYTES: Final = 4096
_ACTIVITY_ROWS: Final = 100
_SECONDS: Final = 20.0

TEMPLATES: Final = (
    types.ResourceTemplate(
        name="workspace",
        title="Workspace",
        uri_template=f"{WORKSPACES}/{{workspace_id}}",
        description="One served workspace: the platform's row of it, and how it is.",
        mime_type=MIME_TYPE,
    ),
    types.ResourceTemplate(
        name="peers",
        title="Peers",
        uri_template=f"{WORKSPACES}/{{workspace_id}}/peers",
        description="The agents that a workspace can give work to.",
        mime_type=MIME_TYPE,
    ),
    types.ResourceTemplate(
        name="inbox",
        title="Inbox",
        uri_template=f"{WORKSPACES}/{{workspace_id}}/inbox{{?offset}}",
        description="The messages that wait, oldest first. Reading removes none: inbox_pop does.",
        mime_type=MIME_TYPE,
    ),
    types.ResourceTemplate(
        name="message",
        title="Message",
        uri_template=f"{WORKSPACES}/{{workspace_id}}/inbox/{{activity_id}}{{?offset}}",
        description="One waiting message, whole; a long text is read on with `offset`.",
        mime_type=MIME_TYPE,
    ),
    types.ResourceTemplate(
        name="activity",
        title="Activity",
        uri_template=f"{WORKSPACES}/{{workspace_id}}/activity{{?before}}",
        description="What happened in a workspace of late, newest last; `before` (a created_at) reads further back.",
        mime_type=MIME_TYPE,
    ),
)


class UnknownResourceError(LookupError):
    """There is no such resource; the message says what there is."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A URI of ours, taken apart."""

    uri: str
    parts: tuple[str, ...]
    query: Mapping[str, str]

    @property
    def offset(self) -> int:
        text = self.query.get("offset", "0")
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise UnknownResourceError(
                f"offset: {text[:40]!r} is not a number; use what `next` of the answer before said"
            )
        return int(text)

    def at(self, offset: int) -> str:
        return f"{self.uri.partition('?')[0]}?offset={offset}"


class Resources:
    """The resources of one process."""

    def __init__(self, settings: McpSettings, opened: Opened) -> None:
        self._settings = settings
        self._opened = opened

    async def page(self, cursor: str | None) -> types.ListResourcesResult:
        """Return a page of the resources.

        Raises:
            UnknownResourceError: the cursor is none of ours.
        """
        start = _cursor(cursor)
        resources = await self._all()
        page: list[types.Resource] = []
        room = MAX_PAGE_BYTES
        for resource in resources[start:]:
            room -= len(resource.model_dump_json(by_alias=True, exclude_none=True).encode())
            if room < 0 and page:
                break
            page.append(resource)
        end = start + len(page)
        return types.ListResourcesResult(resources=page, next_cursor=str(end) if end < len(resources) else None)

    async def read(self, uri: str) -> types.ReadResourceResult:
        """Return what a URI names.

        Raises:
            UnknownResourceError: nothing.
        """
        place = _place(uri)
        with anyio.fail_after(_SECONDS):
            data = _fitted(await self._data(place))
        text = json.dumps(data, ensure_ascii=False)
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=MIME_TYPE, text=text)])

    async def _data(self, place: _Place) -> dict[str, Any]:
        match place.parts:
            case ("status",):
                return self._status(place)
            case ("workspaces",):
                states = self._opened.supervisor.states
                rows = [self._summary(client, states.get(client.workspace_id)) for client in self._clients()]
                return self._page_of(place, "workspaces", rows)
            case ("workspaces", workspace_id):
                return await self._workspace(self._client(workspace_id))
            case ("workspaces", workspace_id, "peers"):
                return await self._peers(place, self._client(workspace_id))
            case ("workspaces", workspace_id, "activity"):
                return await self._activity(place, self._client(workspace_id))
            case ("workspaces", workspace_id, "inbox"):
                return await self._inbox(place, self._client(workspace_id))
            case ("workspaces", workspace_id, "inbox", activity_id):
                return await self._message(place, self._client(workspace_id), activity_id)
            case _:
                raise UnknownResourceError(_unknown(place.uri))

    async def _all(self) -> list[types.Resource]:
        found = [
            _resource(STATUS, "status", "Status", "How every served workspace is, as this process sees it."),
            _resource(WORKSPACES, "workspaces", "Workspaces", "The workspaces that this process serves."),
        ]
        inbox = self._opened.inbox
        room = MAX_LISTED_MESSAGES
        for client in self._clients():
            base = f"{WORKSPACES}/{client.workspace_id}"
            name = client.workspace_id
            found.append(_resource(base, name, f"Workspace {name}", "The platform's row, and how it is."))
            found.append(_resource(f"{base}/peers", f"{name}/peers", f"Peers of {name}", "Whom it can give work to."))
            found.append(
                _resource(f"{base}/activity", f"{name}/activity", f"Activity of {name}", "What happened of late.")
            )
            if inbox is None:
                continue
            found.append(_resource(inbox_uri(name), f"{name}/inbox", f"Inbox of {name}", "The messages that wait."))
            messages = await inbox.peek(room, workspace_id=name) if room > 0 else ()
            room -= len(messages)
            found += [
                _resource(
                    _message_uri(name, message),
                    f"{name}/inbox/{message.activity_id}",
                    f"Message from {message.peer_name or message.peer_id or 'the user'}",
                    f"{message.kind}, {message.created_at}",
                )
                for message in messages
            ]
        return found

    def _summary(self, client: PlatformClient, state: TargetStatus | None) -> dict[str, Any]:
        return {
            "id": client.workspace_id,
            "name": self._settings.name_of(client.workspace_id),
            "platform_url": client.target.platform_url,
            "phase": state.phase if state is not None else "unknown",
            "uri": f"{WORKSPACES}/{client.workspace_id}",
        }

    def _status(self, place: _Place) -> dict[str, Any]:
        """Return how every target is, those that need a hand first."""
        opened = self._opened.supervisor
        found = summary(list(opened.states.values()), opened.file, at_most=len(opened.states))
        rows: list[dict[str, Any]] = found.pop("workspaces")
        return {**found, **self._page_of(place, "workspaces", rows)}

    async def _workspace(self, client: PlatformClient) -> dict[str, Any]:
        found = await dispatch("get_workspace_info", {"source_workspace_id": client.workspace_id}, self._opened.context)
        state = self._opened.supervisor.states.get(client.workspace_id)
        return {"status": state.to_json() if state is not None else None, "platform": dict(found.structured)}

    async def _peers(self, place: _Place, client: PlatformClient) -> dict[str, Any]:
        found = await dispatch("list_peers", {"source_workspace_id": client.workspace_id}, self._opened.context)
        peers: list[dict[str, Any]] = found.structured.get("peers", [])
        data = self._page_of(place, "peers", peers)
        if problems := found.structured.get("problems"):
            data["problems"] = problems
        return data

    async def _activity(self, place: _Place, client: PlatformClient) -> dict[str, Any]:
        try:
            rows = await client.activity(limit=_ACTIVITY_ROWS, before_ts=place.query.get("before"))
        except PlatformError as exc:
            return {"activity": [], "error": redact_text(str(exc))}
        shown: list[dict[str, Any]] = []
        room = MAX_PAGE_BYTES
        # From the newest back, so that what does not fit is what is older; `next` reads on there.
        for row in reversed(chronological(rows)):
            data = history_row(row, client.workspace_id)
            data |= {key: bounded(data[key], _PREVIEW_BYTES) for key in ("text", "reply") if key in data}
            room -= _embedded_bytes(data)
            if room < 0 and shown:
                break
            shown.append(data)
        shown.reverse()
        base = f"{WORKSPACES}/{client.workspace_id}/activity"
        more = shown and (len(shown) < len(rows) or len(rows) == _ACTIVITY_ROWS)
        earlier = f"{base}?before={quote(shown[0].get('created_at', ''), safe='')}" if more else None
        return {"activity": shown, "earlier": earlier}

    async def _inbox(self, place: _Place, client: PlatformClient) -> dict[str, Any]:
        inbox = self._opened.inbox
        if inbox is None:
            raise UnknownResourceError("this process polls no inbox (MOLECULE_MCP_DISABLE_INBOX)")
        messages = await inbox.peek(place.offset + _ACTIVITY_ROWS + 1, workspace_id=client.workspace_id)
        rows = [
            {
                **_brief(message),
                "text": bounded(message.text, _PREVIEW_BYTES),
                "uri": _message_uri(client.workspace_id, message),
            }
            for message in messages
        ]
        data = self._page_of(place, "messages", rows)
        if full := inbox.backpressure(workspace_id=client.workspace_id):
            data["backpressure"] = full
        return data

    async def _message(self, place: _Place, client: PlatformClient, activity_id: str) -> dict[str, Any]:
        inbox = self._opened.inbox
        message = await inbox.find(activity_id, workspace_id=client.workspace_id) if inbox is not None else None
        if message is None:
            raise UnknownResourceError(
                f"no message {activity_id[:80]!r} waits for {client.workspace_id}; {inbox_uri(client.workspace_id)} lists those that do"
            )
        text, start = message.text, place.offset
        part = text[start : start + MAX_TEXT_CHARS]
        while _embedded_bytes(part) > MAX_PAGE_BYTES:
            part = part[: len(part) // 2]
        end = start + len(part)
        more = {"text_offset": start, "text_chars": len(text), "next": place.at(end) if end < len(text) else None}
        return {**_brief(message), "text": part, **(more if start or end < len(text) else {})}

    def _page_of(self, place: _Place, key: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return as many rows as fit, from the offset of the URI on, and where to read on."""
        start = place.offset
        page: list[dict[str, Any]] = []
        room = MAX_PAGE_BYTES
        for row in rows[start:]:
            room -= _embedded_bytes(row)
            if (room < 0 or len(page) >= _ACTIVITY_ROWS) and page:
                break
            page.append(row)
        end = start + len(page)
        return {key: page, "next": place.at(end) if end < len(rows) else None}

    def _clients(self) -> Iterable[PlatformClient]:
        return list(self._opened.context.clients.values())

    def _client(self, workspace_id: str) -> PlatformClient:
        client = self._opened.context.clients.get(workspace_id)
        if client is None:
            raise UnknownResourceError(
                f"workspace {workspace_id[:80]!r} is not served by this process; {WORKSPACES} lists those that are"
            )
        return client


def _resource(uri: str, name: str, title: str, description: str) -> types.Resource:
    return types.Resource(uri=uri, name=name, title=title, description=description, mime_type=MIME_TYPE)


def _brief(message: InboxMessage) -> dict[str, Any]:
    """Return a message whose list of attachments leaves room for its text."""
    data = message.to_json()
    if (attachments := data.get("attachments")) is not None and _embedded_bytes(attachments) > _MAX_ATTACHMENT_BYTES:
        data["attachments"] = shrunk(attachments, _PREVIEW_BYTES)
    return data


def _fitted(data: dict[str, Any]) -> dict[str, Any]:
    """Return data that fits into an answer; where it does not as it stands, strings and lists are cut, each with a mark."""
    fitting = data
    for limit in SHRINK_TO:
        if _embedded_bytes(fitting) <= MAX_DATA_BYTES:
            break
        fitting = cast("dict[str, Any]", shrunk(data, limit))
    return fitting


def _message_uri(workspace_id: str, message: InboxMessage) -> str:
    return f"{inbox_uri(workspace_id)}/{quote(message.activity_id, safe='')}"


def _place(uri: str) -> _Place:
    try:
        split = urlsplit(uri)
        query = {key: values[-1] for key, values in parse_qs(split.query, max_num_fields=4).items()}
    except ValueError:
        raise UnknownResourceError(_unknown(uri)) from None
    if split.scheme != "molecule" or split.fragment:
        raise UnknownResourceError(_unknown(uri))
    return _Place(uri, (split.netloc, *map(unquote, filter(None, split.path.split("/")))), query)


def _unknown(uri: str) -> str:
    known = ", ".join([STATUS, WORKSPACES, *(template.uri_template for template in TEMPLATES)])
    return f"no resource {redact_text(uri[:200])!r}; there are {known}"


def _cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 9:
        raise UnknownResourceError(f"cursor: {cursor[:40]!r} is none that this server gave")
    return int(cursor)


def _embedded_bytes(value: object) -> int:
    """Return the bytes of a value as JSON inside a JSON string."""
    return len(json.dumps(json.dumps(value, ensure_ascii=False), ensure_ascii=False).encode("utf-8", "replace"))
