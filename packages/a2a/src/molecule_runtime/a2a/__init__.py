"""The workspace host: serves one agent over A2A and keeps it registered with the platform.

Deliberately imports nothing: `molecule-runtime --help` must not load the A2A SDK. Adapter authors import from
`molecule_runtime.core.adapter` and `molecule_runtime.a2a.executor`.
"""
