"""Scan what is committed for credential-shaped strings, without ever printing one.

The patterns are those of `molecule_runtime.core.redaction`; this script holds none. It reports a line when the redactor finds
a kind whose shape alone is proof (a GitHub token, a private key), and, for kinds that only say "a value stands behind a name"
(`TOKEN=...`, `"token": "..."`, `Bearer ...`), when that value is also a long random-looking run. A random-looking run alone is
not reported: lock files and test data are full of them.

A line with `secret-scan: allow` is let through; write the reason beside it.

Exit status: 0 nothing found, 1 something found, 2 the scan could not run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WAIVER = "secret-scan: allow"
LABELLED = frozenset({"bearer_token", "connection_string", "env_assignment", "json_secret"})
"""Kinds that match any value behind a name; reported only together with `RANDOM`."""
RANDOM = frozenset({"base64_blob"})
"""Kinds that match any random-looking run; never reported alone."""
SEPARATORS = re.compile(r"[\s\"'`=:,;<>()\[\]{}@]+")
HUNK = re.compile(r"^@@ -\d+(?:,(?P<removed>\d+))? \+(?P<start>\d+)(?:,(?P<added>\d+))? @@")
MAX_BLOCK_CHARS = 50_000_000


class ScanError(Exception):
    """The scan could not run."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines of one file."""

    path: str
    first_line: int
    lines: list[str]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One credential-shaped string, by place and kind; the value is not kept."""

    path: str
    line: int
    kind: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="scan_secrets", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--base", metavar="REV", help="scan only lines added since the merge base with REV (default: all tracked files)"
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: the current folder)")
    options = parser.parse_args(arguments)
    try:
        blocks = list(added_blocks(options.root, options.base) if options.base else tracked_blocks(options.root))
    except ScanError as error:
        print(f"scan_secrets: {error}", file=sys.stderr)
        return 2
    findings = sorted({finding for block in blocks for finding in scan(block)})
    for finding in findings:
        print(f"{finding.path}:{finding.line}: {finding.kind}")
    scope = f"added since {options.base}" if options.base else "in tracked files"
    print(f"{len(findings)} credential-shaped strings in {sum(len(block.lines) for block in blocks)} lines {scope}")
    if findings:
        print(f"Remove and revoke them. For an obviously fake value, add `{WAIVER}` and the reason to its line.")
    return 1 if findings else 0


def scan(block: Block) -> Iterator[Finding]:
    """Yield what a block holds that should not be committed."""
    text = "\n".join(block.lines)
    whole = redact(text).counts
    if not whole:
        return
    seen: set[str] = set()
    for offset, line in enumerate(block.lines):
        kinds = kinds_in(line)
        seen |= kinds
        if WAIVER not in line:
            yield from (Finding(block.path, block.first_line + offset, kind) for kind in kinds)
    # What shows only across lines, such as a key with its body on the following lines.
    for kind in reportable(set(whole)) - seen:
        offset = last_start(block.lines, kind)
        if WAIVER not in block.lines[offset]:
            yield Finding(block.path, block.first_line + offset, kind)


def kinds_in(line: str) -> set[str]:
    """Return the reportable kinds of one line: of the line as a whole and of each word in it.

    The redactor replaces each string once, so `TOKEN=<a GitHub token>` counts as an assignment only; the words show the rest.
    """
    kinds = set(redact(line).counts)
    if not kinds:
        return kinds
    for word in SEPARATORS.split(line):
        kinds |= set(redact(word).counts)
    return reportable(kinds)


def reportable(kinds: set[str]) -> set[str]:
    """Drop the kinds that are not proof by themselves."""
    labelled, random = kinds & LABELLED, kinds & RANDOM
    return kinds - LABELLED - RANDOM | (labelled if random else set())


def last_start(lines: list[str], kind: str) -> int:
    """Return the last line from which on the rest of the block still holds `kind`."""
    low, high = 0, len(lines) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if redact("\n".join(lines[middle:])).counts.get(kind):
            low = middle
        else:
            high = middle - 1
    return low


def tracked_blocks(root: Path) -> Iterator[Block]:
    """Yield every tracked text file as one block."""
    names = git(root, "ls-files", "-z").split("\0")
    if not any(names):
        message = "git lists no tracked file: nothing would be scanned"
        raise ScanError(message)
    for name in filter(None, names):
        path = root / name
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if b"\0" in data[:8192] or len(data) > MAX_BLOCK_CHARS:
            continue
        yield Block(name, 1, data.decode("utf-8", "replace").split("\n"))


def added_blocks(root: Path, base: str) -> Iterator[Block]:
    """Yield the lines added since the merge base with `base`, one block for each hunk."""
    git(root, "rev-parse", "--verify", "--end-of-options", f"{base}^{{commit}}")
    diff = git(
        root,
        "diff",
        "--unified=0",
        "--no-color",
        "--no-ext-diff",
        "--no-renames",
        "--dst-prefix=b/",
        "--merge-base",
        base,
    )
    path = ""
    lines = iter(diff.split("\n"))
    for line in lines:
        if line.startswith("+++ "):
            path = line[4:].rstrip("\t").removeprefix("b/")
        elif found := HUNK.match(line):
            # The counts say where the hunk ends, so a line of content can never be taken for a header.
            removed, added = (int(found[group]) if found[group] else 1 for group in ("removed", "added"))
            content: list[str] = []
            while removed or len(content) < added:
                body = next(lines)
                if body.startswith("-"):
                    removed -= 1
                elif body.startswith("+"):
                    content.append(body[1:])
            if content:
                yield Block(path, int(found["start"]), content)


def git(root: Path, *arguments: str) -> str:
    """Run git and return what it prints.

    Raises:
        ScanError: git is missing or refuses.
    """
    command = ["git", "-c", "core.quotepath=off", "-C", str(root), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"git could not run: {error}"
        raise ScanError(message) from error
    if result.returncode:
        message = (
            f"git {arguments[0]} failed: {result.stderr.decode('utf-8', 'replace').strip() or ' '.join(arguments)}"
        )
        raise ScanError(message)
    return result.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
