"""The audit ledger: an append-only, signed chain of what agents did, that shows when something was changed or is missing."""

from molecule_runtime.tools.audit.checkpoints import Checkpoint
from molecule_runtime.tools.audit.events import log_event
from molecule_runtime.tools.audit.keys import KeyRing, open_ring
from molecule_runtime.tools.audit.ledger import Ledger
from molecule_runtime.tools.audit.records import Event, Record, hash_content
from molecule_runtime.tools.audit.trail import AuditSettings, AuditTrail, load_audit_settings, open_trail
from molecule_runtime.tools.audit.verify import Verification, verify

__all__ = [
    "AuditSettings",
    "AuditTrail",
    "Checkpoint",
    "Event",
    "KeyRing",
    "Ledger",
    "Record",
    "Verification",
    "hash_content",
    "load_audit_settings",
    "log_event",
    "open_ring",
    "open_trail",
    "verify",
]
