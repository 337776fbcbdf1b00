"""Events of the platform (contract `platform-api.md` 17)."""

from pydantic import Field

from molecule_runtime.core.platform.wire import JsonObject, Response


class Event(Response):
    """17.4: one stored event."""

    id: str
    event_type: str
    workspace_id: str | None = None
    payload: JsonObject = Field(default_factory=dict)
    created_at: str = ""


class EventFrame(Response):
    """17.1: one event as it is sent over the WebSocket."""

    event: str
    workspace_id: str = ""
    timestamp: str = ""
    payload: JsonObject = Field(default_factory=dict)
