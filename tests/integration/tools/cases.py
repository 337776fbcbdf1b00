"""One call of every tool, in an order in which each finds what it needs, and a property that its answer must have."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import untrusted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .sides import Side
    from .views import Answer

HAS_BUBBLEWRAP = shutil.which("bwrap") is not None


@dataclass(frozen=True)
class Case:
    """A tool, its arguments, what its answer must be (it may assert, and keep what later calls need), and what happens before."""

    tool: str
    arguments: Callable[[Side], dict[str, Any]]
    holds: Callable[[Side, Answer], object]
    before: Callable[[Side], Awaitable[object]] | None = None
    refused: bool = False


def _nothing(side: Side) -> dict[str, Any]:
    del side
    return {}


def _keep(side: Side, key: str, value: Any) -> bool:
    side.kept[key] = str(value)
    return bool(value)


async def _settle(side: Side) -> None:
    await side.tenant.settle()


async def _message(side: Side) -> None:
    await side.tenant.message(side.lead, side.ours, f"{side.marker} hello")


async def _ask_us(side: Side) -> None:
    asked = {"kind": "task", "recipient_type": "agent", "recipient_id": side.ours.id, "title": f"{side.marker} wish"}
    made = await side.post(f"/workspaces/{side.lead.id}/requests", asked, side.lead)
    side.kept["asked"] = made["request_id"]


def _quoted(text: str) -> list[str]:
    return [block.content for block in untrusted.parse(text)]


def _ids(answer: Answer, key: str, name: str = "id") -> list[str]:
    return [row[name] for row in answer.data[key]]


def _acted(side: Side, event: dict[str, Any]) -> bool:
    return side.front.desktop[-1] == ("input", event)


def _ran(side: Side, answer: Answer) -> bool:
    if not HAS_BUBBLEWRAP:
        return answer.is_error and "bubblewrap" in answer.text
    return (answer.data["stdout"], answer.data["backend"]) == (f"{side.marker}\n", "bubblewrap")


CASES: list[Case] = [
    Case(
        "get_runtime_identity",
        _nothing,
        # It answers for the process: the workspace that is served first.
        lambda side, answer: side.ours.id in side.served and answer.data["workspace_id"] == side.served[0],
    ),
    Case(
        "get_workspace_info",
        _nothing,
        lambda side, answer: (answer.data["id"], answer.data["name"]) == (side.ours.id, f"{side.marker}-ours"),
    ),
    Case(
        "update_agent_card",
        lambda side: {"card": {"name": f"{side.marker} card", "skills": [{"name": "proof"}]}},
        lambda side, answer: answer.data["success"] is True,
    ),
    Case(
        "list_peers",
        _nothing,
        lambda side, answer: _ids(answer, "peers") == [side.lead.id] and answer.data["peers"][0]["via"] == side.ours.id,
    ),
    Case(
        "delegate_task",
        lambda side: {"workspace_id": side.lead.id, "task": f"{side.marker} task"},
        lambda side, answer: _quoted(answer.text) == [f"{side.marker} answers"],
    ),
    Case(
        "delegate_task_async",
        lambda side: {"workspace_id": side.lead.id, "task": f"{side.marker} later"},
        lambda side, answer: _keep(side, "delegation", answer.data["delegation_id"]),
    ),
    Case(
        "check_task_status",
        lambda side: {"workspace_id": side.lead.id, "task_id": side.kept["delegation"]},
        lambda side, answer: (
            answer.data["status"] == "completed"
            and _quoted(answer.data["response_preview"]) == [f"{side.marker} answers"]
        ),
        before=_settle,
    ),
    Case(
        "chat_history",
        lambda side: {"peer_id": side.lead.id},
        lambda side, answer: f"{side.marker} task" in [row.get("text") for row in answer.data["messages"]],
    ),
    Case(
        "send_message_to_user",
        lambda side: {"message": f"{side.marker} done", "attachments": [f"{side.marker.partition('-')[0]}.txt"]},
        lambda side, answer: (
            answer.text == "Message sent to user with 1 attachment"
            and any(f"{side.marker} in a file".encode() in request for request in side.front.received)
        ),
    ),
    Case(
        "broadcast_message",
        lambda side: {"message": f"{side.marker} to all"},
        lambda side, answer: answer.data["delivered"] == 1,
    ),
    Case(
        "wait_for_message",
        lambda side: {"timeout_secs": 20},
        lambda side, answer: (
            _keep(side, "message", answer.data["activity_id"])
            and (answer.data["text"], answer.data["peer_id"]) == (f"{side.marker} hello", side.lead.id)
        ),
        before=_message,
    ),
    Case("inbox_peek", _nothing, lambda side, answer: side.kept["message"] in _ids(answer, "messages", "activity_id")),
    Case(
        "inbox_pop",
        lambda side: {"activity_id": side.kept["message"]},
        lambda side, answer: answer.data == {"removed": True, "activity_id": side.kept["message"]},
    ),
    Case(
        "commit_memory",
        lambda side: {"content": f"{side.marker} likes tea", "source": "user"},
        lambda side, answer: _keep(side, "memory", answer.data["id"]) and answer.data["scope"] == "LOCAL",
    ),
    Case(
        "recall_memory",
        lambda side: {"query": "tea"},
        lambda side, answer: (
            answer.data["count"] == 1 and answer.data["memories"][0]["content"] == f"{side.marker} likes tea"
        ),
    ),
    Case(
        "forget_memory",
        lambda side: {"memory_id": side.kept["memory"]},
        lambda side, answer: answer.data == {"success": True, "id": side.kept["memory"]},
    ),
    Case(
        "goal_set",
        lambda side: {"goal": f"{side.marker} goal"},
        lambda side, answer: answer.data["cadence_seconds"] == 3600,
    ),
    Case("goal_get", _nothing, lambda side, answer: answer.data["goal"] == f"{side.marker} goal"),
    Case("goal_clear", _nothing, lambda side, answer: answer.data == {"cleared": True, "goal": None}),
    Case(
        "task_add",
        lambda side: {"title": f"{side.marker} chore"},
        lambda side, answer: _keep(side, "task", answer.data["task"]["id"]),
    ),
    Case("task_list", _nothing, lambda side, answer: _ids(answer, "tasks") == [side.kept["task"]]),
    Case(
        "task_update",
        lambda side: {"task_id": side.kept["task"], "next_action": f"{side.marker} next"},
        lambda side, answer: answer.data["task"]["next_action"] == f"{side.marker} next",
    ),
    Case(
        "task_complete",
        lambda side: {"task_id": side.kept["task"]},
        lambda side, answer: answer.data["task"]["status"] == "completed",
    ),
    Case(
        "create_request",
        lambda side: {"kind": "task", "title": f"{side.marker} buy milk"},
        lambda side, answer: _keep(side, "request", answer.data["request_id"]) and answer.data["status"] == "pending",
    ),
    Case("check_requests", _nothing, lambda side, answer: _ids(answer, "requests") == [side.kept["request"]]),
    Case(
        "add_request_message",
        lambda side: {"request_id": side.kept["request"], "message": f"{side.marker} two litres"},
        lambda side, answer: bool(answer.data["message_id"]),
    ),
    Case(
        "get_request",
        lambda side: {"request_id": side.kept["request"]},
        lambda side, answer: (
            answer.data["request"]["title"] == f"{side.marker} buy milk"
            and [row["body"] for row in answer.data["messages"]] == [f"{side.marker} two litres"]
        ),
    ),
    Case(
        "cancel_request",
        lambda side: {"request_id": side.kept["request"]},
        lambda side, answer: answer.data["status"] == "cancelled",
    ),
    Case(
        "list_inbox",
        _nothing,
        lambda side, answer: (
            _ids(answer, "requests") == [side.kept["asked"]]
            and _quoted(answer.data["requests"][0]["title"]) == [f"{side.marker} wish"]
        ),
        before=_ask_us,
    ),
    Case(
        "respond_request",
        lambda side: {"request_id": side.kept["asked"], "action": "done", "message": f"{side.marker} granted"},
        lambda side, answer: answer.data["status"] == "done" and answer.data["message_id"],
    ),
    Case(
        "create_approval",
        lambda side: {"action": f"{side.marker} deploy"},
        lambda side, answer: answer.data["status"] == "pending" and answer.data["fingerprint"],
    ),
    # The platform runs no external workspace, and so says how that gets the plugin itself.
    Case(
        "install_plugin",
        lambda side: {"source": "local://demo"},
        lambda side, answer: f"/workspaces/{side.ours.id}/plugins/demo/download" in answer.text,
        refused=True,
    ),
    Case("run_code", lambda side: {"code": f"print({side.marker!r})"}, _ran, refused=not HAS_BUBBLEWRAP),
    Case("desktop_status", _nothing, lambda side, answer: answer.data["available"] is True),
    Case(
        "desktop_screenshot",
        lambda side: {"path": f"{side.marker}.png"},
        lambda side, answer: (answer.data["width"], answer.data["height"]) == (640, 480),
    ),
    Case(
        "desktop_click",
        lambda side: {"x": 3, "y": 4},
        lambda side, answer: _acted(side, {"type": "click", "x": 3, "y": 4, "button": "left"}),
    ),
    Case(
        "desktop_type",
        lambda side: {"text": f"{side.marker} typed"},
        lambda side, answer: _acted(side, {"type": "type", "text": f"{side.marker} typed"}),
    ),
    Case(
        "desktop_key",
        lambda side: {"keys": "ctrl+t"},
        lambda side, answer: _acted(side, {"type": "key", "keys": "ctrl+t"}),
    ),
    Case(
        "desktop_open_url",
        lambda side: {"url": f"https://{side.marker}.example/"},
        lambda side, answer: _acted(side, {"type": "navigate", "url": f"https://{side.marker}.example/"}),
    ),
    Case("desktop_wait_for_control", _nothing, lambda side, answer: answer.data["control"] == "available"),
]

ANSWER_FOR_ALL = {"get_runtime_identity", "list_peers", "wait_for_message", "inbox_peek", "inbox_pop"}
"""Tools that may be called without saying who acts where several workspaces are served: they answer for all of them."""

TAKES_NO_WORKSPACE = {"get_runtime_identity"}
