"""YAML, changed in place: the lines of one entry are replaced, so that comments and order of everything else stay."""

from __future__ import annotations

from typing import Any, cast

import yaml


class Yaml:
    """The format of Hermes' settings."""

    def parse(self, text: str) -> dict[str, Any]:
        """Return the content; empty for a text without any."""
        try:
            value: object = yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise ValueError(str(exc)) from exc
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError(f"the top level is not a mapping but {type(value).__name__}")  # noqa: TRY004 - of the text
        return cast("dict[str, Any]", value)

    def put(self, text: str, keys: tuple[str, ...], name: str, entry: dict[str, Any]) -> str:
        """Return the text with one entry set."""
        (key,) = keys
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            # Nothing, or a document that is null; the top level of anything else was refused.
            return _appended(text, _dump({key: {name: entry}}))
        if root.flow_style:
            return self._rewritten(text, key, name, entry)
        pair = _pair(root, key)
        if pair is None:
            return _appended(text, _dump({key: {name: entry}}))
        key_node, servers = pair
        if not isinstance(servers, yaml.MappingNode) or servers.flow_style or not servers.value:
            old: dict[str, Any] = self.parse(text).get(key) or {}
            block = _dump({key: {**old, name: entry}}).rstrip("\n")
            return text[: key_node.start_mark.index] + block + text[max(servers.end_mark.index, _after_key(key_node)) :]
        indent = " " * servers.start_mark.column
        block = f"\n{indent}".join(_dump({name: entry}).rstrip("\n").split("\n"))
        existing = _pair(servers, name)
        if existing is not None:
            return text[: _start(text, existing[0])] + block + text[_end(text, *existing) :]
        place = _line_end(text, _end(text, *servers.value[-1]))
        return f"{text[:place]}\n{indent}{block}{text[place:]}"

    def drop(self, text: str, keys: tuple[str, ...], name: str) -> str:
        """Return the text without one entry."""
        (key,) = keys
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        if isinstance(root, yaml.MappingNode) and root.flow_style:
            return self._rewritten(text, key, name, None)
        pair = _pair(root, key)
        existing = _pair(pair[1], name) if pair is not None else None
        if pair is None or existing is None:
            raise ValueError(f"{name!r} is not a key of its own in {key}")
        key_node, servers = pair
        if cast("yaml.MappingNode", servers).flow_style or len(servers.value) == 1:
            rest = self.parse(text)[key]
            del rest[name]
            block = _dump({key: rest}).rstrip("\n")
            return text[: key_node.start_mark.index] + block + text[_end(text, *pair) :]
        start = text.rfind("\n", 0, _start(text, existing[0])) + 1
        end = _line_end(text, _end(text, *existing))
        return text[:start] + text[end + 1 :]

    def _rewritten(self, text: str, key: str, name: str, entry: dict[str, Any] | None) -> str:
        if "#" in text:
            raise ValueError("a flow mapping with comments would lose them; write its keys on lines of their own")
        document = self.parse(text)
        servers: dict[str, Any] = dict(document.get(key) or {})
        servers.pop(name, None)
        return _dump({**document, key: servers if entry is None else {**servers, name: entry}})


def _dump(value: dict[str, Any]) -> str:
    text = ""
    for readable in (True, False):
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=readable, default_flow_style=False, width=10_000)
        # The emitter does not quote every character that the scanner takes for a line break (U+0085).
        if yaml.safe_load(text) == value:
            break
    return text


def _appended(text: str, block: str) -> str:
    separator = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{separator}{block}"


def _pair(node: Any, key: str) -> tuple[Any, Any] | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    for key_node, value in node.value:
        if isinstance(key_node, yaml.ScalarNode) and key_node.value == key:
            return key_node, value
    return None


def _start(text: str, key_node: Any) -> int:
    """Return where an entry begins: at its key, or at the `?` that a key of several lines needs."""
    position = int(key_node.start_mark.index)
    line = text.rfind("\n", 0, position) + 1
    before = text[line:position]
    return line + before.index("?") if before.strip() == "?" else position


def _after_key(key_node: Any) -> int:
    """Return the place after the colon of a key."""
    return int(key_node.end_mark.index) + 1


def _end(text: str, key_node: Any, value: Any) -> int:
    """Return where the last character of an entry ends; a parser's own mark of a block is where the next token begins."""
    if isinstance(value, yaml.ScalarNode):
        end = len(text[: value.end_mark.index].rstrip()) if value.style in {"|", ">"} else value.end_mark.index
    elif value.flow_style or not value.value:
        end = value.end_mark.index
    else:
        last = value.value[-1]
        end = _end(text, *last) if isinstance(value, yaml.MappingNode) else _end(text, value, last)
    # An alias is the node that it stands for, which is somewhere before.
    if end <= key_node.start_mark.index:
        return _line_end(text, key_node.end_mark.index)
    return max(int(end), int(key_node.end_mark.index) if isinstance(key_node, yaml.ScalarNode) else 0)


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end
