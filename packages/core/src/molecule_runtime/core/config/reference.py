"""Renders the table of keys in the README from the model: `python -m molecule_runtime.core.config.reference [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from molecule_runtime.core.config.meanings import meanings_of
from molecule_runtime.core.config.model import WorkspaceConfig
from molecule_runtime.core.config.review import fields_of
from molecule_runtime.core.config.values import in_words, item_of, model_of
from molecule_runtime.core.readme_table import ReadmeTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

README = Path(__file__).parents[4] / "README.md"
"""In the source tree; the wheel carries the README as its description."""


def render() -> str:
    """Return the table of every key."""
    lines = ["| key | value | default | environment | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in _rows(WorkspaceConfig, "")
    ]
    return "\n".join(lines)


TABLE = ReadmeTable(
    module="molecule_runtime.core.config.reference",
    name="config.yaml",
    render=render,
    description="Write the table of config.yaml into the README.",
)


def main(argv: Sequence[str] | None = None, *, file: Path = README) -> int:
    """Write the table into the README, or with `--check` print how it differs and return 1."""
    return TABLE.main(argv, file=file)


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, ...]]:
    meanings = meanings_of(model)
    for key, info in fields_of(model).items():
        yield f"`{prefix}{key}`", _kind(info), _default(info), _environment(info), meanings.get(key, "")
        below = model_of(info.annotation)
        if below is not None:
            yield from _rows(below, f"{prefix}{key}.")
        elif (row := model_of(item_of(info.annotation))) is not None:
            yield from _rows(row, f"{prefix}{key}[].")


def _kind(info: FieldInfo) -> str:
    return in_words(info).removeprefix("a ").removeprefix("an ")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (str, int)) and value != "":
        return f"`{value}`" if isinstance(value, str) else str(value)
    if isinstance(value, tuple) and value:
        return ", ".join(f"`{getattr(item, 'type', item)}`" for item in cast("tuple[object, ...]", value))
    return ""


def _environment(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    names = cast("dict[str, list[str]]", extra).get("x-environment", []) if isinstance(extra, dict) else []
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(main())
