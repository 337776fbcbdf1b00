"""The predecessor's `heartbeat`: a name for annotations. The host alone sends heartbeats (`molecule_runtime.core.presence`)."""

from molecule_runtime.legacy.tasks import HeartbeatLoop

__all__ = ["HeartbeatLoop"]
