"""Memories, values by key, and the search over what a workspace did and remembers (contract `platform-api.md` 7.4, 8, 24.10)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from molecule_runtime.core.platform.wire import NonEmpty, Request, Response

Scope = Literal["LOCAL", "TEAM", "GLOBAL"]
MemoryKind = Literal["fact", "summary", "checkpoint"]

MAX_CONTENT_BYTES = 64 * 1024
MAX_NAMESPACE_CHARS = 50
MAX_KEY_CHARS = 256


def _content(value: str) -> str:
    if (size := len(value.encode("utf-8", "surrogatepass"))) > MAX_CONTENT_BYTES:
        raise ValueError(f"at most {MAX_CONTENT_BYTES} bytes, and this is {size}; split it into several memories")
    return value


Content = Annotated[NonEmpty, AfterValidator(_content)]
"""8.1: of one memory; the contract names no limit, this one keeps a page of them readable."""

Key = Annotated[NonEmpty, StringConstraints(max_length=MAX_KEY_CHARS)]


class RememberRequest(Request):
    """8.1: `POST /workspaces/:id/memories`; the route judges scope and namespace itself, in the contract's words."""

    content: Content
    scope: NonEmpty
    namespace: str = "general"
    kind: MemoryKind = "fact"
    source: Annotated[str, StringConstraints(max_length=256)] = ""
    pin: bool = Field(default=False, strict=True)
    expires_at: str | None = None


class RememberResponse(Response):
    """8.1: the new memory."""

    id: str
    scope: str
    namespace: str = "general"


class MemoryRow(Response):
    """8.1: one row of `GET …/memories`, the older shape."""

    id: str
    workspace_id: str = ""
    content: str = ""
    scope: str = ""
    namespace: str = ""
    created_at: str = ""
    similarity_score: float | None = None


class MemoryNamespace(Response):
    """24.10: `workspace:<id>`, `team:<id>` or `org:<id>`."""

    name: str
    kind: str
    label: str = ""


class MemoryNamespaces(Response):
    """24.10: where a workspace may read and write."""

    readable: list[MemoryNamespace]
    writable: list[MemoryNamespace]


class Memory(Response):
    """24.10: one memory of `GET …/v2/memories`; whoever wrote it stands in `source_workspace_id`."""

    id: str
    namespace: str = ""
    content: str = ""
    kind: str = "fact"
    source: str = ""
    pin: bool = False
    expires_at: str | None = None
    created_at: str = ""
    score: float | None = None
    source_workspace_id: str | None = None


class MemoryList(Response):
    """24.10: `GET …/v2/memories`."""

    memories: list[Memory]


class SetValueRequest(Request):
    """8.2: `POST …/memory`; `if_match_version` 0 only creates."""

    key: Key
    value: Any = None
    ttl_seconds: Annotated[int, Field(ge=1, le=10 * 366 * 86_400, strict=True)] | None = None
    if_match_version: Annotated[int, Field(ge=0, strict=True)] | None = None


class StoredValue(Response):
    """8.2: one entry."""

    key: str
    value: Any = None
    version: int = 0
    expires_at: str | None = None
    updated_at: str = ""


class SavedValue(Response):
    """8.2: what was saved."""

    status: str
    key: str
    version: int


class Found(Response):
    """7.4: one hit of `GET …/session-search`."""

    kind: str
    id: str
    workspace_id: str
    label: str = ""
    content: str = ""
    method: str | None = None
    status: str | None = None
    created_at: str = ""
