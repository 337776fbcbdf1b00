"""What a workspace is given at its start: secrets, model, instructions, shared files, configuration (contract `platform-api.md` 11)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, RootModel, StringConstraints

from molecule_runtime.core.platform.wire import JsonObject, NonEmpty, Request, Response

MAX_SECRET_BYTES = 64 * 1024
MAX_TITLE_CHARS = 200
MAX_CONTENT_CHARS = 8192

Scope = Literal["global", "workspace"]


def _secret_value(value: str) -> str:
    # Neither message names the value.
    if len(value.encode()) > MAX_SECRET_BYTES:
        raise ValueError(f"at most {MAX_SECRET_BYTES} bytes")
    if "\0" in value:
        raise ValueError("a NUL character cannot be passed to a process")
    return value


SecretKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
"""A name that every shell takes for a variable."""

SecretValue = Annotated[NonEmpty, StringConstraints(max_length=MAX_SECRET_BYTES), AfterValidator(_secret_value)]
Secrets = dict[SecretKey, SecretValue]
"""14.2: `secrets` of a new workspace."""

Title = Annotated[NonEmpty, StringConstraints(max_length=MAX_TITLE_CHARS, pattern=r"^[^\r\n]*$")]
Content = Annotated[NonEmpty, StringConstraints(max_length=MAX_CONTENT_CHARS)]
Priority = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class SetSecretRequest(Request):
    """11.2: `POST` and `PUT …/secrets`."""

    key: SecretKey
    value: SecretValue = Field(repr=False)


class SavedSecret(Response):
    """11.2: what was saved or deleted; never the value."""

    status: str
    key: str


class SecretRow(Response):
    """11.2: one row of the lists."""

    key: str
    has_value: bool = True
    scope: str = ""
    created_at: str = ""
    updated_at: str = ""


class SecretValues(RootModel[dict[str, str]]):
    """11.1: `GET …/secrets/values`."""

    def __repr__(self) -> str:
        """Name the keys only."""
        return f"SecretValues({sorted(self.root)!r})"

    __str__ = __repr__


class SetModelRequest(Request):
    """11.3: `PUT …/model`; empty clears it."""

    model: Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\r\n]*$")] = ""


class ModelResponse(Response):
    """11.3: `GET …/model`."""

    model: str
    source: str


class ResolvedInstructions(Response):
    """11.5: `GET …/instructions/resolve`."""

    workspace_id: str
    instructions: str


class CreateInstructionRequest(Request):
    """11.5: `POST /instructions` (admin)."""

    scope: Scope
    scope_target: str | None = None
    title: Title
    content: Content
    priority: Priority = 0
    enabled: bool = True


class UpdateInstructionRequest(Request):
    """11.5: `PUT /instructions/:id` (admin); absent keys stay as they are."""

    scope: Scope | None = None
    scope_target: str | None = None
    title: Title | None = None
    content: Content | None = None
    priority: Priority | None = None
    enabled: bool | None = None


class Created(Response):
    """11.5: the id of a new row."""

    id: str


class InstructionRow(Response):
    """11.5: one row of `GET /instructions`."""

    id: str
    scope: str = ""
    scope_target: str | None = None
    title: str = ""
    content: str = ""
    priority: int = 0
    enabled: bool = True
    created_at: str = ""
    updated_at: str = ""


class SharedFile(Response):
    """11.6: one file of the parent."""

    path: str
    content: str


class ConfigResponse(Response):
    """11.8: `GET …/config`."""

    data: JsonObject


class ConfigPatch(RootModel[dict[str, Any]]):
    """11.8: `PATCH …/config`: top-level keys that replace those that are there."""
