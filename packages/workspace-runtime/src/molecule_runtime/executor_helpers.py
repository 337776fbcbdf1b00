"""The predecessor's `executor_helpers`: what executors of templates call, given by the wheels; see the README for what changed."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import registry
from molecule_runtime.core.adapter.memory import read_prompt_file
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.registry.prompt import capabilities_section, tool_section
from molecule_runtime.legacy import workspace
from molecule_runtime.legacy.content import build_user_content_with_files
from molecule_runtime.legacy.messages import files_in, parts_of, text_in
from molecule_runtime.legacy.tasks import set_current_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2a.types import Message

    from molecule_runtime.a2a.executors import Attachments

__all__ = [
    "CONFIG_MOUNT",
    "MEMORY_CONTENT_MAX_CHARS",
    "WORKSPACE_MOUNT",
    "auto_push_hook",
    "brief_summary",
    "build_user_content_with_files",
    "classify_subprocess_error",
    "collect_outbound_files",
    "commit_memory",
    "error_detail_for_external",
    "extract_attached_files",
    "extract_message_text",
    "get_a2a_instructions",
    "get_capabilities_preamble",
    "get_display_instructions",
    "get_hma_instructions",
    "get_mcp_server_path",
    "get_system_prompt",
    "new_response_message",
    "read_delegation_results",
    "recall_memories",
    "sanitize_agent_error",
    "set_current_task",
    "task_state_value",
]

logger = logging.getLogger(__name__)

WORKSPACE_MOUNT = "/workspace"
"""Read at each call: tests of templates set it to a folder of theirs (contract `consumers.md` 1.6)."""

CONFIG_MOUNT = "/configs"

MEMORY_CONTENT_MAX_CHARS = 200
"""How much of a conversation templates put into a memory (contract `workspace-host.md` 10)."""

_RECALLED = 10
_SUMMARY_CHARS = 80
_SYSTEM_PROMPT = "system-prompt.md"
_MENTIONED = re.compile(r"(?<![\w/.])/workspace/[^\s`'\"<>()\[\]]+")
_NO_WORDS = re.compile(r"[-*_=\s]*\Z")


def extract_message_text(message: object) -> str:
    """Return the texts of a message, of any version of A2A, joined with a space; `""` when there are none."""
    return text_in(parts_of(message))


def extract_attached_files(message: object) -> list[dict[str, str]]:
    """Return `name`, `mime_type` and `path` of each file of a message that is in the workspace; the log names the others.

    No link is followed out of the workspace, and no file with a credential is given out. Reads the disk.
    """
    from molecule_runtime.a2a.executors import AttachmentError, local_path
    from molecule_runtime.a2a.executors.attachments import MAX_FILES

    files = files_in(parts_of(message))
    found: list[dict[str, str]] = []
    place = _attachments() if files else None
    for file in files[:MAX_FILES]:
        try:
            here = place.find(file) if place is not None else file
        except AttachmentError as exc:
            logger.warning("a file of the message is left out: %s", exc)
            continue
        found.append({"name": here.name, "mime_type": here.mime_type, "path": str(local_path(here))})
    return found


def collect_outbound_files(reply_text: str, explicit: Sequence[str | Path] = ()) -> list[dict[str, str]]:
    """Return `name`, `mime_type` and `path` of the files in `explicit` that may be sent; what a text mentions is never one.

    The predecessor published every path of the workspace that stood in an answer, which whoever wrote to the agent could make
    it say. A text with such a path in it gets a `DeprecationWarning`.
    """
    if _MENTIONED.search(reply_text):
        warnings.warn(
            "collect_outbound_files attaches no file because its path stands in the answer; name the files in `explicit`, or"
            " yield molecule_runtime.a2a.executors.Attachment",
            DeprecationWarning,
            stacklevel=2,
        )
    from molecule_runtime.a2a.executors import AttachmentError, local_path

    found: list[dict[str, str]] = []
    for path in explicit:
        try:
            file = _attachments().sendable(path)
        except AttachmentError as exc:
            logger.warning("%r is not attached: %s", Path(path).name, exc)
            continue
        found.append({"name": file.name, "mime_type": file.mime_type, "path": str(local_path(file))})
    return found


def new_response_message(context: Any, text: str, files: Sequence[dict[str, str]] = ()) -> Message:
    """Return an agent's message for the conversation of `context`, with files as `collect_outbound_files` returns them."""
    from a2a.helpers import new_text_message
    from a2a.types import Part

    # Without a task id: a Message has no task, and a client would ask for it in vain.
    message = new_text_message(text, context_id=getattr(context, "context_id", None) or "")
    for file in files:
        uri = f"workspace:{file['path']}"
        message.parts.append(Part(url=uri, filename=file["name"], media_type=file["mime_type"]))
    return message


