"""The predecessor's `builtin_tools`."""
