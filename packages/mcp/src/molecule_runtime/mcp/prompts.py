"""The prompts that a person can choose in their client: look into the inbox, give work to a peer, report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import mcp_types as types

from molecule_runtime.tools.result import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WORKSPACE = types.PromptArgument(
    name="workspace",
    title="Workspace",
    description="Which of your workspaces acts; needed only where several are served.",
    required=False,
)


class PromptError(ValueError):
    """There is no such prompt, or its arguments are wrong; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class _Template:
    prompt: types.Prompt
    write: Callable[[Mapping[str, str]], str]


def _acting(arguments: Mapping[str, str]) -> str:
    workspace = arguments.get("workspace", "").strip()
    return f" Act as workspace {workspace} (source_workspace_id)." if workspace else ""


def _check_inbox(arguments: Mapping[str, str]) -> str:
    return (
        "Work through the messages that wait for you, one after the other: call wait_for_message with timeout_secs=1; answer a "
        "canvas_user with send_message_to_user and a peer_agent with delegate_task to its peer_id; a delegation_result needs no "
        "answer. Call inbox_pop with the activity_id once you have dealt with a message, and only then. Stop when there is none "
        f"left, and say in a few lines what came and what you did.{_acting(arguments)}"
    )


def _delegate(arguments: Mapping[str, str]) -> str:
    return (
        f"Give this task to the peer {arguments['peer']}. Find its id with list_peers where that is a name; write the task so that "
        "somebody without this conversation can do it, with what is needed and how the answer shall look; send it with delegate_task "
        "(delegate_task_async where it will take long), and follow it with check_task_status until it has ended. Then tell me the "
        f"result.{_acting(arguments)}\n\nThe task:\n{bounded(arguments['task'])}"
    )


def _report(arguments: Mapping[str, str]) -> str:
    about = arguments.get("about", "").strip()
    subject = f" about: {bounded(about)}" if about else ""
    return (
        f"Write a report for the user{subject}. Look at what happened first (check_task_status, check_requests, task_list, chat_history "
        "with the peers concerned). Say what was done, what is open and with whom, and what needs a decision. Send it with "
        f"send_message_to_user, in the user's language and as short as it can be.{_acting(arguments)}"
    )


_TEMPLATES: Final = {
    template.prompt.name: template
    for template in (
        _Template(
            types.Prompt(
                name="check-inbox",
                title="Check the inbox",
                description="Work through the messages that wait.",
                arguments=[_WORKSPACE],
            ),
            _check_inbox,
        ),
        _Template(
            types.Prompt(
                name="delegate",
                title="Delegate a task",
                description="Give a task to a peer, follow it and tell the result.",
                arguments=[
                    types.PromptArgument(
                        name="peer", title="Peer", description="Name or id of the peer.", required=True
                    ),
                    types.PromptArgument(name="task", title="Task", description="What is to be done.", required=True),
                    _WORKSPACE,
                ],
            ),
            _delegate,
        ),
        _Template(
            types.Prompt(
                name="report",
                title="Report to the user",
                description="Sum up what was done and what is open, and send it to the user.",
                arguments=[
                    types.PromptArgument(
                        name="about",
                        title="About",
                        description="What to report on; everything if left out.",
                        required=False,
                    ),
                    _WORKSPACE,
                ],
            ),
            _report,
        ),
    )
}

PROMPTS: Final = tuple(template.prompt for template in _TEMPLATES.values())
"""Every prompt, in the order of the list."""


def prompt(name: str, arguments: Mapping[str, str] | None) -> types.GetPromptResult:
    """Return a prompt with its arguments filled in.

    Raises:
        PromptError: it does not exist, or its arguments are wrong.
    """
    template = _TEMPLATES.get(name)
    if template is None:
        raise PromptError(f"no prompt {name[:80]!r}; there are {', '.join(_TEMPLATES)}")
    given = dict(arguments or {})
    declared = template.prompt.arguments or []
    problems = [
        f"{argument.name}: required, but missing"
        for argument in declared
        if argument.required and not given.get(argument.name, "").strip()
    ]
    known = [argument.name for argument in declared]
    problems += [f"{name[:80]}: not an argument; known: {', '.join(known)}" for name in given if name not in known]
    if problems:
        raise PromptError(f"prompt {name}: {'; '.join(problems[:10])}")
    return types.GetPromptResult(
        description=template.prompt.description,
        messages=[types.PromptMessage(role="user", content=types.TextContent(type="text", text=template.write(given)))],
    )
