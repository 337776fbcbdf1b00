"""The predecessor's `platform_tools.registry`: the registry is `molecule_runtime.core.registry`."""

from molecule_runtime.core.registry import (
    A2A_SECTION,
    DISPLAY_SECTION,
    INBOX_SECTION,
    MEMORY_SECTION,
    TOOLS,
    ToolSpec,
    by_name,
    in_section,
    tool_names,
)

__all__ = [
    "A2A_SECTION",
    "DISPLAY_SECTION",
    "MEMORY_SECTION",
    "TOOLS",
    "ToolSpec",
    "a2a_tools",
    "by_name",
    "display_tools",
    "memory_tools",
    "tool_names",
]


def a2a_tools() -> list[ToolSpec]:
    """Return the tools about peers, people and the inbox, which the predecessor kept in one section."""
    return [spec for spec in TOOLS if spec.section in {A2A_SECTION, INBOX_SECTION}]


def memory_tools() -> list[ToolSpec]:
    """Return the memory tools."""
    return in_section(MEMORY_SECTION)


def display_tools() -> list[ToolSpec]:
    """Return the desktop tools."""
    return in_section(DISPLAY_SECTION)
