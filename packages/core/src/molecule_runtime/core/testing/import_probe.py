"""Imports an adapter's module in an interpreter of its own and reports what that did; run as a file, never imported for its effect.

Reads `{"module", "file", "path"}` from stdin and prints one line of JSON: `seconds`, `floor` and `effects`. Effects of the adapter's
own code are reported, and network access of anybody; what a third party does with files or threads is not the author's doing.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
import sysconfig
import threading
import time
from typing import Any

FLOOR = ("httpx", "pydantic", "yaml", "anyio")
NETWORK = frozenset({"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname"})
OTHERS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.mkdir",
        "os.posix_spawn",
        "os.putenv",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.system",
        "os.unsetenv",
        "socket.__new__",
        "sqlite3.connect",
        "subprocess.Popen",
    }
)


class Watch:
    """Collects effects while it is on."""

    def __init__(self, own: str, file: str) -> None:
        self.on = False
        self.effects: list[str] = []
        self._own = own
        self._file = file
        self._stdlib = os.path.realpath(sysconfig.get_paths()["stdlib"]) + os.sep
        self._site = os.sep + "site-packages" + os.sep

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event of the interpreter."""
        if not self.on:
            return
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if event in NETWORK or ((event in OTHERS or writes) and self._is_own()):
            subject = str(arguments[0]) if arguments else ""
            self._note(f"{'writes' if writes else event} {subject[:120]}".strip())

    def read(self, key: str) -> None:
        """Take a read of the environment."""
        if self.on and self._is_own():
            self._note(f"reads the environment variable {key}")

    def started(self, thread: threading.Thread) -> None:
        """Take the start of a thread."""
        if self.on and self._is_own():
            self._note(f"starts the thread {thread.name}")

    def _note(self, effect: str) -> None:
        if effect not in self.effects:
            self.effects.append(effect)

    def _is_own(self) -> bool:
        """Tell whether the nearest code above that is not the standard library's is the adapter's."""
        on, self.on = self.on, False
        try:
            frame = inspect.currentframe()
            while frame is not None:
                file = frame.f_code.co_filename
                module = str(frame.f_globals.get("__name__", ""))
                library = file.startswith("<frozen") or (
                    os.path.realpath(file).startswith(self._stdlib) and self._site not in file
                )
                if module != __name__ and not library:
                    return module == self._own or module.startswith(f"{self._own}.") or file == self._file
                frame = frame.f_back
            return False
        finally:
            self.on = on


def main() -> None:
    """Measure the floor, then import the module under watch."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    started = time.perf_counter()
    for name in FLOOR:
        importlib.import_module(name)
    floor = time.perf_counter() - started
    module = str(request["module"])
    watch = Watch(module.partition(".")[0] if not module.startswith("molecule_runtime.") else module, request["file"])
    _guard(watch)
    report: dict[str, Any] = {"module": module, "floor": floor}
    # What the adapter prints must not end up in the report.
    stdout, sys.stdout = sys.stdout, sys.stderr
    started = time.perf_counter()
    watch.on = True
    try:
        _load(module, str(request["file"]))
    except BaseException as exc:
        report["error"] = f"{type(exc).__name__}: {exc}"
    watch.on = False
    report["seconds"] = time.perf_counter() - started
    report["effects"] = watch.effects
    sys.stdout = stdout
    print(json.dumps(report))  # noqa: T201 - the report
    sys.stdout.flush()
    # A thread that the import left behind must not keep the probe.
    os._exit(0)


def _load(module: str, file: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != module.partition(".")[0] and exc.name != module:
            raise
        # Known by its file only, as under pytest's importlib mode.
        spec = importlib.util.spec_from_file_location(module, file)
        if spec is None or spec.loader is None:
            raise
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[module] = loaded
        spec.loader.exec_module(loaded)


def _guard(watch: Watch) -> None:
    from molecule_runtime.core import env

    environ_type: Any = type(env.current())
    original_read = environ_type.__getitem__

    def read(environ: object, key: str) -> object:
        watch.read(key)
        return original_read(environ, key)

    environ_type.__getitem__ = read
    thread_type: Any = threading.Thread
    original_start = thread_type.start

    def start(thread: threading.Thread) -> None:
        watch.started(thread)
        original_start(thread)

    thread_type.start = start
    sys.addaudithook(watch.audit)


if __name__ == "__main__":
    main()
