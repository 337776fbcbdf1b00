"""What stands in front of the SDK changes only what older senders leave out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from molecule_runtime.a2a.inbound import normalise, request_id_of


def send(message: Any, method: str = "message/send") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}


def message_of(body: Any) -> dict[str, Any]:
    message: dict[str, Any] = body["params"]["message"]
    return message


COMPLETE = {
    "kind": "message",
    "role": "agent",
    "messageId": "m",
    "contextId": "c",
    "metadata": {"type": "x"},
    "parts": [{"kind": "text", "text": "hi", "type": "kept"}, {"kind": "data", "data": {"type": "text"}}],
}


def test_a_complete_message_stays_as_it_is() -> None:
    body = send(COMPLETE)
    assert normalise(copy.deepcopy(body)) == body


@pytest.mark.parametrize("method", ["message/send", "message/stream"])
def test_a_bare_message_gets_role_kind_and_id(method: str) -> None:
    one = message_of(normalise(send({"parts": []}, method)))
    two = message_of(normalise(send({"parts": [], "role": None, "messageId": ""}, method)))
    assert (one["role"], one["kind"], two["role"]) == ("user", "message", "user")
    assert one["messageId"]
    assert one["messageId"] != two["messageId"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "x"}, {"kind": "text", "text": "x"}),
        ({"text": "x"}, {"kind": "text", "text": "x"}),
        ({"type": "file", "file": {"uri": "u"}}, {"kind": "file", "file": {"uri": "u"}}),
        (
            {"kind": "file", "uri": "u", "name": "n", "mimeType": "t"},
            {"kind": "file", "file": {"uri": "u", "name": "n", "mimeType": "t"}},
        ),
        ({"data": {"a": 1}}, {"kind": "data", "data": {"a": 1}}),
        ({"type": "video", "x": 1}, {"type": "video", "x": 1}),
        ("text", "text"),
        (None, None),
    ],
)
def test_a_part_is_keyed_by_kind(part: object, expected: object) -> None:
    assert message_of(normalise(send({"parts": [part]})))["parts"] == [expected]


@pytest.mark.parametrize(
    "body",
    [None, [], 1, "x", {}, {"method": "message/send"}, {"method": "message/send", "params": []}, send(3), send(COMPLETE, "SendMessage"),
     send(COMPLETE, "tasks/get")],
)  # fmt: skip
def test_anything_else_is_left_to_the_sdk(body: object) -> None:
    assert normalise(copy.deepcopy(body)) == body


def test_a_message_whose_parts_are_no_list_is_left_to_the_sdk() -> None:
    assert message_of(normalise(send({"parts": "x"})))["parts"] == "x"


@pytest.mark.parametrize(
    ("body", "identifier"),
    [({"id": 1}, 1), ({"id": "a"}, "a"), ({"id": True}, None), ({"id": [1]}, None), ([], None), ({}, None)],
)
def test_only_an_id_that_may_be_repeated_is_repeated(body: object, identifier: object) -> None:
    assert request_id_of(body) == identifier
