"""Write `schemas.json` from the models of arguments and results: `python -m molecule_runtime.core.registry.generate [--check]`."""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molecule_runtime.core.registry.schemas import SCHEMAS_FILE, derive_result_schema, derive_schema
from molecule_runtime.core.registry.tools import TOOLS


def derive_schemas() -> dict[str, dict[str, Any]]:
    """Derive the schemas of every tool from its models."""
    return {
        spec.name: {"input": derive_schema(spec.arguments), "output": derive_result_schema(spec.results)}
        for spec in TOOLS
    }


def render_schemas(schemas: dict[str, dict[str, Any]]) -> str:
    """Render schemas as the text of the file."""
    return json.dumps(schemas, indent=1, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None, *, file: Path = SCHEMAS_FILE) -> int:
    """Write the file, or with `--check` print how it differs from what the models say and return 1."""
    parser = argparse.ArgumentParser(prog="python -m molecule_runtime.core.registry.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the file is out of date")
    options = parser.parse_args(argv)
    derived = render_schemas(derive_schemas())
    if not options.check:
        file.write_text(derived, encoding="utf-8")
        return 0
    stored = file.read_text(encoding="utf-8") if file.exists() else ""
    diff = difflib.unified_diff(
        stored.splitlines(keepends=True), derived.splitlines(keepends=True), str(file), "derived from the models"
    )
    sys.stdout.writelines(diff)
    return int(stored != derived)


if __name__ == "__main__":
    sys.exit(main())
