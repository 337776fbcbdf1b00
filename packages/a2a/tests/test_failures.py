"""What a failure is called, and what people read of it."""

from __future__ import annotations

import pytest

from molecule_runtime.a2a.executors import AgentFailure, classify, user_text
from molecule_runtime.a2a.executors.failures import tag_of


@pytest.mark.parametrize(
    ("text", "code", "tag"),
    [
        ("API Error: 429 {'type': 'rate_limit_error'}", 1, "rate_limited"),
        ("Overloaded", 1, "rate_limited"),
        ("You exceeded your current quota: insufficient_quota", 1, "rate_limited"),
        ("status code: 401 Unauthorized", 1, "auth_failed"),
        ("Not logged in. Run the login command", 1, "auth_failed"),
        ("No conversation found with session ID: 1234", 1, "session_error"),
        ("thread 42 does not exist", 2, "session_error"),
        # Words that only look like one of those.
        ("the frame rate of the author's session was fine", 3, "exit_3"),
        ("we separate and generate at any rate", 4, "exit_4"),
        ("listening on 127.0.0.1:4290; 429 files were read", 5, "exit_5"),
        ("the authentication module was imported", 6, "exit_6"),
        ("", -9, "signal_9"),
        ("", None, "subprocess_error"),
        ("", 0, "subprocess_error"),
    ],
)
def test_a_failure_is_named_by_what_programs_say_of_it_not_by_a_word_in_a_sentence(
    text: str, code: int | None, tag: str
) -> None:
    assert classify(text, code) == tag


def test_people_read_a_tag_and_a_sentence_of_ours() -> None:
    failure = AgentFailure("exit_3", "/home/agent/.env holds sk-secret")
    assert tag_of(failure) == "exit_3"
    assert tag_of(TimeoutError()) == "timeout"
    assert tag_of(ValueError("/home/agent/.env")) == "ValueError"
    assert tag_of(RuntimeError("HTTP 429 Too Many Requests")) == "rate_limited"
    for shown in (user_text(tag_of(failure)), user_text("/home/agent: sk-secret")):
        assert shown.startswith("Agent error (")
        assert "agent/" not in shown
        assert "sk-" not in shown
