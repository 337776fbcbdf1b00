"""Runs in a process of its own: imports one adapter and writes what came of it into a file.

Beside `preflight` and not in it, so that the adapter meets a process in which hardly anything was imported before.

`python -m molecule_runtime.core.preflight_probe FILE MODULE RUNTIME`; without a module, `RUNTIME` names an installed adapter.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, cast

from molecule_runtime.core import features
from molecule_runtime.core.adapter import BaseAdapter
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import redact_text

_MAX_REASON = 500


def main(arguments: list[str]) -> None:
    """Import the adapter and report."""
    file, module, runtime = arguments
    _end_with_parent()
    report = _examine(module, runtime)
    temporary = Path(f"{file}.part")
    temporary.write_text(json.dumps(report), encoding="utf-8")
    temporary.replace(file)
    # A module may have started threads that do not end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _examine(module: str, runtime: str) -> dict[str, Any]:
    stage = "import" if module else "find"
    adapter: Any
    try:
        if module:
            here = str(Path.cwd())
            if here not in sys.path:
                sys.path.append(here)
            found = importlib.import_module(module)
            stage = "find"
            adapter = _adapter_of(found)
        else:
            adapter = features.load(features.ADAPTERS, runtime)
        stage = "create"
        if not inspect.isclass(adapter):
            return {
                "stage": stage,
                "problem": f"Adapter is {type(adapter).__name__}, not a class; derive it from BaseAdapter",
            }
        instance: Any = adapter()
        stage = "name"
        name: object = instance.name()
    except BaseException as exc:
        # BaseException: a module may call sys.exit() while it is imported.
        reason = " ".join(redact_text(str(exc)[: _MAX_REASON * 4]).split())[:_MAX_REASON] or "no message"
        what = {
            "import": "cannot be imported: ",
            "find": "",
            "create": "the class cannot be instantiated: ",
            "name": "name() failed: ",
        }[stage]
        kind = "" if isinstance(exc, ConfigurationError) else f"{type(exc).__name__}: "
        return {"stage": stage, "problem": f"{what}{kind}{reason}"}
    if not isinstance(name, str) or not name.strip():
        return {
            "stage": stage,
            "problem": f"name() returned {type(name).__name__}, and must return a text that is not empty",
        }
    return {"stage": "done", "name": name[:200]}


def _adapter_of(module: Any) -> Any:
    """Return the module's `Adapter`, else the one concrete adapter that it defines, as the host does."""
    named = getattr(module, "Adapter", None)
    if named is not None:
        return named
    values = cast("dict[str, Any]", vars(module)).values()
    found = [
        value
        for value in values
        if inspect.isclass(value)
        and issubclass(value, BaseAdapter)
        and not inspect.isabstract(value)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ConfigurationError(
            f"module {module.__name__!r} defines {len(found) or 'no'} adapters; name one class Adapter"
        )
    return found[0]


def _end_with_parent() -> None:
    """End when the checker does: its end of the pipe on stdin closes then."""
    watched = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def watch() -> None:
        os.read(watched, 1)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
