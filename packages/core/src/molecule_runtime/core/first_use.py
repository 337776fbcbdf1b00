"""When pydantic builds a model: at its first use rather than at its import, so that a process pays only for those it uses."""

from typing import Final

from pydantic import VERSION

BUILT_ON_FIRST_USE: Final = tuple(map(int, VERSION.split(".")[:2])) >= (2, 14)
"""`defer_build` of a model's configuration. Older versions of pydantic let two threads disturb each other while they build."""
