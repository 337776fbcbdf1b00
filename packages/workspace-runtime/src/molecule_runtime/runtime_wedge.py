"""The predecessor's `runtime_wedge`: the mark of a process that cannot recover is `molecule_runtime.core.wedge`."""

from molecule_runtime.core.wedge import clear_wedge, is_wedged, mark_wedged, reset_for_test, wedge_reason

__all__ = ["clear_wedge", "is_wedged", "mark_wedged", "reset_for_test", "wedge_reason"]
