"""The platform as its clients see it: the wire shapes and the one client."""
