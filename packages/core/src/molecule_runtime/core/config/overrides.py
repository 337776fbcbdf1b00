"""Which environment variables win over `config.yaml` (contract `runtime.md` 16 and 17)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.core.env import Variable

if TYPE_CHECKING:
    from collections.abc import Mapping

LLM_PROVIDER = Variable("LLM_PROVIDER", "Provider of the model, over config.yaml.")
DELEGATION_RETRY_ATTEMPTS = Variable(
    "DELEGATION_RETRY_ATTEMPTS", "Attempts to deliver a delegated task, over config.yaml."
)
DELEGATION_RETRY_DELAY = Variable(
    "DELEGATION_RETRY_DELAY", "Seconds between attempts to deliver a delegated task, over config.yaml."
)
SANDBOX_BACKEND = Variable("SANDBOX_BACKEND", "subprocess, docker or e2b: where run_code runs, over config.yaml.")
SANDBOX_MEMORY_LIMIT = Variable("SANDBOX_MEMORY_LIMIT", "Memory of run_code, over config.yaml.")
SANDBOX_TIMEOUT = Variable("SANDBOX_TIMEOUT", "Seconds of one run of run_code, over config.yaml.")


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
    Override(("provider",), (LLM_PROVIDER,)),
    Override(("a2a", "delivery_mode"), (env.MOLECULE_DELIVERY_MODE,)),
    Override(("delegation", "retry_attempts"), (DELEGATION_RETRY_ATTEMPTS,)),
    Override(("delegation", "retry_delay"), (DELEGATION_RETRY_DELAY,)),
    Override(("delegation", "timeout"), (env.DELEGATION_TIMEOUT,)),
    Override(("sandbox", "backend"), (SANDBOX_BACKEND,)),
    Override(("sandbox", "memory_limit"), (SANDBOX_MEMORY_LIMIT,)),
    Override(("sandbox", "timeout"), (SANDBOX_TIMEOUT,)),
    Override(("observability", "log_level"), (env.LOG_LEVEL,)),
)

DEPRECATED = {env.MODEL_PROVIDER: env.MODEL}
"""Variables that still work, and what to use instead."""
