"""How a `molecule-mcp` process ends: in bounded time, and also when the client is gone without a word."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from molecule_runtime.mcp.wire import Wire

CLOSING_SECONDS = 0.9
"""How long the parts of a process may take to close; with the time for the last answers that makes less than two seconds."""

GONE_SECONDS = 3.0
"""How long a process whose client is gone may take in all."""

LOOK_SECONDS = 1.0
"""How often to look after the parent where the system cannot say when it ends."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a process; not SIGHUP where `nohup` has it ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, signal.SIGHUP


def leave(code: int = 0) -> NoReturn:
    """End the process at once; the inbox is on disk at every moment."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def leave_within(seconds: float) -> None:
    """End the process after some seconds, should it still be there then: a thread that no cancellation reaches may hold it."""

    def wait() -> None:
        time.sleep(seconds)
        leave()

    threading.Thread(target=wait, name="molecule-mcp-deadline", daemon=True).start()


def watch_client(wire: Wire) -> None:
    """Stop this process, as SIGTERM does, when nobody can read stdout any more or the process that started it is gone."""
    parent = os.getppid()
    threading.Thread(target=_watch, args=(wire, parent), name="molecule-mcp-watch", daemon=True).start()


def _watch(wire: Wire, parent: int) -> None:
    poll = select.poll()
    # Without any event wanted, only that the other end is closed is reported.
    poll.register(wire.writing, 0)
    ended = _end_of(parent)
    if ended is not None:
        poll.register(ended, select.POLLIN)
    while os.getppid() == parent and not poll.poll(None if ended is not None else LOOK_SECONDS * 1000):
        pass
    leave_within(GONE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_of(pid: int) -> int | None:
    """Return a descriptor that becomes readable when a process ends; None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
