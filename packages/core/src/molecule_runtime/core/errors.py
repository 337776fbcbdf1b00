"""The errors of molecule-runtime.

    MoleculeError
    ├── ConfigurationError (ValueError)      wrong or missing settings: names the field, the value and the remedy
    │   ├── InvalidWorkspaceIdError          an id that may not enter a URL path or header
    │   ├── TargetError                      every problem of the workspace settings at once
    │   └── MissingFeatureError (ImportError) a wheel that the configuration needs is not installed
    └── PlatformError                        a call to the platform did not do what was asked
        ├── PlatformUnreachableError (ConnectionError)   never answered; the request was not delivered
        ├── PlatformTimeoutError (TimeoutError)          the deadline passed; the request may have been delivered
        ├── CredentialRejectedError          401: wrong or revoked token, or the workspace was deleted
        ├── AccessDeniedError                403
        ├── NotFoundError                    404
        ├── GoneError                        410: a removed workspace, or a pruned activity cursor
        ├── RateLimitedError                 429, with `retry_after` in seconds
        ├── UnavailableError                 busy, restarting or failing (5xx), with `retry_after` where stated
        ├── RequestRefusedError              any other 4xx
        ├── NotServedError                   nothing was sent: this process serves the workspace no longer
        └── UnexpectedResponseError          not JSON, not the documented shape, too large, or a redirect

Raising is not logging: nothing here writes a log line. Messages never contain a token.
"""

from __future__ import annotations


class MoleculeError(Exception):
    """Base of every error that a caller of molecule-runtime may want to handle."""


class ConfigurationError(MoleculeError, ValueError):
    """Settings that cannot be used; the message names the field, the value and the remedy."""


class InvalidWorkspaceIdError(ConfigurationError):
    """A workspace id that breaks the rule of contract `runtime.md` 2.2."""


class TargetError(ConfigurationError):
    """The workspace settings are unusable; `errors` holds every problem found, not only the first."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class MissingFeatureError(ConfigurationError, ImportError):
    """A feature was asked for whose wheel is not installed."""

    def __init__(self, feature: str, *, distribution: str) -> None:
        super().__init__(f"{feature} is not installed; install it with: pip install {distribution}")
        self.feature = feature
        self.distribution = distribution


class PlatformError(MoleculeError):
    """A call to the platform failed.

    Attributes:
        workspace_id: the workspace that made the call.
        request: method and path, for example `POST /registry/heartbeat`.
        status: the HTTP status, or None when no answer arrived.
    """

    def __init__(self, message: str, *, workspace_id: str, request: str, status: int | None = None) -> None:
        super().__init__(message)
        self.workspace_id = workspace_id
        self.request = request
        self.status = status


class PlatformUnreachableError(PlatformError, ConnectionError):
    """No connection: the request was never delivered, so it is safe to send it again."""


class PlatformTimeoutError(PlatformError, TimeoutError):
    """The deadline passed; the platform may have received the request."""


class CredentialRejectedError(PlatformError):
    """The platform refused the workspace token (401), also after the token source was read again."""


class AccessDeniedError(PlatformError):
    """The platform understood who asks and refused (403)."""


class NotFoundError(PlatformError):
    """The platform does not know what was asked for (404)."""


class GoneError(PlatformError):
    """A removed workspace or a cursor that was pruned (410)."""


class RateLimitedError(PlatformError):
    """Too many requests (429); `retry_after` is in seconds."""

    def __init__(
        self,
        message: str,
        *,
        workspace_id: str,
        request: str,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, workspace_id=workspace_id, request=request, status=status)
        self.retry_after = retry_after


class UnavailableError(PlatformError):
    """The platform or the target is busy, restarting or failing (5xx).

    Attributes:
        retry_after: seconds, where the answer states it.
        delivered: whether the target may already have done the work (`delivery_confirmed`, contract
            `platform-api.md` 5.4); None when the answer does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        workspace_id: str,
        request: str,
        status: int | None = None,
        retry_after: float | None = None,
        delivered: bool | None = None,
    ) -> None:
        super().__init__(message, workspace_id=workspace_id, request=request, status=status)
        self.retry_after = retry_after
        self.delivered = delivered


class RequestRefusedError(PlatformError):
    """The platform refused the request as it stands (4xx other than 401, 403, 404, 410, 429)."""


class NotServedError(PlatformError):
    """Nothing was sent: the workspace was removed from the settings of this process, or changed there, while a call was under way."""


class UnexpectedResponseError(PlatformError):
    """An answer that is not the documented JSON: an HTML page, a redirect, a wrong shape or too many bytes."""
