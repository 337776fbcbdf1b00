"""Errors as callers read them, in each binding; never with the text of a library in them.

The numbers and names are those of A2A 1.0, 3.3.2 and 5.4 (the SDK keeps them in one table), the shapes those of 9.5 and 11.6.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar, cast

from a2a.utils.errors import (
    A2A_ERROR_MAPPING,
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    ContentTypeNotSupportedError,
    ErrorMapping,
    InternalError,
    InvalidParamsError,
    JSONParseError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

INTERNAL_CODE = JSON_RPC_ERROR_CODE_MAP[InternalError]

_INTERNAL = ErrorMapping(500, "INTERNAL", "INTERNAL_ERROR")
_PARSE = ErrorMapping(400, "INVALID_ARGUMENT", "PARSE_ERROR")
_MEDIA_TYPE = ErrorMapping(415, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED")
_NEW_IN_1_0 = frozenset({-32008, -32009})
"""Codes that a 0.3 caller does not know."""


class BadFieldError(InvalidParamsError):
    """A field of the request that is missing or does not fit.

    Attributes:
        field: its path, from `params` or the body on, in the names of JSON.
    """

    def __init__(self, field: str, problem: str) -> None:
        cast("Any", super()).__init__(f"{field} {problem}" if field else problem)
        self.field = field
        self.problem = problem


class MediaTypeError(ContentTypeNotSupportedError):
    """The body of a request is of another media type than the binding has."""


def known(error: Exception) -> A2AError:
    """Return an error of the protocol for anything that went wrong; what it is not is logged."""
    if isinstance(error, A2AError):
        return error
    logger.error("a request failed", exc_info=error)
    return InternalError("the host failed; see its log")


def code_of(error: A2AError) -> int:
    """Return the JSON-RPC code of an error."""
    return _looked_up(JSON_RPC_ERROR_CODE_MAP, error, INTERNAL_CODE)


def http_status_of(error: A2AError) -> int:
    """Return the status of an error in the HTTP+JSON binding."""
    return _mapping(error).http_code


def json_rpc_error(error: A2AError, *, version: str) -> dict[str, Any]:
    """Return the error object of a JSON-RPC answer."""
    code = code_of(error)
    if version != "1.0":
        answer: dict[str, Any] = {"code": INTERNAL_CODE if code in _NEW_IN_1_0 else code, "message": _message(error)}
        if isinstance(error, BadFieldError) and error.field:
            answer["data"] = {"field": error.field, "problem": error.problem}
        return answer
    return {"code": code, "message": _message(error), "data": _details(error)}


def rest_error(error: A2AError) -> dict[str, Any]:
    """Return the body of an error in the HTTP+JSON binding (AIP-193)."""
    mapping = _mapping(error)
    return {
        "error": {
            "code": mapping.http_code,
            "status": mapping.grpc_status,
            "message": _message(error),
            "details": _details(error),
        }
    }


def _details(error: A2AError) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": _mapping(error).reason,
            "domain": "a2a-protocol.org",
            "metadata": {},
        }
    ]
    if isinstance(error, BadFieldError) and error.field:
        details.append(
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": error.field, "description": error.problem}],
            }
        )
    return details


def _message(error: A2AError) -> str:
    return str(error) or type(error).message


def _mapping(error: A2AError) -> ErrorMapping:
    if isinstance(error, JSONParseError):
        return _PARSE
    if isinstance(error, MediaTypeError):
        return _MEDIA_TYPE
    return _looked_up(A2A_ERROR_MAPPING, error, _INTERNAL)


def _looked_up(table: Mapping[type[A2AError], _T], error: A2AError, otherwise: _T) -> _T:
    """Look an error up by its class, or the nearest one that it is derived from."""
    return next((table[one] for one in type(error).__mro__ if one in table), otherwise)
