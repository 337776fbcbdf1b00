"""TOML, changed in place: the tables of one server are replaced, every other line stays.

`tomlkit` writes what is added, so that names with dots and values with control characters are quoted; `tomllib` reads.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError

_HEADER = re.compile(r"[ \t]*\[[^\n]*\][ \t]*(?:#[^\n]*)?\r?\n?")


class Toml:
    """The format of Codex' settings."""

    def parse(self, text: str) -> dict[str, Any]:
        """Return the content."""
        return tomllib.loads(text)

    def put(self, text: str, keys: tuple[str, ...], name: str, entry: dict[str, Any]) -> str:
        """Return the text with the tables of one server, where they were or at the end."""
        block = _render(keys, name, entry)
        kept, place = _without(text, (*keys, name), name) if _server(text, keys, name) is not None else (text, None)
        if place is None:
            end = "" if not kept or kept.endswith("\n") else "\n"
            changed = f"{kept}{end}{chr(10) if kept.strip() else ''}{block}"
        else:
            tail = kept[place:]
            gap = "\n" if tail.strip() and not tail.startswith(("\n", "\r\n")) else ""
            changed = f"{kept[:place]}{block}{gap}{tail}"
        return changed if _only_differs_by(text, changed, keys, name, entry) else _by_document(text, keys, name, entry)

    def drop(self, text: str, keys: tuple[str, ...], name: str) -> str:
        """Return the text without the tables of one server."""
        changed, place = _without(text, (*keys, name), name)
        if not _only_differs_by(text, changed, keys, name, None):
            return _by_document(text, keys, name, None)
        # At the end of the file, the blank line that separated it would be left over.
        return changed if place is None or changed[place:].strip() else f"{changed[:place].rstrip()}\n".lstrip("\n")


def _render(keys: tuple[str, ...], name: str, entry: dict[str, Any]) -> str:
    document = tomlkit.document()
    node: Any = document
    for key in keys:
        table = tomlkit.table(is_super_table=True)
        node.append(key, table)
        node = table
    node.append(name, tomlkit.item(entry))
    return tomlkit.dumps(document)


def _without(text: str, path: tuple[str, ...], name: str) -> tuple[str, int | None]:
    """Return the text without the tables at `path` and below, and where the first of them was.

    Blank lines and comments at the end of a table stay: they usually belong to what follows. The predecessor's marker lines go.
    """
    lines = text.splitlines(keepends=True)
    markers = {f"# >>> molecule-mcp:{name} >>>", f"# <<< molecule-mcp:{name} <<<"}
    kept: list[str] = []
    pending: list[str] = []
    place: int | None = None
    inside = False
    table: tuple[str, ...] = ()
    for line in lines:
        if _HEADER.fullmatch(line):
            header = _path_of(line)
            if header is not None:
                kept += pending
                pending = []
                table = header
                inside = header[: len(path)] == path
                if inside and place is None:
                    place = sum(map(len, kept))
        if line.strip() in markers:
            continue
        if not inside:
            # A dotted key or an inline table, on one line of the table above.
            dotted = _path_of(line) if "=" in line else None
            if dotted is None or (*table, *dotted)[: len(path)] != path:
                kept.append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            pending = []
        else:
            pending.append(line)
    return "".join([*kept, *pending]), place


def _path_of(line: str) -> tuple[str, ...] | None:
    """Return the dotted name in a table's header, or of the value on a line; None for a line that only looks like one."""
    try:
        node: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path: list[str] = []
    while isinstance(node, (dict, list)) and len(cast("list[object]", node)) == 1:
        if isinstance(node, list):
            (node,) = cast("list[object]", node)
            continue
        ((key, node),) = cast("dict[str, object]", node).items()
        path.append(key)
    return tuple(path)


def _server(text: str, keys: tuple[str, ...], name: str) -> object:
    """Return what a text declares for one server; None for nothing, and for a text that is not TOML."""
    try:
        node: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return ...
    for key in (*keys, name):
        node = cast("dict[str, object]", node).get(key) if isinstance(node, dict) else None
    return node


def _only_differs_by(before: str, after: str, keys: tuple[str, ...], name: str, entry: dict[str, Any] | None) -> bool:
    """Tell whether two texts mean the same, but for one server, which is `entry` in the second."""
    expected = tomllib.loads(before)
    node: Any = expected
    for key in keys:
        node = node.setdefault(key, {})
    node.pop(name, None)
    if entry is not None:
        node[name] = entry
    try:
        found = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        return False
    node = found
    for key in keys:
        node = node.setdefault(key, {})
    return found == expected


def _by_document(text: str, keys: tuple[str, ...], name: str, entry: dict[str, Any] | None) -> str:
    """Change an inline or dotted declaration, which has no table of its own."""
    try:
        document = tomlkit.parse(text)
        node: Any = document
        for key in keys:
            node = node[key]
        if name in node:
            node.remove(name)
        if entry is not None:
            inline: Any = tomlkit.inline_table()
            inline.update(entry)
            node[name] = inline
        return tomlkit.dumps(document)
    except (TOMLKitError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"the declaration of {name!r} is in a form that cannot be changed: {exc}") from exc
