"""Every route that the platform answers, in the order in which the README lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.localplatform import (
    activity,
    administration,
    approvals,
    billing,
    boot,
    checkpoints,
    configuration,
    delegation,
    files,
    instructions,
    keyvalue,
    lifecycle,
    memories,
    messages,
    openapi,
    plugins,
    registry,
    requests,
    schedules,
    searching,
    streams,
    talking,
    transcripts,
    vault,
    workspaces,
)

if TYPE_CHECKING:
    from molecule_runtime.localplatform.routing import Route

ROUTES: tuple[Route, ...] = (
    *openapi.ROUTES,
    *registry.ROUTES,
    *workspaces.ROUTES,
    *messages.ROUTES,
    *delegation.ROUTES,
    *activity.ROUTES,
    *requests.ROUTES,
    *approvals.ROUTES,
    *files.ROUTES,
    *talking.ROUTES,
    *vault.ROUTES,
    *instructions.ROUTES,
    *boot.ROUTES,
    *configuration.ROUTES,
    *schedules.ROUTES,
    *lifecycle.ROUTES,
    *billing.ROUTES,
    *administration.ROUTES,
    *plugins.ROUTES,
    *memories.ROUTES,
    *keyvalue.ROUTES,
    *checkpoints.ROUTES,
    *searching.ROUTES,
    *transcripts.ROUTES,
    *streams.ROUTES,
)
