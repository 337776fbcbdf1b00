"""What a tool is: the shape of one entry of the registry. Not what it does, which is the business of the tools wheel."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from molecule_runtime.core.registry.schemas import read_schemas, resolve_model, schemas_of

if TYPE_CHECKING:
    from molecule_runtime.core.registry.arguments import ToolArguments
    from molecule_runtime.core.registry.results import ToolResults

A2A_SECTION = "a2a"
"""Peers, delegation, messages to people, requests and plugins."""
DISPLAY_SECTION = "display"
"""The desktop of the workspace."""
INBOX_SECTION = "inbox"
"""The local queue of inbound messages, which exists only where the runtime polls for them."""
MEMORY_SECTION = "memory"
"""What outlives a conversation."""
WORK_SECTION = "work"
"""The goal and the task list of the workspace, and its sandbox."""

Permission = Literal["delegate", "approve", "memory.read", "memory.write"]
"""An action of the role-based access control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnnotations:
    """What a client may assume about a call before it asks its user. The four hints of MCP."""

    read_only: bool
    """It changes nothing."""
    destructive: bool
    """It may overwrite, remove or end something, rather than only add."""
    idempotent: bool
    """The same call again changes nothing more."""
    open_world: bool
    """It reaches people, other agents or the network, or returns what they wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool, as every adapter, prompt and dispatcher knows it."""

    name: str
    """Unique over all tools; a promise to users."""
    title: str
    """For people."""
    short: str
    """The description: for the model that decides whether to call it, one that says what comes back."""
    when_to_use: str
    """Usage for the system prompt."""
    section: str
    """Which part of the prompt it belongs to; a host may leave a whole section out."""
    permission: Permission | None
    """What the caller's roles must allow; None for a tool that every role may call."""
    annotations: ToolAnnotations
    """Hints about its effects."""
    arguments_path: str
    """`module:Class` of the model that validates its arguments."""
    input_schema: dict[str, Any] = field(repr=False, hash=False)
    """JSON Schema of its arguments, derived from that model. Shared by every adapter: copy it before changing it."""
    results_path: str
    """`module:Class` of the model of what it returns beside its text."""
    output_schema: dict[str, Any] = field(repr=False, hash=False)
    """JSON Schema of that, of every result that is no error. Shared as well."""

    @property
    def arguments(self) -> "type[ToolArguments]":
        """The model that validates the arguments. The first use in a process imports pydantic."""
        return cast("type[ToolArguments]", resolve_model(self.arguments_path))

    @property
    def results(self) -> "type[ToolResults]":
        """The model of what it returns beside its text. The first use in a process imports pydantic."""
        return cast("type[ToolResults]", resolve_model(self.results_path))


_STORED = read_schemas()


def builtin_tool(
    name: str,
    arguments: str,
    results: str,
    *,
    title: str,
    short: str,
    when_to_use: str,
    section: str,
    annotations: ToolAnnotations,
    permission: Permission | None = None,
) -> ToolSpec:
    """Make the entry of a tool whose arguments and results are classes of the modules `arguments` and `results` beside this one."""
    arguments_path = f"molecule_runtime.core.registry.arguments:{arguments}"
    results_path = f"molecule_runtime.core.registry.results:{results}"
    input_schema, output_schema = schemas_of(name, arguments_path, results_path, stored=_STORED)
    return ToolSpec(
        name=name,
        title=title,
        short=short,
        when_to_use=when_to_use,
        section=section,
        permission=permission,
        annotations=annotations,
        arguments_path=arguments_path,
        input_schema=input_schema,
        results_path=results_path,
        output_schema=output_schema,
    )
