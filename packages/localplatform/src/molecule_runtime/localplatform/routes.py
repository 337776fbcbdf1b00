"""Every route that the platform answers, in the order in which the README lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.localplatform import (
    activity,
    administration,
    approvals,
    billing,
    delegation,
    files,
    lifecycle,
    openapi,
    proxy,
    registry,
    requests,
    streams,
    talking,
    workspaces,
)

if TYPE_CHECKING:
    from molecule_runtime.localplatform.routing import Route

ROUTES: tuple[Route, ...] = (
    *openapi.ROUTES,
    *registry.ROUTES,
    *workspaces.ROUTES,
    *proxy.ROUTES,
    *delegation.ROUTES,
    *activity.ROUTES,
    *requests.ROUTES,
    *approvals.ROUTES,
    *files.ROUTES,
    *talking.ROUTES,
    *lifecycle.ROUTES,
    *billing.ROUTES,
    *administration.ROUTES,
    *streams.ROUTES,
)
