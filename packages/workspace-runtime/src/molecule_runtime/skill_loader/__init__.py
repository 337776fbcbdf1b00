"""The predecessor's `skill_loader`."""
