"""Files that people left on the platform for a workspace that polls (contract `platform-api.md` 24.9): how one is had."""

from __future__ import annotations

import logging
import random
import uuid
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.core.errors import (
    MoleculeError,
    NotFoundError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import Download, PlatformClient

logger = logging.getLogger(__name__)

SCHEME: Final = "platform-pending:"
MAX_ATTEMPTS: Final = 4
MAX_BACKOFF: Final = 8.0


class UploadLostError(MoleculeError):
    """A file that waits on the platform cannot be had; the text says why."""


def file_id_of(uri: str, *, own_id: str) -> str:
    """Return the file that `platform-pending:<workspace>/<file>` names.

    Raises:
        UploadLostError: it is another workspace's, or no file of a platform.
    """
    workspace_id, _, file_id = uri.removeprefix(SCHEME).partition("/")
    if workspace_id != own_id:
        raise UploadLostError("it belongs to another workspace")
    key_of(file_id)
    return file_id


def key_of(file_id: str) -> str:
    """Return the id of a file in its one spelling.

    Raises:
        UploadLostError: the platform gives no such ids.
    """
    try:
        return uuid.UUID(file_id).hex
    except ValueError:
        raise UploadLostError("its id is not one of the platform's") from None


async def download(
    client: PlatformClient, file_id: str, *, attempts: int = MAX_ATTEMPTS, max_backoff: float = MAX_BACKOFF
) -> Download:
    """Fetch a file, with `attempts` tries and pauses of `max_backoff` seconds at most.

    Raises:
        UploadLostError: it cannot be had.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await client.pending_upload(file_id)
        except NotFoundError:
            raise UploadLostError("the platform does not have it any more") from None
        except PlatformError as exc:
            pause = min(2.0**attempt, max_backoff) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
            if isinstance(exc, (RateLimitedError, UnavailableError)) and exc.retry_after is not None:
                pause = max(pause, min(exc.retry_after, max_backoff))
            if attempt >= attempts:
                logger.warning("file %s cannot be fetched: %s", file_id, exc)
                raise UploadLostError("the platform did not give it out") from None
            logger.info("file %s is not here yet (attempt %d): %s", file_id, attempt, exc)
            await anyio.sleep(pause)


async def acknowledge(client: PlatformClient, file_id: str) -> None:
    """Tell the platform that a file was kept. Where it does not hear it the file expires there by itself."""
    try:
        await client.acknowledge_upload(file_id)
    except PlatformError as exc:
        logger.info("file %s was not acknowledged: %s", file_id, exc)
