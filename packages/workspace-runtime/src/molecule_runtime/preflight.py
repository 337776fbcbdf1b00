"""The predecessor's `preflight`, for images that add their runtime to its list while they are built (contract `consumers.md` 1.2.7)."""

__all__ = ["SUPPORTED_RUNTIMES"]

SUPPORTED_RUNTIMES: set[str] = set()
"""Nothing looks here: an adapter is found by `ADAPTER_MODULE`, or by the entry point that it announces."""
