"""How a process of ours loads what it is going to run: with the same result as by importing it, and in about half the time."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

COMMAND_LINES: Final = ("httpx._main", "httpx2._main")
"""HTTP clients bring a command each, and with it click, pygments and rich where these are installed. They do without."""


@contextmanager
def loading(*, without: tuple[str, ...] = COMMAND_LINES) -> Generator[None]:
    """Make imports cheap meanwhile. For the start of a process, before it has other threads that import.

    The collector of cycles rests, since a start leaves it nothing to collect; afterwards it never looks at what was loaded. The
    models of others are built when they are first used, as ours are, where pydantic can do that (`first_use`).

    Args:
        without: optional modules of others that are to count as not installed.
    """
    from pydantic import BaseModel

    from molecule_runtime.core.first_use import BUILT_ON_FIRST_USE

    collecting = gc.isenabled()
    gc.disable()
    absent = [name for name in without if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # how Python spells "not importable"
    # Every model inherits the configuration of this one.
    inherited = BaseModel.model_config
    if BUILT_ON_FIRST_USE:
        BaseModel.model_config = {**inherited, "defer_build": True}
    try:
        yield
    finally:
        BaseModel.model_config = inherited
        for name in absent:
            sys.modules.pop(name, None)
        if collecting:
            gc.freeze()
            gc.enable()
