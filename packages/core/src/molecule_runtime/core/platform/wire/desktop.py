"""The desktop of a workspace, behind the platform's gateway (contract `runtime.md` 7.11, generation 2)."""

from molecule_runtime.core.platform.wire import Response


class DesktopControl(Response):
    """7.11: `GET /workspaces/:id/desktop/control`: who may use mouse and keyboard."""

    human_in_control: bool = False
    agent_can_control: bool = True


class DesktopDone(Response):
    """7.11: `POST /workspaces/:id/desktop/input`; what else the gateway says is kept."""
