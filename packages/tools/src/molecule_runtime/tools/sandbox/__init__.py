"""Runs code that nobody has read: in a sandbox that is named in the configuration, and never in a weaker one."""

from molecule_runtime.tools.sandbox.box import LEAST_TIER, Sandbox
from molecule_runtime.tools.sandbox.job import (
    Backend,
    Captured,
    InputFile,
    Job,
    Limits,
    Outcome,
    SandboxUnavailableError,
)
from molecule_runtime.tools.sandbox.tool import run_code

__all__ = [
    "LEAST_TIER",
    "Backend",
    "Captured",
    "InputFile",
    "Job",
    "Limits",
    "Outcome",
    "Sandbox",
    "SandboxUnavailableError",
    "run_code",
]
