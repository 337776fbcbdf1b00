"""The predecessor's `smoke_mode`: the trial run of an image is `molecule_runtime.a2a.smoke`."""

from molecule_runtime.a2a.smoke import is_smoke_mode, run_executor_smoke

__all__ = ["is_smoke_mode", "run_executor_smoke"]
