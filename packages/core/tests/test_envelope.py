"""The builder of outbound messages and the reader of whatever comes back."""

import itertools
import json
import math
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from molecule_runtime.core.envelope import (
    Accepted,
    Failure,
    File,
    Inbound,
    Reply,
    message_send,
    read_answer,
    read_message,
)

# Building


def test_a_message_is_a_json_rpc_request_whose_parts_are_keyed_by_kind() -> None:
    assert message_send("hello", message_id="m-1") == {
        "jsonrpc": "2.0",
        "id": "m-1",
        "method": "message/send",
        "params": {
            "message": {
                "kind": "message",
                "role": "user",
                "messageId": "m-1",
                "parts": [{"kind": "text", "text": "hello"}],
            }
        },
    }


def test_the_message_id_is_the_json_rpc_id_and_new_each_time() -> None:
    first, second = message_send("x"), message_send("x")
    for body in (first, second):
        assert body["id"] == body["params"]["message"]["messageId"]
        uuid.UUID(body["id"])
    assert first["id"] != second["id"]


def test_context_metadata_files_and_role_are_carried() -> None:
    metadata = {"source_workspace_id": "ws-1"}
    body = message_send(
        "see",
        context_id="c-1",
        metadata=metadata,
        role="agent",
        files=[File(uri="workspace:/a.csv"), File(uri="https://h/b", name="b", mime_type="text/csv", size=0)],
    )
    message = body["params"]["message"]
    assert message["role"] == "agent"
    assert message["contextId"] == "c-1"
    assert message["metadata"] == metadata
    assert message["metadata"] is not metadata
    assert message["parts"][1:] == [
        {"kind": "file", "file": {"uri": "workspace:/a.csv"}},
        {"kind": "file", "file": {"uri": "https://h/b", "name": "b", "mimeType": "text/csv", "size": 0}},
    ]
    assert json.loads(json.dumps(body)) == body


def test_what_was_not_given_is_not_in_the_message() -> None:
    message = message_send("x", context_id="", metadata={})["params"]["message"]
    assert message.keys() == {"kind", "role", "messageId", "parts"}


def test_the_reader_gives_back_what_the_builder_was_given() -> None:
    files = (File(uri="workspace:/a.csv", name="a.csv", mime_type="text/csv", size=3), File(uri="file:///b"))
    built = message_send("text\n", message_id="m", context_id="c", files=files, metadata={"k": [1]})
    assert read_message(built) == Inbound(
        text="text\n", files=files, message_id="m", context_id="c", metadata={"k": [1]}
    )


# Answers of an agent


def result(value: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "1", "result": value}


MESSAGE = {
    "kind": "message",
    "role": "agent",
    "messageId": "m",
    "taskId": "t",
    "contextId": "c",
    "parts": [{"kind": "text", "text": "one"}, {"kind": "data", "data": {"x": 1}}, {"kind": "text", "text": "two"}],
}


def task(state: str, **more: Any) -> dict[str, Any]:
    return {"kind": "task", "id": "t", "contextId": "c", "status": {"state": state}, **more}


def said(state: str, text: str) -> dict[str, Any]:
    return {"state": state, "message": {"role": "agent", "parts": [{"kind": "text", "text": text}]}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (MESSAGE, Reply(text="one\ntwo", task_id="t", context_id="c")),
        ({"message": MESSAGE}, Reply(text="one\ntwo", task_id="t", context_id="c")),
        (
            {"message": {"role": "ROLE_AGENT", "messageId": "m", "content": [], "parts": [{"text": "bare"}]}},
            Reply(text="bare"),
        ),
        ({"parts": [{"type": "text", "text": "old key"}]}, Reply(text="old key")),
        ({"parts": [{"kind": None, "type": "text", "text": "null kind"}]}, Reply(text="null kind")),
        ({"parts": []}, Reply(text="")),
        ({}, Reply(text="")),
        ("plain", Reply(text="plain")),
        (
            task("completed", artifacts=[{"parts": [{"kind": "text", "text": "a"}]}, {"parts": [{"text": "b"}]}]),
            Reply(text="a\nb", state="completed", task_id="t", context_id="c"),
        ),
        (
            task("completed") | {"status": said("completed", "only here")},
            Reply(text="only here", state="completed", task_id="t", context_id="c"),
        ),
        (
            task("x", artifacts=[{"parts": [{"kind": "text", "text": "all"}]}])
            | {"status": said("completed", "all again")},
            Reply(text="all", state="completed", task_id="t", context_id="c"),
        ),
        (
            task("x") | {"status": said("input-required", "which one?")},
            Reply(text="which one?", state="input-required", task_id="t", context_id="c"),
        ),
        ({"artifacts": []}, Reply(text="", state="completed")),
        (
            {"task": task("x") | {"status": said("TASK_STATE_INPUT_REQUIRED", "which?")}},
            Reply(text="which?", state="input-required", task_id="t", context_id="c"),
        ),
        (
            {"task": task("TASK_STATE_COMPLETED", artifacts=[{"artifactId": "a", "parts": [{"text": "done"}]}])},
            Reply(text="done", state="completed", task_id="t", context_id="c"),
        ),
        (
            {"task": {"message": {"task": {"message": MESSAGE}}}},
            Reply(text="one\ntwo", task_id="t", context_id="c"),
        ),
    ],
)
def test_a_result_is_read_in_every_shape(body: Any, expected: Reply) -> None:
    assert read_answer(result(body)) == expected


