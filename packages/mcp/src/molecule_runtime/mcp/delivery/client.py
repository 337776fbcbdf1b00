"""What the clients have in common: read the engine's file, change one server in it, check the result, replace the file."""

from __future__ import annotations

import contextlib
import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from molecule_runtime.core import env
from molecule_runtime.core.secretfile import write_private
from molecule_runtime.mcp.delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

MAX_FILE_BYTES = 4 * 1024 * 1024

Document = dict[str, Any]


class Format(Protocol):
    """How a file is read and changed as text. `keys` leads to the mapping of servers."""

    def parse(self, text: str) -> Document:
        """Return the content; empty for a blank text.

        Raises:
            ValueError: the text is not of this format, or its top level is not a mapping.
        """
        ...

    def put(self, text: str, keys: tuple[str, ...], name: str, entry: Document) -> str:
        """Return the text with one server added or replaced.

        Raises:
            ValueError: that cannot be done in place.
        """
        ...

    def drop(self, text: str, keys: tuple[str, ...], name: str) -> str:
        """Return the text without one server.

        Raises:
            ValueError: that cannot be done in place.
        """
        ...


class FileClient:
    """An engine that reads MCP servers from one file. Subclasses say which, in what format, and with which fields."""

    format: ClassVar[Format]
    keys: ClassVar[tuple[str, ...]]
    """Where in the file the servers are."""
    fields: ClassVar[Mapping[str, str]] = {
        "command": "command",
        "args": "args",
        "env": "env",
        "cwd": "cwd",
        "url": "url",
        "headers": "headers",
    }
    """Fields of a neutral spec and their names in this file. Others are left out: some engines refuse a file with unknown ones.

    `env_vars`, the names of variables to pass on, is left out too: these engines start a server with their own environment.
    """

    def settings_path(self, config_path: str) -> Path:
        """Return the engine's file."""
        raise NotImplementedError

    def register(self, config_path: str, name: str, spec: Mapping[str, Any]) -> Path:
        """Add or replace one server and return the file; nothing is written when it is there already."""
        path = self.settings_path(config_path)
        entry = {self.fields[key]: copy.deepcopy(spec[key]) for key in self.fields if spec.get(key) is not None}
        if not entry:
            raise DeliveryError(f"MCP server {name!r} has neither 'command' nor 'url'")

        def change(text: str, document: Document) -> tuple[str, Document]:
            servers = self._servers(path, document)
            if servers.get(name) == entry:
                return text, document
            servers[name] = entry
            return self.format.put(text, self.keys, name, entry), document

        return self._change(path, change)

    def remove(self, config_path: str, name: str) -> bool:
        """Remove one server; False when it was not there."""
        path = self.settings_path(config_path)
        present = name in self.servers(config_path)

        def change(text: str, document: Document) -> tuple[str, Document]:
            servers = self._servers(path, document)
            if name not in servers:
                return text, document
            del servers[name]
            return self.format.drop(text, self.keys, name), document

        if present:
            self._change(path, change)
        return present

    def servers(self, config_path: str) -> dict[str, dict[str, Any]]:
        """Return the declared servers as neutral specs; none where there is no file."""
        path = self.settings_path(config_path)
        text = _read(path)
        own = {theirs: ours for ours, theirs in self.fields.items()}
        found: dict[str, dict[str, Any]] = {}
        for name, entry in self._servers(path, self._parse(path, text or "")).items():
            if isinstance(entry, dict):
                spec = copy.deepcopy(cast("Document", entry))
                found[str(name)] = {own.get(str(key), str(key)): value for key, value in spec.items()}
        return found

    async def list_tools(
        self, specs: Mapping[str, Mapping[str, Any]], *, launch_env: Mapping[str, str]
    ) -> list[str] | None:
        """Start these servers and return the ids of their tools; None when none of them answered."""
        # The SDK takes a second to import, and only this needs it.
        from molecule_runtime.mcp.delivery.probe import probe

        return (await probe(specs, launch_env=launch_env)).tools

    def _change(self, path: Path, change: Any) -> Path:
        # A dotfile manager's link stays a link: the file that it leads to is replaced.
        target = path.resolve()
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(target.parent):
                text = _read(target) or ""
                try:
                    changed, expected = change(text, self._parse(path, text))
                except DeliveryError:
                    raise
                except ValueError as exc:
                    raise DeliveryError(f"{path} cannot be changed in place: {exc}") from exc
                if changed == text:
                    return path
                if self._pruned(self._parse(path, changed)) != self._pruned(expected):
                    raise DeliveryError(
                        f"{path} cannot be changed without changing something else in it; it is left as it was"
                    )
                write_private(target, changed)
        except OSError as exc:
            raise DeliveryError(f"{path} cannot be written: {exc.strerror or type(exc).__name__}") from exc
        return path

    def _parse(self, path: Path, text: str) -> Document:
        try:
            return self.format.parse(text)
        except (ValueError, RecursionError) as exc:
            reason = " ".join(str(exc).split()) or type(exc).__name__
            raise DeliveryError(
                f"{path} is not usable and is left as it is: {reason}; mend it or move it away"
            ) from exc

    def _servers(self, path: Path, document: Document) -> Document:
        """Return the mapping of servers in a document, made where it is missing."""
        node = document
        for depth, key in enumerate(self.keys, 1):
            if node.get(key) is None:
                node[key] = {}
            if not isinstance(node[key], dict):
                place = ".".join(self.keys[:depth])
                raise DeliveryError(
                    f"{path} is left as it is: {place} must be a mapping, not {type(node[key]).__name__}; mend it or move it away"
                )
            node = cast("Document", node[key])
        return node

    def _pruned(self, document: Document) -> Document:
        """Return the document without empty mappings on the way to the servers: absent and empty mean the same."""
        pruned = copy.deepcopy(document)
        for depth in range(len(self.keys), 0, -1):
            node = pruned
            for key in self.keys[: depth - 1]:
                inner: object = node.get(key)
                node = cast("Document", inner) if isinstance(inner, dict) else {}
            if node.get(self.keys[depth - 1], ...) in (None, {}):
                del node[self.keys[depth - 1]]
        return pruned


def home() -> Path:
    """Return the home directory as it is now."""
    return Path(env.HOME.get() or Path.home())


def folder_of(variable: env.Variable, default: str) -> Path:
    """Return the folder that a variable names, else `default` in the home directory."""
    chosen = variable.get()
    return Path(chosen) if chosen else home() / default


def _read(path: Path) -> str | None:
    """Return the text of a file, or None when there is none."""
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise DeliveryError(f"{path} cannot be read: {exc.strerror or type(exc).__name__}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise DeliveryError(f"{path} is larger than {MAX_FILE_BYTES} bytes and is left as it is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DeliveryError(f"{path} is not UTF-8 text (byte {exc.start}) and is left as it is") from exc


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Keep other processes of ours out of a folder; the lock is on the folder itself, so nothing is left behind."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
