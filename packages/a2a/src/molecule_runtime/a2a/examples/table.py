"""An agent that answers questions over a CSV file: `runtime_config.csv` names it, the default is a table of the planets.

The grammar is fixed and small. A question that does not fit it is refused with what can be asked; nothing is guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from molecule_runtime.a2a.examples.csv_table import Table, default_table, read_file
from molecule_runtime.a2a.examples.questions import answer
from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter

if TYPE_CHECKING:
    from molecule_runtime.a2a.executor import ReplyExecutor, Turn


class Adapter(BaseAdapter):
    """The table reader."""

    def __init__(self) -> None:
        self._table: Table | None = None

    @staticmethod
    def name() -> str:
        """Return the runtime key."""
        return "table"

    @staticmethod
    def display_name() -> str:
        """Return the name for people."""
        return "Table"

    @staticmethod
    def description() -> str:
        """Say what it does."""
        return "Answers questions over a CSV file: look up, count, compare, largest and smallest, average, top N."

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """Describe `runtime_config`."""
        return {
            "type": "object",
            "properties": {
                "csv": {"type": "string", "description": "Path of a CSV file, relative to the folder of config.yaml."}
            },
        }

    def skills(self) -> list[Any]:
        """Return one skill, which names the table's columns once it is read."""
        table = self._table
        if table is None:
            return []
        source = f" Source: {table.source}." if table.source else ""
        return [
            {
                "id": "table",
                "name": f"Questions about {table.name}",
                "description": f"Answers questions over {table.name} ({len(table.rows)} rows; {table.columns_shown()}).{source}",
                "tags": table.tags(),
                "examples": table.examples(),
            }
        ]

    async def setup(self, config: AdapterConfig) -> None:
        """Read the table.

        Raises:
            RuntimeError: it cannot be read; the message says why.
        """
        chosen = config.runtime_config.get("csv")
        if chosen is not None and not isinstance(chosen, str):
            raise RuntimeError(f"runtime_config.csv must be the path of a CSV file, not {chosen!r:.60}")
        if chosen:
            self._table = await anyio.to_thread.run_sync(read_file, Path(config.config_path, chosen))
        else:
            self._table = await anyio.to_thread.run_sync(default_table)

    async def create_executor(self, config: AdapterConfig) -> ReplyExecutor:
        """Answer each message with `answer`."""
        from molecule_runtime.a2a.executor import ReplyExecutor

        return ReplyExecutor(self.answer)

    async def answer(self, turn: Turn) -> str:
        """Answer one question."""
        if self._table is None:
            raise RuntimeError("the table was not read")
        return answer(self._table, turn.text)
