"""Delivery of MCP servers to the engine of an adapter: one module for each engine, announced under `molecule_runtime.mcp_clients`.

Every change is additive and made in place: what else is in the file stays as it is, comments included. The new text is parsed before
it replaces the old one, and a file that cannot be understood is refused, never rewritten.
"""
