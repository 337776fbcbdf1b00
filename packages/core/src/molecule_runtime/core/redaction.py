"""The one redactor: finds credential-shaped strings and replaces them with `[REDACTED:<kind>]`.

Used for logs, errors that leave the process, memories and the repository's secret scan. It is idempotent (a placeholder never
matches), leaves prose, long paths and 40-hex git SHAs alone, and every pattern runs in linear time: no pattern nests
quantifiers, and each begins with a literal or a bounded look-behind.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

MIN_VALUE_CHARS = 8
"""Values shorter than this are left alone: they are placeholders more often than secrets (contract `runtime.md` 12.4)."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """The redacted text and how many strings of each kind were replaced."""

    text: str
    counts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class _Pattern:
    kind: str
    regex: re.Pattern[str]
    hints: tuple[str, ...]
    """Lowercase strings of which one must occur, so that most text is never scanned by the regex."""


_VALUE = r"[^\s\"'`,;&<>\[\](){}]{8,512}"
_NOT_INSIDE = r"(?<![A-Za-z0-9_])"


# Group `keep` stays in the text; everything else of the match is replaced.
@cache
def _patterns() -> tuple[_Pattern, ...]:
    """Return the patterns; compiled on first use, since most processes that import this never redact anything."""
    return (
        _Pattern(
            "private_key",
            # A single hyphen belongs to the block: an encrypted key has headers such as `Proc-Type` and `DEK-Info`.
            re.compile(
                r"-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----(?:[^-]|-(?!----)){0,20000}+(?:-----END [A-Z ]{0,24}PRIVATE KEY-----)?"
            ),
            ("private key-----",),
        ),
        _Pattern(
            "connection_string",
            re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]{1,20}://[^\s:@/]{0,128}:)(?!\[REDACTED)[^\s@/]{3,256}(?=@)"),
            ("://",),
        ),
        _Pattern(
            "jwt",
            # The look-behind names every character of a segment and nothing gives back, so no two attempts read the same text.
            re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,4096}+\.[A-Za-z0-9_-]{8,8192}+\.[A-Za-z0-9_-]{8,1024}"),
            ("eyj",),
        ),
        _Pattern(
            "bearer_token",
            re.compile(r"(?P<keep>\b[Bb][Ee][Aa][Rr][Ee][Rr] {1,4})(?!\[REDACTED)[A-Za-z0-9._~+/=-]{8,4096}"),
            ("bearer",),
        ),
        _Pattern(
            "aws_access_key", re.compile(_NOT_INSIDE + r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"), ("akia", "asia")
        ),
        _Pattern("github_pat_v2", re.compile(_NOT_INSIDE + r"github_pat_[A-Za-z0-9_]{20,255}"), ("github_pat_",)),
        _Pattern("github_pat", re.compile(_NOT_INSIDE + r"gh[po]_[A-Za-z0-9]{20,255}"), ("ghp_", "gho_")),
        _Pattern(
            "github_server_token", re.compile(_NOT_INSIDE + r"gh[sur]_[A-Za-z0-9]{20,255}"), ("ghs_", "ghu_", "ghr_")
        ),
        _Pattern("slack_token", re.compile(_NOT_INSIDE + r"xox[abeoprs]-[A-Za-z0-9-]{10,255}"), ("xox",)),
        _Pattern("google_api_key", re.compile(_NOT_INSIDE + r"AIza[A-Za-z0-9_-]{30,64}"), ("aiza",)),
        _Pattern("cloudflare_token", re.compile(_NOT_INSIDE + r"cfut_[A-Za-z0-9_-]{16,255}"), ("cfut_",)),
        _Pattern("molecule_partner_key", re.compile(_NOT_INSIDE + r"mol_pk_[A-Za-z0-9_-]{8,255}"), ("mol_pk_",)),
        _Pattern("context7_token", re.compile(_NOT_INSIDE + r"ctx7(?:sk)?[-_][A-Za-z0-9_-]{8,255}"), ("ctx7",)),
        _Pattern("openai_key", re.compile(_NOT_INSIDE + r"sk-[A-Za-z0-9_-]{20,255}"), ("sk-",)),
        _Pattern(
            "env_assignment",
            # KEY=value and KEY: value with a credential word at the end of an upper-case name, quoted or not.
            re.compile(
                r"(?P<keep>(?<![A-Z0-9_])(?=[A-Z0-9_]{0,64}(?:TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS?)\b)[A-Z0-9_]{3,80}=[\"']?)(?!\[REDACTED)"
                + _VALUE
            ),
            ("token=", "key=", "secret=", "password=", "credential=", "credentials="),
        ),
        _Pattern(
            "env_assignment",
            # A name in any case and a long value, hex too: `?token=...`, `apikey=...`. After a mere `key=`, 40 hex digits are a commit.
            re.compile(
                r"(?P<keep>(?:key=[\"']?(?![0-9a-f]{40}(?![A-Za-z0-9+/=_-]))|(?:token|secret|password)=[\"']?))[A-Za-z0-9+/=_-]{40,}",
                re.IGNORECASE,
            ),
            ("token=", "key=", "secret=", "password="),
        ),
        _Pattern(
            "json_secret",
            re.compile(
                r"(?P<keep>\"(?:auth_token|access_token|refresh_token|token|api_key|apikey|secret|client_secret|password|platform_inbound_secret)\""
                r" {0,4}: {0,4}\")(?!\[REDACTED)[^\"\\\n]{8,4096}",
                re.IGNORECASE,
            ),
            ('token"', 'key"', 'secret"', 'password"'),
        ),
    )


_MAX_RUN = 4096
_LOWER = re.compile(r"[a-z]+")
_MAX_RANDOM_WORD = 2.6
"""Lower-case letters in a row, on average: 1.7 in base64, above 3 in the names of files and folders."""

_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{40,}")
"""40 characters and more; contract `runtime.md` 12.4."""


def redact(text: str) -> Redaction:
    """Replace every credential-shaped string in `text`.

    Returns:
        The text and the count of each kind; an empty count means that the text is unchanged.
    """
    counts: Counter[str] = Counter()
    lowered = text.lower()
    for pattern in _patterns():
        if not any(hint in lowered for hint in pattern.hints):
            continue

        def replace(match: re.Match[str], kind: str = pattern.kind) -> str:
            counts[kind] += 1
            keep = match.groupdict().get("keep") or ""
            return f"{keep}[REDACTED:{kind}]"

        text = pattern.regex.sub(replace, text)
    text = _redact_blobs(text, counts)
    return Redaction(text, dict(counts))


def redact_text(text: str) -> str:
    """Return `text` with every credential-shaped string replaced."""
    return redact(text).text


def _redact_blobs(text: str, counts: Counter[str]) -> str:
    """Replace long random-looking runs. Runs are cut out first, so the work is linear in the text."""
    pieces: list[str] = []
    position = 0
    for match in _LONG_RUN.finditer(text):
        run = match.group()
        if _looks_random(run):
            counts["base64_blob"] += 1
            pieces += [text[position : match.start()], "[REDACTED:base64_blob]"]
            position = match.end()
    return "".join([*pieces, text[position:]])


def _looks_random(run: str) -> bool:
    """Tell a key or an encoded blob from a path, a SHA, a rule of dashes or a long identifier."""
    sample = run[:_MAX_RUN]
    segments = sample.split("/")
    if len(segments) > 1 and len(sample) / len(segments) < 16:
        # A path, or base64 with a slash here and there, such as an AWS secret key: only a path has words, or - or _ beside /.
        words = _LOWER.findall(sample)
        if "-" in sample or "_" in sample or not words or len("".join(words)) / len(words) > _MAX_RANDOM_WORD:
            return False
    if not (re.search(r"[0-9]", sample) and re.search(r"[A-Z]", sample) and re.search(r"[a-z]", sample)):
        return False
    # Identifiers and file names are words joined by - or _; random text changes its character class far more often.
    classes = [("d" if c.isdigit() else "u" if c.isupper() else "l" if c.islower() else "s") for c in sample[:200]]
    changes = sum(1 for left, right in itertools.pairwise(classes) if left != right)
    return changes / len(classes) > 0.3
