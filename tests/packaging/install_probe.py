"""Looks at the namespace from inside an environment; prints what it finds as JSON.

Run as `python -I -W error install_probe.py NAME...`; not itself a test module.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

NAMESPACE = "molecule_runtime"


def look(own: list[str]) -> dict[str, object]:
    """Import the wheel's own names, and list every name that can be imported from the namespace."""
    namespace = importlib.import_module(NAMESPACE)
    imported = [importlib.import_module(f"{NAMESPACE}.{name}").__name__ for name in own]
    present = {
        entry.name.removesuffix(".py")
        for folder in namespace.__path__
        for entry in Path(folder).iterdir()
        if entry.name != "__pycache__"
    }
    return {
        "file": namespace.__file__,
        "imported": imported,
        "importable": sorted(name for name in present if importlib.util.find_spec(f"{NAMESPACE}.{name}") is not None),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(sys.argv[1:])))