def task_state_value(name: str) -> Any:
    """Return a state of the SDK by its name, such as `TASK_STATE_SUBMITTED`.

    Raises:
        ValueError: there is no such state.
    """
    from a2a.types import TaskState

    return TaskState.Value(name)


def read_delegation_results() -> str:
    """Return `""`: the host tells the agent of each delegation that ended, once, in a message of its own."""
    return ""


async def recall_memories() -> str:
    """Return the newest memories of this workspace, a line each; `""` when there are none or they cannot be had."""
    answer = await workspace.call_tool("recall_memory", {"scope": "LOCAL", "limit": _RECALLED})
    return str(answer["text"]) if answer is not None and answer.get("memories") else ""


async def commit_memory(content: str) -> None:
    """Keep `content` as a memory of this workspace, without the credentials in it. A failure is a line in the log."""
    if content.strip():
        await workspace.call_tool("commit_memory", {"content": content, "scope": "LOCAL"})


async def auto_push_hook(cwd: str | Path | None = None) -> None:
    """Do nothing but say so once: an agent that is to push a branch or to open a pull request does it with its own tools.

    The predecessor did both after each turn, without being asked (contract `runtime.md` 13.1).
    """
    warnings.warn(
        "auto_push_hook pushes nothing; have the agent push what it is to push", DeprecationWarning, stacklevel=2
    )


def get_mcp_server_path() -> str:
    """Return the file that, given to Python, is the MCP server of this workspace."""
    return str(Path(__file__).with_name("a2a_mcp_server.py"))


def get_system_prompt(config_path: str, fallback: str | None = None) -> str | None:
    """Return the text of `system-prompt.md`, read anew; `fallback` where there is none, or it cannot be used."""
    try:
        return read_prompt_file(config_path, _SYSTEM_PROMPT) or fallback
    except ConfigurationError as exc:
        logger.debug("%s is not used: %s", _SYSTEM_PROMPT, exc)
        return fallback


def get_capabilities_preamble(mcp: bool = True) -> str:
    """Return which tools the agent has and the rules for all of them; `""` for an agent without MCP."""
    return capabilities_section(_tool_names()) if mcp else ""


def get_a2a_instructions(mcp: bool = True) -> str:
    """Return when to use the tools for peers and people; `""` without MCP, since there is no command that does the same."""
    return tool_section(registry.A2A_SECTION, _tool_names()) if mcp else ""


def get_hma_instructions() -> str:
    """Return when to use the memory tools."""
    return tool_section(registry.MEMORY_SECTION, _tool_names())


def get_display_instructions() -> str:
    """Return when to use the tools of the desktop."""
    return tool_section(registry.DISPLAY_SECTION, _tool_names())


def brief_summary(text: str, max_len: int = _SUMMARY_CHARS) -> str:
    """Return the first line of `text` that says something, without its Markdown marks, in at most `max_len` characters (4 or more)."""
    most, fenced = max(max_len, 4), False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("```"):
            fenced = not fenced
            continue
        if fenced or _NO_WORDS.match(line):
            continue
        line = line.lstrip("#").replace("**", "").replace("__", "").strip()
        if line:
            return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."
    return ""


def classify_subprocess_error(stderr: str, exit_code: int | None = None) -> str:
    """Return a word for why a program failed, such as `rate_limited` or `exit_2`."""
    from molecule_runtime.a2a.executors import classify

    return classify(stderr, exit_code)


def sanitize_agent_error(
    exc: BaseException | None = None, category: str | None = None, stderr: str | None = None
) -> str:
    """Return what a sender may read of a failure: a word for it and a sentence of ours, nothing that the failure says itself."""
    from molecule_runtime.a2a.executors import user_text

    return user_text(category or _tag(exc, stderr))


def error_detail_for_external(exc: BaseException) -> str:
    """Return a word for a failure. Its own text stays in the log: it may quote paths, secrets and other people's data."""
    return _tag(exc, None)


def _tag(exc: BaseException | None, stderr: str | None) -> str:
    from molecule_runtime.a2a.executors import classify
    from molecule_runtime.a2a.executors.failures import SUBPROCESS_ERROR, tag_of

    said = classify(stderr) if stderr else SUBPROCESS_ERROR
    if exc is None:
        return said if stderr else "unknown"
    return tag_of(exc) if said == SUBPROCESS_ERROR else said


def _attachments() -> Attachments:
    """Return the files of this workspace, or those below the mounts where a test set them or no workspace is named."""
    from molecule_runtime.a2a.executors import Attachments
    from molecule_runtime.a2a.folders import WORKSPACE, Folders

    known = workspace.attachments() if WORKSPACE_MOUNT == WORKSPACE else None
    return known or Attachments(Folders(configs=Path(CONFIG_MOUNT), workspace=Path(WORKSPACE_MOUNT)))


def _tool_names() -> frozenset[str]:
    from molecule_runtime.tools.dispatcher import available_tools

    return available_tools()