@pytest.mark.parametrize(
    "state", ["failed", "rejected", "canceled", "cancelled", "TASK_STATE_FAILED", "TASK_STATE_REJECTED"]
)
def test_a_task_that_did_not_work_out_is_a_failure_with_what_the_agent_said(state: str) -> None:
    assert read_answer(result(task(state) | {"status": said(state, "no disk")})) == Failure(message="no disk")
    with_artifact = task(state, artifacts=[{"parts": [{"text": "half"}]}])
    assert read_answer(result(with_artifact)) == Failure(message="half")
    assert isinstance(read_answer(result(task(state))), Failure)


@pytest.mark.parametrize(
    "part",
    [
        {"kind": "file", "file": {"uri": "workspace:/a", "name": "a", "mimeType": "text/csv", "size": 3}},
        {"kind": "file", "uri": "workspace:/a", "name": "a", "mime_type": "text/csv", "size": 3},
        {"url": "workspace:/a", "filename": "a", "mediaType": "text/csv", "size": 3},
    ],
)
def test_a_file_is_read_in_three_shapes(part: dict[str, Any]) -> None:
    file = File(uri="workspace:/a", name="a", mime_type="text/csv", size=3)
    answer = read_answer(result({"parts": [{"text": "see"}, part]}))
    assert answer == Reply(text="see", files=(file,))
    assert read_message({"parts": [part]}).files == (file,)
    of_task = read_answer(result(task("completed", artifacts=[{"parts": [part]}])))
    assert isinstance(of_task, Reply)
    assert of_task.files == (file,)


@pytest.mark.parametrize("size", [-1, True, 1.5, "3", None])
def test_a_size_that_is_no_number_of_bytes_is_unknown(size: object) -> None:
    assert read_message({"parts": [{"uri": "x:/a", "size": size}]}).files == (File(uri="x:/a"),)


@pytest.mark.parametrize("value", [{}, None, 7, {"uri": ""}, {"uri": 7}, {"bytes": "aGk="}])
def test_a_file_without_an_address_is_left_out(value: object) -> None:
    assert read_message({"parts": [{"kind": "file", "file": value}]}).files == ()


def test_a_text_that_reports_an_agent_error_is_a_failure() -> None:
    body = result({"parts": [{"kind": "text", "text": "Agent error: boom"}]})
    assert read_answer(body) == Failure(message="Agent error: boom")


# Acknowledgements and errors of the platform


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"queued": True, "queue_id": "q", "queue_depth": 2, "message": "busy"}, Accepted(mode="busy", queue_id="q")),
        (
            {"status": "queued", "delivery_mode": "poll", "method": "message/send"},
            Accepted(mode="poll", method="message/send"),
        ),
        (
            {"status": "queued", "delivery_mode": "push-async", "method": "message/send"},
            Accepted(mode="push-async", method="message/send"),
        ),
        (
            {"status": "queued", "method": "message/send", "queued": True, "queue_id": "q", "queue_depth": 1},
            Accepted(mode="busy", method="message/send", queue_id="q"),
        ),
        ({"status": "queued"}, Accepted(mode="busy")),
    ],
)
def test_an_acknowledgement_is_never_an_answer(body: dict[str, Any], expected: Accepted) -> None:
    assert read_answer(body) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": -32600, "message": "bad"}, Failure(message="bad", code=-32600)),
        ({"code": -32603, "message": "bad", "data": "the reason"}, Failure(message="bad: the reason", code=-32603)),
        ({"code": -32603, "message": "bad", "data": "bad"}, Failure(message="bad", code=-32603)),
        ({"code": -32603, "message": "bad", "data": {"x": 1}}, Failure(message="bad", code=-32603)),
        ({"code": "x", "message": ""}, Failure(message="unknown error")),
        ({"code": True, "message": "bad"}, Failure(message="bad")),
        ({}, Failure(message="unknown error")),
        ("workspace not found", Failure(message="workspace not found")),
        ("", Failure(message="unknown error")),
        (7, Failure(message="unknown error")),
    ],
)
def test_an_error_is_a_failure_in_either_form(error: object, expected: Failure) -> None:
    assert read_answer({"jsonrpc": "2.0", "id": "1", "error": error}) == expected


