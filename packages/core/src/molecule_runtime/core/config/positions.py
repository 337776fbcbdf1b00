"""Reads YAML into plain data and keeps where each key and value stands.

Scalars follow YAML 1.2 where version 1.1 surprises people: `12:30` and `2026-07-01` are text, `0755` is text, `1e3` is a number, a
key named `on` is the key `on`. `yes`, `no`, `on` and `off` stay switches, as in the files in use; where a key takes text the text of
the file is the value, so `version: 1.10` is `1.10` and `mode: off` is `off`. Anchors, aliases and merge keys work; size, depth and
what aliases may expand to are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from molecule_runtime.core.config.findings import safe
from molecule_runtime.core.config.values import is_text, item_of, model_of

if TYPE_CHECKING:
    from molecule_runtime.core.config.findings import KeyPath

MAX_DEPTH = 50
MAX_NODES = 50_000
"""Values after aliases were expanded; the largest file in use has some 2000."""

_PLAIN = "plain"
_CORE = "tag:yaml.org,2002:"
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE|yes|Yes|YES|on|On|ON")
_FALSE = re.compile(r"false|False|FALSE|no|No|NO|off|Off|OFF")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", re.ASCII)
_OTHER_INT = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - carried as a value too, and never leaves the package
    """Something in the file that makes its values unknowable."""

    code: str
    message: str
    remedy: str
    line: int | None = None
    column: int | None = None
    path: tuple[str | int, ...] = ()


class _Loader(yaml.SafeLoader):
    """Composes nodes only. Plain scalars carry a tag of their own, so that they can be told from quoted and tagged ones."""

    depth = 0
    nodes = 0

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is ScalarNode:
            return _PLAIN if implicit[0] else f"{_CORE}str"
        return f"{_CORE}map" if kind is MappingNode else f"{_CORE}seq"

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Not used: tags do not depend on paths here."""

    def ascend_resolver(self) -> None:
        """Not used: tags do not depend on paths here."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        self.depth += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            line, column = _place(cast("Any", self).peek_event())
            if self.depth > MAX_DEPTH:
                raise Problem("too-deep", f"is nested more than {MAX_DEPTH} levels deep", "flatten it", line, column)
            raise Problem("too-large", f"holds more than {MAX_NODES} values", "split it or remove some", line, column)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def compose(text: str) -> Node | None:
    """Return the tree of the one document in `text`; None when it is empty.

    Raises:
        Problem: it is not YAML.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        raise _syntax(exc, text) from None
    except yaml.reader.ReaderError as exc:
        before = text[: exc.position]
        raise Problem(
            "syntax",
            f"holds the character {ord(exc.character) if isinstance(exc.character, str) else exc.character:#x},"
            " which YAML does not allow",
            "remove it",
            before.count("\n") + 1,
            len(before) - before.rfind("\n"),
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError, IndexError, AttributeError, RecursionError) as exc:
        # The scanner's own slips, such as an escape above the last code point.
        mark = loader.get_mark() if loader is not None else None
        raise Problem(
            "syntax",
            f"is not valid YAML ({type(exc).__name__})",
            "check the escapes and quotes near this place",
            mark.line + 1 if mark else None,
            mark.column + 1 if mark else None,
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def _syntax(exc: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = exc.problem_mark or exc.context_mark
    line = mark.line + 1 if mark else None
    column = mark.column + 1 if mark else None
    # `problem` quotes names of anchors and tags at most; str(exc) would quote the line, which may hold a secret.
    problem = safe(" ".join((exc.problem or exc.context or "unknown").split()), 120)
    remedy = "check the indentation, the colons and the quotes near this place"
    lines = text.splitlines()
    there = lines[line - 1] if line is not None and line <= len(lines) else ""
    if "\\t" in problem or "\t" in there[: len(there) - len(there.lstrip())]:
        remedy = "indent with spaces: YAML does not allow tabs there"
    elif "mapping values are not allowed" in problem:
        remedy = "put text that holds ': ' into quotes, and check the indentation"
    elif "cannot start any token" in problem:
        remedy = "put text that begins with this character into quotes"
    elif "undefined alias" in problem:
        remedy = "put text that begins with * into quotes, or define the anchor first"
    elif "another document" in problem:
        remedy = "keep one document: remove the second '---'"
    return Problem("syntax", f"is not valid YAML: {problem}", remedy, line, column)


@dataclass(slots=True)
class Reader:
    """Turns nodes into data for a model, and notes where each value stands.

    Attributes:
        values: the line and column of each value, by path.
        keys: the line and column of each key, by path.
        raw: each scalar as the file has it, by path.
        quoted: the scalars that stand in quotes.
        problems: duplicate keys, unknown tags and the like; all of them, not only the first.
    """

    values: dict[KeyPath, tuple[int, int]] = field(default_factory=dict["KeyPath", "tuple[int, int]"])
    keys: dict[KeyPath, tuple[int, int]] = field(default_factory=dict["KeyPath", "tuple[int, int]"])
    raw: dict[KeyPath, str] = field(default_factory=dict["KeyPath", str])
    quoted: set[KeyPath] = field(default_factory=set["KeyPath"])
    problems: list[Problem] = field(default_factory=list[Problem])
    _count: int = 0
    _open: set[int] = field(default_factory=set[int])

    def read(self, node: Node, annotation: Any = None, path: KeyPath = ()) -> Any:
        """Return the value of a node; `annotation` is the type of the key that it belongs to.

        Raises:
            Problem: aliases expand to too much.
        """
        self._count += 1
        line, column = _place(node)
        if self._count > MAX_NODES:
            raise Problem(
                "too-large", f"expands to more than {MAX_NODES} values", "use fewer aliases", line, column, path[:3]
            )
        self.values[path] = (line, column)
        if isinstance(node, ScalarNode):
            return self._scalar(node, annotation, path)
        if id(node) in self._open:
            self._report(node, path, "cycle", "contains itself through an alias", "write the value out")
            return None
        if len(path) > MAX_DEPTH:
            self._report(node, path, "too-deep", f"is nested more than {MAX_DEPTH} levels deep", "flatten it")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                self._check_tag(node, f"{_CORE}seq", path)
                item = item_of(annotation)
                return [self.read(child, item, (*path, index)) for index, child in enumerate(node.value)]
            self._check_tag(node, f"{_CORE}map", path)
            return self._mapping(cast("MappingNode", node), annotation, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, annotation: Any, path: KeyPath) -> dict[str, Any]:
        model = model_of(annotation)
        fields = {info.alias or name: info.annotation for name, info in model.model_fields.items()} if model else {}
        item = item_of(annotation)
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[tuple[Node, Node]] = []
        for key_node, value_node in cast("list[tuple[Node, Node]]", node.value):
            line, column = _place(key_node)
            if not isinstance(key_node, ScalarNode):
                self._report(key_node, path, "bad-key", "has a key that is a list or a mapping", "use a text as key")
                continue
            key = str(key_node.value)
            if key_node.tag == _PLAIN and key == "<<":
                merged.append((key_node, value_node))
                continue
            if not _encodable(key):
                self._report(
                    key_node, path, "bad-text", "has a key with half a character (a lone surrogate)", "mend it"
                )
                continue
            here = (*path, key)
            if key in first:
                self.problems.append(
                    Problem(
                        "duplicate-key",
                        f"stands here again; it was first given in line {first[key]}",
                        "keep one of the two",
                        line,
                        column,
                        here,
                    )
                )
                continue
            first[key] = line
            self.keys[here] = (line, column)
            result[key] = self.read(value_node, fields.get(key, item), here)
        for key_node, value_node in merged:
            for key, value in self._merge(key_node, value_node, annotation, path).items():
                # Keys of the mapping itself win over merged ones, and earlier merges over later ones.
                result.setdefault(key, value)
        return result

    def _merge(self, key_node: Node, value_node: Node, annotation: Any, path: KeyPath) -> dict[str, Any]:
        sources = cast("list[Node]", value_node.value) if isinstance(value_node, SequenceNode) else [value_node]
        result: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, MappingNode):
                self._report(key_node, path, "bad-merge", "merges (<<) what is not a mapping", "merge a mapping")
                continue
            if id(source) in self._open:
                self._report(key_node, path, "cycle", "merges (<<) itself", "write the value out")
                continue
            inner = Reader(problems=self.problems, _count=self._count, _open=self._open | {id(source)})
            found = inner._mapping(source, annotation, path)
            self._count = inner._count
            # Values of the mapping itself keep their places.
            self.values = inner.values | self.values
            self.keys = inner.keys | self.keys
            self.raw = inner.raw | self.raw
            self.quoted |= inner.quoted
            for key, value in found.items():
                result.setdefault(key, value)
        return result

    def _scalar(self, node: ScalarNode, annotation: Any, path: KeyPath) -> Any:
        text = str(node.value)
        self.raw[path] = text
        if node.style in {"'", '"'}:
            self.quoted.add(path)
        if not _encodable(text):
            self._report(node, path, "bad-text", "holds half a character (a lone surrogate)", "mend the escape")
            return None
        if node.tag in {f"{_CORE}str", "!"}:
            return text
        if node.tag == _PLAIN:
            value = plain_value(text)
            wants_text = is_text(annotation) or model_of(annotation) is not None
            return text if value is not None and wants_text else value
        return self._tagged(node, text, path)

    def _tagged(self, node: ScalarNode, text: str, path: KeyPath) -> Any:
        value = plain_value(text)
        kind = node.tag.removeprefix(_CORE)
        wanted: dict[str, type | tuple[type, ...]] = {
            "int": int,
            "bool": bool,
            "float": (int, float),
            "null": type(None),
        }
        if kind not in wanted:
            self._check_tag(node, "", path)
            return None
        if not isinstance(value, wanted[kind]) or (kind in {"int", "float"} and isinstance(value, bool)):
            self._report(node, path, "bad-tag", f"is marked !!{kind} and is none", "remove the mark")
            return None
        return float(value) if kind == "float" and value is not None else value

    def _check_tag(self, node: Node, expected: str, path: KeyPath) -> None:
        if node.tag in {expected, "!"}:
            return
        name = safe(str(node.tag).replace(_CORE, "!!"))
        self._report(node, path, "bad-tag", f"has the tag {name}, which means nothing here", "remove the tag")

    def _report(self, node: Node, path: KeyPath, code: str, message: str, remedy: str) -> None:
        line, column = _place(node)
        self.problems.append(Problem(code, message, remedy, line, column, path))


def plain_value(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if len(text) <= 64:
        # Longer runs of digits are identifiers, and Python refuses to read the longest.
        if _INT.fullmatch(text):
            return int(text)
        if _OTHER_INT.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            # 0755 and -007 are text: YAML 1.1 would read them as octal.
            digits = text.lstrip("+-")
            return text if digits.isdigit() and len(digits) > 1 and digits[0] == "0" else float(text)
        if _SPECIAL.fullmatch(text):
            return float(text.replace(".", ""))
    return text


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _place(node: Any) -> tuple[int, int]:
    mark = getattr(node, "start_mark", None)
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
