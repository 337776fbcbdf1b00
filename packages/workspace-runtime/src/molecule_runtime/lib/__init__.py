"""The predecessor's `lib`: what an agent takes over a restart."""
