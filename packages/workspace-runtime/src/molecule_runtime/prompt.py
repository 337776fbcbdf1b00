"""The predecessor's `prompt`: the system prompt is assembled in `molecule_runtime.core.adapter.prompt`."""

from molecule_runtime.core.adapter.prompt import build_system_prompt

__all__ = ["build_system_prompt"]
