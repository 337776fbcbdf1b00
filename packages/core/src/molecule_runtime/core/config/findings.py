"""What is wrong with a `config.yaml`: where, what, and what to do. Values are shown short and redacted, or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterable

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys and list positions."""

MAX_SHOWN = 40
"""Characters of a value in a message."""

MAX_KEY = 80
"""Characters of a key path in a message."""

_SECRET_WORD = re.compile(r"token|secret|passw|credential|api_?key|(?:^|_)key$|authorization|webhook", re.IGNORECASE)
_RUN = re.compile(r"[^\s,;:/\"'`()\[\]{}<>|]{12,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong (error) or worth a look (warning).

    Attributes:
        code: a stable word for programs, such as `wrong-value` or `unknown-key`.
        file: the file, or `environment`.
        line: 1-based; None when the finding is about no line.
        key: the path of the key, such as `a2a.port` or `models[2].id`; `""` when it is about the file.
        value: the value as it may be shown, or None.
        message: what is wrong, without the place.
        remedy: what to do.
    """

    severity: Literal["error", "warning"]
    code: str
    file: str
    line: int | None = None
    column: int | None = None
    key: str = ""
    value: str | None = None
    message: str
    remedy: str

    @property
    def place(self) -> str:
        """The place as editors and terminals understand it: `config.yaml:3:9`."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        found = f" (found {self.value})" if self.value is not None else ""
        if self.key:
            return f"{self.place}: {self.key} {self.message}{found}; {self.remedy}"
        where = f" (line {self.line}, column {self.column})" if self.line is not None else ""
        return f"{self.file} {self.message}{where}; {self.remedy}"

    def to_dict(self) -> dict[str, str | int | None]:
        """Return the finding for JSON."""
        return {
            "severity": self.severity,
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "value": self.value,
            "message": self.message,
            "remedy": self.remedy,
        }


class InvalidConfigError(ConfigurationError):
    """`config.yaml` cannot be used; `findings` holds everything that is wrong, the message one line for each."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class MissingConfigError(InvalidConfigError, FileNotFoundError):
    """There is no `config.yaml`."""

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self.findings)


def dotted(path: KeyPath) -> str:
    """Return a path as people write it, bounded and redacted: a token that was pasted as a key stays out of messages."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if text else _key(part)
    return text if len(text) <= MAX_KEY * 2 else f"{text[: MAX_KEY * 2 - 1]}…"


def _key(part: str) -> str:
    shown = safe(part)
    return shown if shown.isprintable() and shown.strip() == shown and shown else repr(shown)


def shown(value: object, path: KeyPath = ()) -> str:
    """Return a value for a message: short, redacted, and hidden below a key that sounds like a secret."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if any(isinstance(part, str) and _SECRET_WORD.search(part) for part in path):
        return "a hidden value"
    text = str(value)
    return repr(safe(text)) if isinstance(value, str) else safe(text)


def safe(text: str, limit: int = MAX_SHOWN) -> str:
    """Return text of a file for a message: redacted, without what looks like a secret of an unknown kind, and cut."""
    # Redacted whole and then cut: a cut token would no longer look like one.
    text = redact_text(text[:10_000])
    text = _RUN.sub(lambda run: "[hidden]" if _opaque(run.group()) else run.group(), text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _opaque(run: str) -> bool:
    """Tell a word from something that may be a secret of a kind that no pattern knows."""
    if run.startswith("[REDACTED"):
        return False
    digits = sum(character.isdigit() for character in run)
    letters = sum(character.isalpha() for character in run)
    return len(run) > 32 or (digits >= 2 and letters >= 2 and len(run) >= 16)
