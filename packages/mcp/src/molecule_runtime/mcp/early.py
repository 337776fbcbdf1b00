"""Answers from data prepared at build time, for the handshake and the lists that never change, while the SDK is not loaded yet.

Only a request of precisely known shape is answered here, and none after the first that is not: what a client may not say, or says
in an unusual way, is for the SDK to judge. `prepared.json` holds what the SDK's own server answers (`prepare.py` asks it).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREPARED_NAME: Final = "prepared.json"
MAX_EARLY_LINE: Final = 64 * 1024
"""Bytes; a handshake is far shorter."""

META: Final = "io.modelcontextprotocol/"
_VERSION, _CLIENT, _CAPABILITIES = META + "protocolVersion", META + "clientInfo", META + "clientCapabilities"
_NEEDED: Final = (_VERSION, _CLIENT, _CAPABILITIES)
_LOG_LEVEL: Final = META + "logLevel"
_LEVELS: Final = frozenset({"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"})
"""Nothing is logged of an answer that was prepared, whichever is asked for; another is for the SDK to refuse."""

# Shapes: a type, a mapping of the keys that may be there to their shapes, or a test.
_FLAGS: Final = {"listChanged": bool}
_CLIENT_CAPABILITIES: Final[Mapping[str, Any]] = {
    "roots": _FLAGS,
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
    "experimental": {},
}
_CLIENT_INFO: Final[Mapping[str, Any]] = {
    "name": str,
    "version": str,
    "title": str,
    "description": str,
}


class PlainCall(NamedTuple):
    """A call of a tool that says nothing but what is called with what."""

    id: str | int
    name: str
    arguments: dict[str, Any]
    meta: Mapping[str, Any] | None = None
    """What an answer says about the server, in versions without a handshake."""


class EarlyAnswers:
    """One session before the SDK takes it over.

    Args:
        prepared: what `prepared.json` holds.
        instructions: for the agent's model.
        experimental: what is announced beside the prepared capabilities in a handshake; None for nothing.
        write: sends one line to the client; may raise OSError.
    """

    def __init__(
        self,
        prepared: Mapping[str, Any],
        write: Callable[[bytes], None],
        *,
        instructions: str,
        experimental: Mapping[str, Any] | None = None,
    ) -> None:
        self._bodies: list[Any] = prepared["bodies"]
        self._answers: Mapping[str, Mapping[str, Any]] = prepared["answers"]
        self._handshakes: tuple[str, ...] = tuple(prepared["handshakes"])
        self._instructions = instructions
        self._experimental = experimental
        self._write = write
        self._version: str | None = None
        self._modern = False
        self.listed = False
        """Whether the client has got the tools: it does nothing more then but call them."""
        self.dealt_with: list[tuple[bytes, bytes | None]] = []
        """What the SDK's session must see to be where the client believes it: lines, and what was answered."""

    def take(self, line: bytes) -> bool:
        """Answer a line, or take note of it; False when it is for the SDK.

        Raises:
            OSError: the client does not read any more.
        """
        message = _parse(line)
        if message is None:
            return False
        method = message["method"]
        if "id" not in message:
            if method != "notifications/initialized" or self._version is None or self._modern:
                return False
            if not _matches(message.get("params", {}), {}):
                return False
            self.dealt_with.append((line, None))
            return True
        body = self._answer(method, message.get("params"))
        if body is None:
            return False
        answer = _dump({"jsonrpc": "2.0", "id": message["id"], "result": body})
        if method == "initialize" or (self._modern and not self.dealt_with):
            self.dealt_with.append((line, answer))
        self._write(answer)
        self.listed = self.listed or method == "tools/list"
        return True

    def plain_call(self, line: bytes) -> PlainCall | None:
        """Return what a line calls, where that is surely all that it says and the client may call; else None."""
        message = _parse(line) if self.dealt_with else None
        if message is None or message["method"] != "tools/call" or "id" not in message:
            return None
        params: Any = message.get("params")
        if not _matches(params, {"name": str, "arguments": dict, "_meta": dict}, required=("name",)):
            return None
        call = PlainCall(message["id"], params["name"], params.get("arguments", {}))
        meta: dict[str, Any] = params.get("_meta", {})
        if self._modern:
            plain = _modern(meta) and len(meta) == len(_NEEDED) and meta[_VERSION] == self._version
            return call._replace(meta=self._body("tools/list", "")["_meta"]) if plain else None
        initialized = any(answer is None for _, answer in self.dealt_with)
        return call if initialized and not meta else None

    def _answer(self, method: str, params: Any) -> Any:
        if method == "initialize":
            return self._initialize(params)
        given: dict[str, Any] = {} if params is None else params
        if not isinstance(cast("object", given), dict):
            return None
        meta: dict[str, Any] = given.get("_meta", {})
        if isinstance(cast("object", meta), dict) and _VERSION in meta:
            if (self._version is not None and not self._modern) or not _modern(meta):
                return None
            version: str = meta[_VERSION]
            if version in self._handshakes or version not in self._answers:
                return None
            self._version, self._modern = version, True
        elif self._version is None or self._modern or not _matches(meta, {"progressToken": _is_token}):
            return None
        if not _matches(given, {"_meta": dict, "cursor": str}):
            return None
        return self._body(method, given.get("cursor", ""))

    def _initialize(self, params: Any) -> Any:
        shape = {"protocolVersion": str, "capabilities": _CLIENT_CAPABILITIES, "clientInfo": _CLIENT_INFO}
        if self._version is not None or not _matches(params, shape, required=tuple(shape)):
            return None
        if not _is_client(params["clientInfo"]):
            return None
        wanted: str = params["protocolVersion"]
        self._version = wanted if wanted in self._handshakes else self._handshakes[-1]
        return self._body("initialize", "")

    def _body(self, method: str, cursor: str) -> Any:
        number = self._answers[self._version or ""].get(method, {}).get(cursor)
        if number is None:
            return None
        body = self._bodies[number]
        if "instructions" not in body:
            return body
        filled: dict[str, Any] = {**body, "instructions": self._instructions}
        capabilities = dict(filled["capabilities"])
        if "experimental" in capabilities:
            if self._experimental is None:
                del capabilities["experimental"]
            else:
                capabilities["experimental"] = self._experimental
        return {**filled, "capabilities": capabilities}


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a request or notification, or None for anything that is not surely one."""
    # The SDK refuses half a character, which Python's parser lets pass.
    if len(line) > MAX_EARLY_LINE or b"\\ud" in line.lower():
        return None
    try:
        value = json.loads(line.decode(), parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    shape = {"jsonrpc": str, "id": _is_token, "method": str, "params": dict}
    if not _matches(value, shape, required=("jsonrpc", "method")) or value["jsonrpc"] != "2.0":
        return None
    return cast("dict[str, Any]", value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _matches(value: Any, shape: Any, *, required: tuple[str, ...] = ()) -> bool:
    if isinstance(shape, type):
        return isinstance(value, shape)
    if callable(shape):
        return bool(shape(value))
    if not isinstance(value, dict) or any(key not in value for key in required):
        return False
    fields = cast("dict[str, Any]", value)
    return all(key in shape and _matches(field, shape[key]) for key, field in fields.items())


def _is_token(value: Any) -> bool:
    # Larger numbers may be written in another way.
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53)


def _is_client(value: Any) -> bool:
    return _matches(value, _CLIENT_INFO, required=("name", "version"))


def _modern(meta: dict[str, Any]) -> bool:
    shape = {
        _VERSION: str,
        _CLIENT: _is_client,
        _CAPABILITIES: _CLIENT_CAPABILITIES,
        _LOG_LEVEL: _is_level,
        "progressToken": _is_token,
    }
    return _matches(meta, shape, required=_NEEDED)


def _is_level(value: Any) -> bool:
    return isinstance(value, str) and value in _LEVELS


def _dump(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
