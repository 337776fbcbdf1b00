"""The predecessor's `policies.routing`: which member does a task is decided in `molecule_runtime.core.adapter.team`."""

from molecule_runtime.core.adapter.team import build_team_routing_payload

decide_team_route = build_team_routing_payload
build_team_route_decision = build_team_routing_payload

__all__ = ["build_team_route_decision", "build_team_routing_payload", "decide_team_route"]
