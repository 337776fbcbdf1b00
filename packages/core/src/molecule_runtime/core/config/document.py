"""One YAML file, read against one model: its values, where they stand, and everything that is wrong with them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError

from molecule_runtime.core.config.findings import Finding, dotted, shown
from molecule_runtime.core.config.positions import Problem, Reader, compose, plain_value
from molecule_runtime.core.config.review import rule_of, unknown_keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from molecule_runtime.core.config.findings import KeyPath

MAX_BYTES = 256 * 1024
"""The largest file in use has some 20 KiB."""

MAX_FINDINGS = 200
"""More tell nobody anything."""

NOTHING: Final = object()
"""No value to show."""

M = TypeVar("M", bound=BaseModel)


class Document(Generic[M]):
    """The reading of one file. Nothing here raises on account of the file's content but `read`, where nothing can be known of it.

    Attributes:
        reader: where keys and values stand.
        findings: everything noticed so far, in the order in which it was noticed.
    """

    def __init__(self, path: Path, model: type[M], *, missing: str) -> None:
        self.path = path
        self.model = model
        self.reader = Reader()
        self.findings: list[Finding] = []
        self._missing = missing

    @property
    def failed(self) -> bool:
        """Whether an error was found."""
        return any(finding.severity == "error" for finding in self.findings)

    def in_order(self) -> tuple[Finding, ...]:
        """Return the findings in the order of the file."""
        found = sorted(self.findings, key=lambda finding: (finding.line or 0, finding.column or 0))
        return tuple(found[:MAX_FINDINGS])

    def read(self) -> dict[str, Any]:
        """Return what the file holds, as plain data; what is wrong with parts of it becomes findings.

        Raises:
            Problem: it cannot be read, is no YAML, or holds no mapping.
        """
        root = compose(read_text(self.path, MAX_BYTES, missing=self._missing))
        data: object = self.reader.read(root, self.model) if root is not None else {}
        for problem in self.reader.problems:
            self.add_problem(problem)
        if data is None:
            data = {}
        if not isinstance(data, dict):
            kind = "a list" if isinstance(data, list) else "one value"
            raise Problem("not-a-mapping", f"must hold a mapping of keys, not {kind}", "write `name: ...` lines", 1, 1)
        return cast("dict[str, Any]", data)

    def validate(self, values: Mapping[str, Any]) -> M | None:
        """Return the values as the model has them; None, with a finding for each wrong one, where they do not fit."""
        try:
            return self.model.model_validate(values)
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
        for error in errors:
            path = error["loc"]
            if self.is_reported_elsewhere(path):
                continue
            if any(finding.key == dotted(path) and finding.severity == "error" for finding in self.findings):
                continue
            if error["type"] == "missing":
                self.add("error", "missing-key", path, "is missing", "add it")
                continue
            rule, remedy = rule_of(
                path,
                cast("Mapping[str, Any]", error),
                quoted=isinstance(error["input"], str) and self._is_quoted(path),
                model=self.model,
            )
            self.add("error", "wrong-value", path, rule, remedy, value=self.written(path, error["input"]))
        return None

    def is_reported_elsewhere(self, path: KeyPath) -> bool:
        """Tell whether a wrong value has a finding at another place, where it really stands."""
        del path
        return False

    def look_for_unknown_keys(self, data: Mapping[str, Any], severity: Literal["error", "warning"]) -> None:
        """Add a finding for each key that the model does not have."""
        for path, near in unknown_keys(data, self.model):
            remedy = f"did you mean {near}?" if near else "remove it unless something else reads it"
            place = self.reader.keys.get(path)
            self.add(severity, "unknown-key", path, "is not a known key", remedy, place=place)

    def written(self, path: KeyPath, value: object) -> object:
        """Return a value as the file has it: the model may have seen it changed."""
        return self.reader.raw.get(path, value) if isinstance(value, str) or value is None else value

    def add_problem(self, problem: Problem) -> None:
        """Add what kept the file, or a part of it, from being read."""
        place = None if problem.line is None else (problem.line, problem.column or 1)
        self._append("error", problem.code, problem.path, problem.message, problem.remedy, NOTHING, place)

    def add(
        self,
        severity: Literal["error", "warning"],
        code: str,
        path: KeyPath,
        message: str,
        remedy: str,
        *,
        value: object = NOTHING,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Add a finding about a key, at its value or at the nearest mapping around it."""
        around = path
        while place is None and around:
            place = self.reader.values.get(around)
            around = around[:-1]
        self._append(severity, code, path, message, remedy, value, place)

    def _append(
        self,
        severity: Literal["error", "warning"],
        code: str,
        path: KeyPath,
        message: str,
        remedy: str,
        value: object,
        place: tuple[int, int] | None,
        file: str = "",
    ) -> None:
        self.findings.append(
            Finding(
                severity=severity,
                code=code,
                file=file or str(self.path),
                line=place[0] if place else None,
                column=place[1] if place else None,
                key=dotted(path),
                value=None if value is NOTHING else shown(value, path),
                message=message,
                remedy=remedy,
            )
        )

    def _is_quoted(self, path: KeyPath) -> bool:
        """Tell whether quotes turned a number or a switch into text."""
        return path in self.reader.quoted and not isinstance(plain_value(self.reader.raw[path]), (str, type(None)))


def read_text(path: Path, limit: int, *, missing: str) -> str:
    """Return the text of a file.

    Args:
        path: the file.
        limit: bytes that it may have.
        missing: what to do when there is no such file.

    Raises:
        Problem: it is missing, too large, not a regular file, not UTF-8, or may not be read.
    """
    try:
        # Non-blocking: opening a pipe would otherwise wait for a writer, for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as handle:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Problem("unreadable", "cannot be read: it is not a regular file", "put a file there")
            data = handle.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise Problem("missing-file", "does not exist", missing) from None
    except IsADirectoryError:
        raise Problem("unreadable", "cannot be read: it is a folder", "put a file there") from None
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise Problem("unreadable", f"cannot be read ({reason})", "make it readable by this user") from None
    except ValueError:
        raise Problem("unreadable", "is not the name of a file", "name a file") from None
    if len(data) > limit:
        raise Problem("too-large", f"is larger than {limit // 1024} KiB", "make it smaller")
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise Problem("encoding", "is UTF-16 text", "save it as UTF-8", 1, 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        column = exc.start - data[: exc.start].rfind(b"\n")
        message = f"is not UTF-8 text (byte {exc.start})"
        raise Problem("encoding", message, "save it as UTF-8", line, column) from None
