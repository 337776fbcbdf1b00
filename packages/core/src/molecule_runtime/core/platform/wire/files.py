"""Files of a chat (contract `platform-api.md` 10, 24.9)."""

from pydantic import ConfigDict, Field

from molecule_runtime.core.platform.wire import Response


class UploadedFile(Response):
    """10.1: one stored file, to be named in a message by its URI."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    uri: str
    name: str = ""
    mime_type: str | None = Field(default=None, alias="mimeType")
    size: int = 0


class UploadResponse(Response):
    """10.1: `POST /workspaces/:id/chat/uploads`, in the order of the form."""

    files: list[UploadedFile]


class UploadLimits(Response):
    """24.9: `GET /uploads/limits`; sizes in bytes."""

    max_file_bytes: int
    max_request_bytes: int
    max_files: int


class UploadAck(Response):
    """24.9: `POST …/pending-uploads/:file_id/ack`; `raced` when somebody had acknowledged it before."""

    acked: bool
    raced: bool = False
