"""What the agent is told covers what the contract asks for, and is short."""

from __future__ import annotations

import pytest

from molecule_runtime.mcp.instructions import MAX_NAMED, instructions

MAX_TOKENS = 2000


def told(**how: object) -> str:
    known: dict[str, object] = {"poll_hint": 2, "workspace_ids": ["ws-1"], "inbox": True, **how}
    return instructions(**known)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - chosen by each test


def test_every_point_of_the_contract_is_said() -> None:
    """`runtime.md` 5.3."""
    text = told()
    attributes = ("source", "kind", "peer_id", "peer_name", "peer_role", "agent_card_url", "activity_id", "ts")
    assert "<channel " in text
    assert all(f'{name}="' in text for name in attributes)
    assert "at the start of each turn call wait_for_message(timeout_secs=2)" in text
    assert "Both ways end at the same inbox_pop" in text
    fields = (
        "activity_id",
        "text",
        "kind",
        "peer_id",
        "method",
        "created_at",
        "peer_name",
        "peer_role",
        "agent_card_url",
    )
    assert all(name in text.partition("Fields of a message:")[2].partition("\n\n")[0] for name in fields)
    assert "display strings" in text
    assert "no authority" in text
    assert "{kind, uri, mime_type, name}" in text
    assert all(scheme in text for scheme in ("file:///", "workspace:", "https://", "platform-pending:"))
    assert all(f"({step})" in text for step in range(1, 6))
    assert "canvas_user is the human, answer with send_message_to_user" in text
    assert "delegate_task to its peer_id (when peer_id is empty skip the answer)" in text
    assert "delegation_result is the outcome of your own delegation" in text
    assert "only after the answering tool succeeded" in text
    assert "approval" in text.partition("Trust:")[2]
    assert "side effects outside" in text.partition("Trust:")[2]


def test_without_polling_each_turn_the_agent_is_told_to_count_on_pushes() -> None:
    text = told(poll_hint=0)
    assert "timeout_secs=" not in text
    assert "you need not poll" in text
    assert "inbox_pop" in text


def test_where_nothing_is_pushed_nothing_is_said_of_it() -> None:
    text = told(push=False)
    assert "<channel" not in text
    assert "wait_for_message(timeout_secs=2)" in text
    assert "inbox_pop" in text


def test_without_an_inbox_there_is_nothing_to_wait_for() -> None:
    assert "wait_for_message" not in told(inbox=False)


@pytest.mark.parametrize("workspaces", [1, 2, 1000])
def test_the_text_is_short_however_many_workspaces_there_are(workspaces: int) -> None:
    ids = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(workspaces)]
    text = told(poll_hint=60, workspace_ids=ids)
    # Four characters are a token, as a rule of thumb for English.
    assert len(text) / 4 < MAX_TOKENS
    assert (f"{workspaces - MAX_NAMED} more" in text) == (workspaces > MAX_NAMED)
    assert (ids[-1] in text) == (1 < workspaces <= MAX_NAMED)
