"""One workspace that a process serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molecule_runtime.core.identity import WorkspaceId
    from molecule_runtime.core.tokens import TokenSource


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceTarget:
    """One workspace of one tenant: who we are there, how we prove it, and where it lives.

    Attributes:
        id: the workspace.
        token: where its token comes from; read for each use.
        platform_url: base URL of its tenant, without a trailing slash.
        org_id: sent as `X-Molecule-Org-Id`; only known for the tenant that the process environment describes.
        source: the setting that names it, for people; two targets that differ only here are the same.
    """

    id: WorkspaceId
    token: TokenSource
    platform_url: str
    org_id: str | None = None
    source: str = field(default="", compare=False)
