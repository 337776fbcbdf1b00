"""Check the changelog fragments: `packages/<member>/changes/<number>.<type>.md`.

towncrier silently drops a fragment of an unknown type, so a misspelt name would lose a line of the changelog. With `--base`, a
member whose shipping files changed since then (`src/`, `pyproject.toml`, `README.md`) must have gained a fragment, or have been
released (its `CHANGELOG.md` changed).

Exit status: 0 all well, 1 something to mend, 2 the check could not run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TYPES = ("added", "changed", "deprecated", "removed", "fixed", "security")
NAME = re.compile(rf"\d+\.(?:{'|'.join(TYPES)})(?:\.\d+)?\.md")
KEPT = frozenset({".gitkeep", ".gitignore"})
"""Files that keep an empty folder in git."""
SHIPPING = ("src/", "pyproject.toml", "README.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="check_fragments", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--base", metavar="REV", help="also ask for a fragment from each member changed since the merge base with REV"
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: the current folder)")
    options = parser.parse_args(arguments)
    members = sorted(path.parent for path in options.root.glob("packages/*/pyproject.toml"))
    if not members:
        print(f"check_fragments: no packages/*/pyproject.toml under {options.root}", file=sys.stderr)
        return 2
    problems = [problem for member in members for problem in check_member(member)]
    if options.base:
        try:
            changed = changed_files(options.root, options.base)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"check_fragments: git could not compare with {options.base}: {error}", file=sys.stderr)
            return 2
        problems += [problem for member in members for problem in check_mentioned(member.name, changed)]
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems in the changelog fragments of {len(members)} members")
    return 1 if problems else 0


def check_member(member: Path) -> Iterator[str]:
    """Yield what is wrong with the fragments of one member."""
    project = tomllib.loads((member / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = member / "changes"
    if not folder.is_dir():
        yield f"packages/{member.name}/changes is missing"
        return
    for path in sorted(folder.iterdir()):
        place = f"packages/{member.name}/changes/{path.name}"
        if path.name in KEPT:
            continue
        if not NAME.fullmatch(path.name):
            yield f"{place}: the name is not <number>.<type>.md with a type of {', '.join(TYPES)}"
        elif not path.read_text(encoding="utf-8").startswith(f"`{project['name']}`: "):
            yield f"{place}: does not begin with `{project['name']}` in backticks and a colon"


def check_mentioned(member: str, changed: dict[str, str]) -> Iterator[str]:
    """Yield the member's omission when it changed without a word about it."""
    own = {
        path.removeprefix(f"packages/{member}/"): state
        for path, state in changed.items()
        if path.startswith(f"packages/{member}/")
    }
    ships = any(path == name or (name.endswith("/") and path.startswith(name)) for path in own for name in SHIPPING)
    told = any(path.startswith("changes/") and state != "D" for path, state in own.items())
    if ships and not told and "CHANGELOG.md" not in own:
        yield f"packages/{member}: changed, but has no new fragment in packages/{member}/changes"


def changed_files(root: Path, base: str) -> dict[str, str]:
    """Map each path changed since the merge base with `base` to git's letter for how."""
    command = ["git", "-C", str(root), "diff", "--name-status", "--no-renames", "-z", "--merge-base", base]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    fields = result.stdout.split("\0")
    return dict(zip(fields[1::2], fields[0::2], strict=False))


if __name__ == "__main__":
    sys.exit(main())
