"""Says which resources of the session changed, so that those who subscribed hear of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS: Final = "molecule://status"
"""How every target is."""

WORKSPACES: Final = "molecule://workspaces"
"""Which workspaces are served; announced when one is added, changed or removed."""


def inbox_uri(workspace_id: str) -> str:
    """Return the resource of a workspace's inbox."""
    return f"{WORKSPACES}/{workspace_id}/inbox"


class ResourceChanges:
    """Passes on, in the event loop of the process, which resource changed. Listeners must not block and must not raise."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[str], None]] = []

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with the URI of each resource that changes; returns what ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def announce(self, uri: str) -> None:
        """Say that a resource changed."""
        for listener in tuple(self._listeners):
            listener(uri)
