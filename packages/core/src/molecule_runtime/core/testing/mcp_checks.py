"""Checks of the port through which MCP servers reach the adapter's engine."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core.adapter import UnsupportedRuntimeError
from molecule_runtime.core.adapter.mcp_spec import MANAGEMENT_MCP_NAME
from molecule_runtime.core.errors import MissingFeatureError
from molecule_runtime.core.testing.kit import Kit, expect, shown, skip

if TYPE_CHECKING:
    from molecule_runtime.core.adapter import BaseAdapter
    from molecule_runtime.core.testing.host import FakeHost

# Ends at once, so that asking it for its tools is quick.
SPEC: dict[str, Any] = {
    "command": sys.executable,
    "args": ["-c", "raise SystemExit(1)"],
    "env": {"MOLECULE_MCP_MODE": "management"},
}
UNKNOWN_RUNTIME = "runtime-that-nobody-knows"


class McpChecks(Kit):
    """A server that is registered must be where the engine reads it; where nobody knows that, registering must raise."""

    def test_an_mcp_server_is_registered_once_and_found(self, tmp_path: Path) -> None:
        """Absent, then there; the same bytes when registered again; nothing else lost. A runtime that takes none says so."""
        with self._environment(tmp_path):
            host = self._host(tmp_path)
            adapter, config = host.adapter, host.config
            expect(
                adapter.management_mcp_present(config) is False,
                "management_mcp_present() is not False in a fresh workspace",
            )
            try:
                adapter.register_mcp_server_hook(config, "conformance-other", {**SPEC, "env": {}})
            except MissingFeatureError as exc:
                skip(str(exc))
            except NotImplementedError as exc:
                expect(
                    isinstance(exc, UnsupportedRuntimeError) or str(exc).strip(),
                    "a runtime that takes no MCP servers must say so, and what to override",
                )
                expect(
                    adapter.management_mcp_present(config) is False,
                    "the runtime refuses MCP servers and yet says that the management server is there",
                )
                return
            path = Path(adapter.mcp_settings_path(config))
            expect(path.is_file(), f"mcp_settings_path() names {path}, but the server was written somewhere else")
            expect(adapter.management_mcp_present(config) is False, "another server passes for the management server")
            adapter.register_mcp_server_hook(config, MANAGEMENT_MCP_NAME, SPEC)
            once = path.read_bytes()
            expect(b"conformance-other" in once, "registering a second server lost the first")
            expect(
                adapter.management_mcp_present(config) is True,
                "management_mcp_present() does not see the server that was registered",
            )
            adapter.register_mcp_server_hook(config, MANAGEMENT_MCP_NAME, SPEC)
            expect(path.read_bytes() == once, "registering the same server again changed the file")
            mode = path.stat().st_mode & 0o777
            expect(not mode & 0o077, f"{path.name} is readable by others ({mode:o})")

    def test_loaded_mcp_tools_are_unknown_or_a_list(self, tmp_path: Path) -> None:
        """None for nothing observed, never an exception: it is asked for at every start."""
        expect(
            inspect.iscoroutinefunction(self.adapter_class.enumerate_loaded_mcp_tools),
            "enumerate_loaded_mcp_tools() must be async",
        )
        host = self._host(tmp_path)
        nothing = self._run(tmp_path, self._loaded(host, "of a fresh workspace"))
        expect(
            nothing is None,
            f"nothing is declared, so enumerate_loaded_mcp_tools() must return None, not {nothing!r:.80}",
        )
        with self._environment(tmp_path):
            try:
                host.adapter.register_mcp_server_hook(host.config, MANAGEMENT_MCP_NAME, SPEC)
            except (NotImplementedError, MissingFeatureError):
                return
        dead = self._run(tmp_path, self._loaded(host, "with a server that cannot start"))
        expect(dead is None, f"no server answered, so enumerate_loaded_mcp_tools() must return None, not {dead!r:.80}")

    def test_an_unknown_runtime_is_not_told_about_mcp_servers_in_silence(self, tmp_path: Path) -> None:
        """Registering raises, or the server is really there. A server written where no engine looks is the worst of both."""
        unknown = type("UnknownRuntime", (self.adapter_class,), {"name": staticmethod(lambda: UNKNOWN_RUNTIME)})
        with self._environment(tmp_path):
            host = self._host(tmp_path)
            adapter = cast("BaseAdapter", unknown())
            present: object = adapter.management_mcp_present(host.config)
            expect(present is False, f"management_mcp_present() of an unknown runtime is {present!r}, not False")
            try:
                adapter.register_mcp_server_hook(host.config, MANAGEMENT_MCP_NAME, SPEC)
            except NotImplementedError as exc:
                expect(
                    isinstance(exc, UnsupportedRuntimeError) or str(exc).strip(),
                    "registering for an unknown runtime must say what to override",
                )
                expect(
                    not any(Path(host.config.config_path).rglob("settings.json")),
                    "the server was refused and yet written",
                )
            except Exception as exc:
                raise AssertionError(
                    f"registering for an unknown runtime must raise NotImplementedError, not {shown(exc)}"
                ) from exc
            else:
                expect(
                    adapter.management_mcp_present(host.config),
                    "registering for an unknown runtime did nothing and said nothing",
                )

    async def _loaded(self, host: FakeHost, when: str) -> list[str] | None:
        try:
            found = cast("object", await host.adapter.enumerate_loaded_mcp_tools(host.config))
        except Exception as exc:
            raise AssertionError(f"enumerate_loaded_mcp_tools() {when} raised {shown(exc)}") from exc
        items = cast("list[object]", found) if isinstance(found, list) else []
        expect(
            found is None or (isinstance(found, list) and all(isinstance(item, str) for item in items)),
            f"enumerate_loaded_mcp_tools() must return None or a list of ids, not {found!r:.80}",
        )
        return None if found is None else [str(item) for item in items]
