"""The database of a new platform, made once: for the tests of what a platform does, and not of how it makes its tables.

Making them is most of what the start of a platform costs, and there are more than a thousand of those. How a platform begins with nothing
is told by the tests of its store, its server and its commands (`test_store.py`, `test_server.py`, `test_cli.py` of the local platform).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from molecule_runtime.localplatform.platform import DATABASE_FILE, prepare_folder
from molecule_runtime.localplatform.store import Store

_made: list[bytes] = []


async def prepare(data: Path) -> None:
    """Make the data folder of a platform, with a database that has its tables and nothing in them."""
    if not _made:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / DATABASE_FILE
            async with Store.open(path):
                pass
            _made.append(path.read_bytes())
    prepare_folder(data)
    database = data / DATABASE_FILE
    # One that has served before goes on with what it has.
    if not database.exists():
        database.write_bytes(_made[0])
        database.chmod(0o600)
