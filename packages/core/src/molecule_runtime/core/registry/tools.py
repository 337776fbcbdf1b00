"""The tools, in the order in which every adapter lists them."""

from typing import TYPE_CHECKING

from molecule_runtime.core.registry._tools_a2a import CHAT_HISTORY, FIRST_A2A_TOOLS
from molecule_runtime.core.registry._tools_code import CODE_TOOLS
from molecule_runtime.core.registry._tools_display import DISPLAY_TOOLS
from molecule_runtime.core.registry._tools_inbox import INBOX_TOOLS
from molecule_runtime.core.registry._tools_memory import MEMORY_TOOLS
from molecule_runtime.core.registry._tools_requests import REQUEST_TOOLS
from molecule_runtime.core.registry._tools_work import WORK_TOOLS

if TYPE_CHECKING:
    from molecule_runtime.core.registry.arguments import ToolArguments
    from molecule_runtime.core.registry.spec import ToolSpec

TOOLS: "tuple[ToolSpec, ...]" = (
    *FIRST_A2A_TOOLS,
    *DISPLAY_TOOLS,
    *INBOX_TOOLS,
    CHAT_HISTORY,
    *MEMORY_TOOLS,
    *WORK_TOOLS,
    *REQUEST_TOOLS,
    *CODE_TOOLS,
)
"""Every tool. The order is part of the contract."""

_BY_NAME = {spec.name: spec for spec in TOOLS}


def by_name(name: str) -> "ToolSpec":
    """Return the tool with this name.

    Raises:
        KeyError: No tool has it.
    """
    return _BY_NAME[name]


def tool_names() -> list[str]:
    """Return the names of all tools, in order."""
    return list(_BY_NAME)


def in_section(section: str) -> list["ToolSpec"]:
    """Return the tools of one section, in order; none for a section that does not exist."""
    return [spec for spec in TOOLS if spec.section == section]


def arguments_model(name: str) -> "type[ToolArguments]":
    """Return the model that validates the arguments of the tool with this name. The first use imports pydantic.

    Raises:
        KeyError: No tool has that name.
    """
    return by_name(name).arguments
