"""JSON with comments, changed in place: only the characters of one member are replaced.

Several engines read comments and trailing commas in their settings, and a rewrite through `json` would lose the first and
refuse the second. Nothing else of JSON5 is accepted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

_TRIVIA = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_ATOM = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DECODER = json.JSONDecoder()
_INDENT = re.compile(r"\n([ \t]+)\"")


@dataclass(slots=True)
class _Member:
    key: str
    start: int
    value: _Node
    comma: int | None = None
    """Where the comma after it is."""


@dataclass(slots=True)
class _Node:
    value: Any
    start: int
    end: int
    members: list[_Member] | None = None
    """Of an object; None for anything else."""


@dataclass(slots=True)
class _Reader:
    text: str
    duplicates: list[str] = field(default_factory=list[str])

    def document(self) -> _Node:
        position = self._skip(0)
        if position == len(self.text):
            raise ValueError("is blank")
        node = self._value(position)
        rest = self._skip(node.end)
        if rest != len(self.text):
            raise self._error("more text after the end of the document", rest)
        return node

    def _value(self, position: int) -> _Node:
        character = self.text[position : position + 1]
        if character == "{":
            return self._object(position)
        if character == "[":
            return self._array(position)
        if character == '"':
            value, end = self._string(position)
            return _Node(value, position, end)
        match = _ATOM.match(self.text, position)
        if match is None:
            raise self._error("expected a JSON value", position)
        return _Node(json.loads(match.group()), position, match.end())

    def _object(self, start: int) -> _Node:
        members: list[_Member] = []
        position = self._skip(start + 1)
        while self.text[position : position + 1] != "}":
            if members and members[-1].comma is None:
                raise self._error("expected ',' or '}'", position)
            if self.text[position : position + 1] != '"':
                raise self._error("expected a key in double quotes or '}'", position)
            key, end = self._string(position)
            colon = self._skip(end)
            if self.text[colon : colon + 1] != ":":
                raise self._error("expected ':'", colon)
            member = _Member(key, position, self._value(self._skip(colon + 1)))
            if any(other.key == key for other in members):
                raise self._error(f"the key {key!r} is there twice", position)
            members.append(member)
            position = self._skip(member.value.end)
            if self.text[position : position + 1] == ",":
                member.comma = position
                position = self._skip(position + 1)
        return _Node({member.key: member.value.value for member in members}, start, position + 1, members)

    def _array(self, start: int) -> _Node:
        items: list[Any] = []
        position = self._skip(start + 1)
        ended = True
        while self.text[position : position + 1] != "]":
            if not ended:
                raise self._error("expected ',' or ']'", position)
            item = self._value(position)
            items.append(item.value)
            position = self._skip(item.end)
            ended = self.text[position : position + 1] == ","
            if ended:
                position = self._skip(position + 1)
        return _Node(items, start, position + 1)

    def _string(self, position: int) -> tuple[str, int]:
        try:
            value, end = _DECODER.raw_decode(self.text, position)
        except json.JSONDecodeError as exc:
            raise self._error(exc.msg, exc.pos) from None
        return str(value), end

    def _skip(self, position: int) -> int:
        match = _TRIVIA.match(self.text, position)
        return match.end() if match else position

    def _error(self, message: str, position: int) -> ValueError:
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        return ValueError(f"line {line} column {column}: {message}")


class Jsonc:
    """The format of Claude Code's, Gemini CLI's and OpenClaw's settings."""

    def parse(self, text: str) -> dict[str, Any]:
        """Return the content; empty for a blank text."""
        if not text.strip():
            return {}
        value = _Reader(text).document().value
        if not isinstance(value, dict):
            raise ValueError(f"the top level is not an object but {type(value).__name__}")  # noqa: TRY004 - of the text
        return cast("dict[str, Any]", value)

    def put(self, text: str, keys: tuple[str, ...], name: str, entry: dict[str, Any]) -> str:
        """Return the text with one member set."""
        if not text.strip():
            nested: dict[str, Any] = {name: entry}
            for key in reversed(keys):
                nested = {key: nested}
            return json.dumps(nested, indent=2, ensure_ascii=False) + "\n"
        node = _Reader(text).document()
        value: Any = entry
        path = [*keys, name]
        for depth, key in enumerate(path):
            member = next((one for one in node.members or () if one.key == key), None)
            if member is None or member.value.value is None or depth == len(path) - 1:
                for outer in reversed(path[depth + 1 :]):
                    value = {outer: value}
                return _replace(text, member, value) if member else _insert(text, node, key, value)
            node = member.value
        raise ValueError("no key given")

    def drop(self, text: str, keys: tuple[str, ...], name: str) -> str:
        """Return the text without one member."""
        node = _Reader(text).document()
        for key in keys:
            node = next(member.value for member in node.members or () if member.key == key)
        members = node.members or []
        index = next(number for number, member in enumerate(members) if member.key == name)
        member = members[index]
        start, end = member.start, member.value.end
        if member.comma is not None:
            end = member.comma + 1
        elif index:
            # The last one: the comma before it would be left over.
            comma = members[index - 1].comma
            if comma is not None:
                text = text[:comma] + text[comma + 1 :]
                start, end = start - 1, end - 1
        inner = text[node.start + 1 : start] + text[end : node.end - 1]
        if len(members) == 1 and not inner.strip():
            return f"{text[: node.start]}{{}}{text[node.end :]}"
        start = len(text[:start].rstrip(" \t"))
        if text[:start].endswith("\n"):
            rest = re.compile(r"[ \t]*\r?\n").match(text, end)
            end = rest.end() if rest else end
        return text[:start] + text[end:]


def _replace(text: str, member: _Member, value: Any) -> str:
    indent = _line_indent(text, member.start)
    return text[: member.value.start] + _dump(text, value, indent) + text[member.value.end :]


def _insert(text: str, node: _Node, key: str, value: Any) -> str:
    """Add a member at the end of an object."""
    outer = _line_indent(text, node.start)
    members = node.members or []
    inner = _line_indent(text, members[0].start) if members else outer + _unit(text)
    one_line = bool(members) and "\n" not in text[node.start : members[0].start]
    added = f"{json.dumps(key, ensure_ascii=False)}: {_dump(text, value, outer if one_line else inner)}"
    close = node.end - 1
    if not members and not text[node.start + 1 : close].strip():
        return f"{text[: node.start + 1]}\n{inner}{added}\n{outer}{text[close:]}"
    if members and members[-1].comma is None:
        end = members[-1].value.end
        text = f"{text[:end]},{text[end:]}"
        close += 1
    before = text[:close].rstrip(" \t\r\n")
    if one_line and "//" not in text[members[-1].value.end : close]:
        return f"{before} {added}{text[close:]}"
    return f"{before}\n{inner}{added}\n{outer}{text[close:]}"


def _dump(text: str, value: Any, indent: str) -> str:
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return f"\n{indent}".join(lines)


def _unit(text: str) -> str:
    """Return the indentation that the file uses, two spaces where it has none."""
    match = _INDENT.search(text)
    return match.group(1) if match else "  "


def _line_indent(text: str, position: int) -> str:
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]