def test_a_null_error_beside_a_result_is_no_error() -> None:
    assert read_answer({"error": None, "result": "fine"}) == Reply(text="fine")


@pytest.mark.parametrize("body", [None, 7, "text", [], [1], {}, {"jsonrpc": "2.0"}, {"result": None}, {"result": [1]}])
def test_what_is_no_answer_is_a_failure_that_says_so(body: object) -> None:
    answer = read_answer(body)
    assert isinstance(answer, Failure)
    assert answer.message


def nested(key: str, depth: int) -> Any:
    node: Any = {"parts": [{"text": "deep"}]}
    for _ in range(depth):
        node = {key: node}
    return node


@cache  # not on import: each worker imports every test
def odd_values() -> list[Any]:
    return [
        None, True, 0, -1, 1.5, math.nan, "", "text", "\ud800", [], [None], [[]], [{}], {}, {"a": 1}, {"text": "x"}, {"parts": None},
        {"parts": "text"}, {"parts": {}}, {"parts": [None, 7, "x", [], {}, {"text": None}, {"text": 7}, {"kind": [], "text": "x"}]},
        {"state": None}, {"state": []}, {"state": {"x": 1}}, {"message": "x"}, {"message": []}, {"message": {"parts": 7}},
        {"parts": [{"file": []}, {"uri": {}}, {"url": 7, "uri": None}, {"file": {"uri": "x", "name": [], "mimeType": {}, "size": "x"}}]},
        nested("task", 50_000), nested("message", 50_000), nested("params", 50_000), nested("file", 50_000),
    ]  # fmt: skip


def test_nothing_that_comes_back_makes_the_reader_raise() -> None:
    keys = ("result", "error", "params", "message", "task", "status", "artifacts", "parts", "queued", "data", "code")
    for key, value in itertools.product(keys, odd_values()):
        for body in (
            {key: value},
            {"result": {key: value}},
            {"result": {"task": {key: value}}},
            {"error": {key: value}},
        ):
            assert isinstance(read_answer(body), (Reply, Accepted, Failure))
            assert isinstance(read_message(body), Inbound)
    for first, second in itertools.product(odd_values(), odd_values()):
        body = {"result": {"status": first, "artifacts": [second, first], "parts": second}}
        assert isinstance(read_answer(body), (Reply, Accepted, Failure))
    for value in odd_values():
        assert isinstance(read_answer(value), (Reply, Accepted, Failure))
        assert isinstance(read_message(value), Inbound)


# Inbound


WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "envelope": lambda message: {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}},
    "params": lambda message: {"params": {"message": message}},
    "message": lambda message: {"message": message},
    "bare": lambda message: message,
    "decoded": lambda message: json.loads(json.dumps({"params": {"message": message}})),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_an_inbound_message_is_found_in_every_wrapping(wrapping: str) -> None:
    message = {
        "role": "user",
        "messageId": " m ",
        "contextId": "c",
        "metadata": {"source_workspace_id": "ws-2"},
        "parts": [{"type": "text", "text": "one"}, {"kind": "text", "text": "two"}, {"text": "three"}],
    }
    assert read_message(WRAPPINGS[wrapping](message)) == Inbound(
        text="one\ntwo\nthree", message_id="m", context_id="c", metadata={"source_workspace_id": "ws-2"}
    )


@pytest.mark.parametrize("body", [None, "text", 7, [], {}, {"params": None}, {"params": {"message": None}}])
def test_an_inbound_body_without_a_message_is_empty(body: object) -> None:
    assert read_message(body) == Inbound(text="")
