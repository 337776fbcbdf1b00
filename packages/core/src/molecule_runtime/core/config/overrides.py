"""Which environment variables win over `config.yaml` (contract `runtime.md` 16 and 17)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.core import env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.env import Variable


@dataclass(frozen=True, slots=True)
class Override:
    """A key and the variables that win over it, the first that is set first."""

    path: tuple[str, ...]
    variables: tuple[Variable, ...]

    def find(self, environ: Mapping[str, str] | None) -> tuple[Variable, str] | None:
        """Return the variable that is set and its value, or None. Blank counts as unset."""
        for variable in self.variables:
            if variable.is_set(environ):
                return variable, variable.get(environ)
        return None


OVERRIDES = (
    Override(("model",), (env.MOLECULE_MODEL, env.MODEL, env.MODEL_PROVIDER)),
    Override(("provider",), (env.LLM_PROVIDER,)),
    Override(("a2a", "delivery_mode"), (env.MOLECULE_DELIVERY_MODE,)),
    Override(("a2a", "turns", "idle_seconds"), (env.A2A_COMPLETION_IDLE_TIMEOUT_SECONDS,)),
    Override(("delegation", "retry_attempts"), (env.DELEGATION_RETRY_ATTEMPTS,)),
    Override(("delegation", "retry_delay"), (env.DELEGATION_RETRY_DELAY,)),
    Override(("delegation", "timeout"), (env.DELEGATION_TIMEOUT,)),
    Override(("sandbox", "backend"), (env.SANDBOX_BACKEND,)),
    Override(("sandbox", "memory_limit"), (env.SANDBOX_MEMORY_LIMIT,)),
    Override(("sandbox", "timeout"), (env.SANDBOX_TIMEOUT,)),
    Override(("observability", "log_level"), (env.LOG_LEVEL,)),
)

DEPRECATED = {env.MODEL_PROVIDER: env.MODEL}
"""Variables that still work, and what to use instead."""
