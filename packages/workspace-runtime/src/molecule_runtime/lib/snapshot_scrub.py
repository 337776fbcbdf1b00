"""The predecessor's `lib.snapshot_scrub`: credentials are removed by `molecule_runtime.core.redaction`."""

from molecule_runtime.a2a.snapshot import is_sandbox_content, scrub
from molecule_runtime.core.redaction import redact_text as scrub_content

__all__ = ["is_sandbox_content", "scrub_content", "scrub_snapshot"]

scrub_snapshot = scrub
