"""The predecessor's `policies`."""
