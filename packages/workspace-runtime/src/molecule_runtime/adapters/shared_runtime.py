"""The predecessor's `adapters.shared_runtime`: what executors that answer with one text call. Here a message is read from a context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from molecule_runtime.a2a.executor import plain
from molecule_runtime.a2a.executors.langgraph import history_in
from molecule_runtime.legacy.messages import field, parts_of, text_in
from molecule_runtime.legacy.tasks import set_current_task

__all__ = ["brief_task", "build_task_text", "extract_history", "extract_message_text", "set_current_task"]


def extract_message_text(context_or_parts: object) -> str:
    """Return the texts of a request's message, or of a list of parts, joined with a space."""
    if isinstance(context_or_parts, (list, tuple)):
        return text_in(cast("list[object]", context_or_parts))
    return text_in(parts_of(field(context_or_parts, "message")))


def extract_history(context: object) -> list[tuple[str, str]]:
    """Return what was said before, as `("human" | "ai", text)`, from the metadata that the sender put into the request or message."""
    for owner in (field(context, "request"), context, field(context, "message")):
        metadata = field(owner, "metadata")
        said = plain(metadata) if isinstance(metadata, Mapping) or hasattr(metadata, "DESCRIPTOR") else None
        if isinstance(said, dict) and (history := history_in(cast("dict[str, object]", said))):
            return history
    return []


def build_task_text(user_message: str, history: list[tuple[str, str]]) -> str:
    """Return the message with the conversation before it, for an engine that is given one text."""
    if not history:
        return user_message
    lines = [f"{'User' if role == 'human' else 'Agent'}: {text}" for role, text in history]
    return "\n".join(["Conversation so far:", *lines, "", f"Current request: {user_message}"])


def brief_task(text: str, limit: int = 60) -> str:
    """Return the beginning of a text, with an ellipsis where it was cut."""
    return text if len(text) <= limit else f"{text[:limit]}..."
