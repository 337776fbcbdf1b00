"""The suite that an adapter author runs against their class.

    class TestAdapter(AdapterConformance):
        adapter_class = Adapter

Every check has a test in this repository with an adapter that fails it.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any, cast

from molecule_runtime.core.adapter import BaseAdapter, RuntimeCapabilities
from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.core.testing.executor_checks import ExecutorChecks
from molecule_runtime.core.testing.import_checks import ImportChecks
from molecule_runtime.core.testing.kit import claimed, expect, shown, skip
from molecule_runtime.core.testing.mcp_checks import McpChecks

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_SEED_CAPABILITIES = frozenset(RuntimeCapabilities().to_dict())
_TRANSCRIPT_KEYS = frozenset({"runtime", "supported", "lines", "cursor", "more", "source"})
SESSION = "session-of-the-conformance-suite"


class AdapterConformance(ExecutorChecks, McpChecks, ImportChecks):
    """Checks of one adapter class; settings are those of `Kit`."""

    # --- who it is --------------------------------------------------------------------------------------------------------

    def test_the_class_is_an_adapter_that_is_made_without_arguments(self) -> None:
        """The host imports the class and calls it."""
        expect(
            inspect.isclass(self.adapter_class) and issubclass(claimed(self.adapter_class), BaseAdapter),
            "adapter_class must derive from BaseAdapter",
        )
        missing = sorted(getattr(self.adapter_class, "__abstractmethods__", ()))
        expect(not missing, f"these methods are missing: {', '.join(missing)}")
        try:
            self.make_adapter()
        except Exception as exc:
            raise AssertionError(f"the class cannot be made without arguments: {shown(exc)}") from exc

    def test_its_names_are_stable_text(self) -> None:
        """`name()` is a key in configurations and on the platform; it must not change between calls or instances."""
        for method in ("name", "display_name", "description"):
            first: object = getattr(self.adapter_class, method)()
            expect(isinstance(first, str) and first.strip(), f"{method}() must return text, not {first!r}")
            expect(getattr(self.make_adapter(), method)() == first, f"{method}() returns something else each time")
            expect("\n" not in cast("str", first), f"{method}() must be one line")
        name = self.adapter_class.name()
        expect(_NAME.fullmatch(name), f"name() {name!r} must be lower-case letters, digits, '-', '_' and '.'")

    def test_its_config_schema_is_json(self) -> None:
        """The platform shows the schema as a form."""
        schema: object = claimed(self.adapter_class.get_config_schema())
        expect(isinstance(schema, dict), f"get_config_schema() must return a dict, not {type(schema).__name__}")
        _expect_json(schema, "get_config_schema()")

    def test_its_capabilities_are_flags(self) -> None:
        """Each flag switches something of the platform off."""
        capabilities: Any = claimed(self.make_adapter().capabilities())
        expect(
            isinstance(capabilities, RuntimeCapabilities),
            f"capabilities() must return RuntimeCapabilities, not {type(capabilities).__name__}",
        )
        flags = claimed(capabilities.to_dict())
        expect(flags.keys() >= _SEED_CAPABILITIES, f"to_dict() lacks {sorted(_SEED_CAPABILITIES - flags.keys())}")
        wrong = {key: value for key, value in flags.items() if value is not True and value is not False}
        expect(not wrong, f"capabilities must be True or False: {wrong}")

    def test_what_it_says_about_itself_is_usable(self) -> None:
        """The idle timeout, the memory file and the skills of the card."""
        adapter = self.make_adapter()
        idle: object = claimed(adapter.idle_timeout_override())
        expect(
            idle is None or (isinstance(idle, int) and not isinstance(idle, bool)),
            f"idle_timeout_override() must return whole seconds or None, not {idle!r}",
        )
        memory: object = claimed(adapter.memory_filename())
        expect(
            isinstance(memory, str) and memory and Path(memory).name == memory,
            f"memory_filename() must be the name of a file, not {memory!r}",
        )
        skills: object = claimed(adapter.skills())
        expect(isinstance(skills, list), "skills() must return a list")
        for skill in cast("list[Any]", skills):
            named = isinstance(skill, dict) and all(
                isinstance(cast("dict[str, object]", skill).get(key), str) for key in ("id", "name")
            )
            expect(named, f"each skill needs 'id' and 'name': {skill!r:.120}")
        _expect_json(skills, "skills()")

    # --- setup ------------------------------------------------------------------------------------------------------------

    def test_setup_and_create_executor_succeed(self, tmp_path: Path) -> None:
        """With `runtime_config`, against the platform in memory."""
        for method in ("setup", "create_executor"):
            expect(inspect.iscoroutinefunction(getattr(self.adapter_class, method)), f"{method}() must be async")

        async def boot() -> None:
            async with self._host(tmp_path).running() as host:
                for method in ("execute", "cancel"):
                    expect(
                        inspect.iscoroutinefunction(getattr(host.executor, method, None)),
                        f"create_executor() must return an AgentExecutor; {type(host.executor).__name__} has no async {method}",
                    )

        self._run(tmp_path, boot())

    def test_a_setup_that_fails_says_why(self, tmp_path: Path) -> None:
        """`RuntimeError` with a reason is what people read on the card of a workspace that is not configured."""
        if self.failing_runtime_config is None:
            skip("set failing_runtime_config to settings with which setup must fail")
        host = self._host(tmp_path, runtime_config=dict(self.failing_runtime_config))

        async def boot() -> None:
            async with host.platform.client() as client:
                host.config.platform = client
                try:
                    await host.adapter.setup(host.config)
                except (RuntimeError, MoleculeError) as exc:
                    expect(str(exc).strip(), f"setup() raised {type(exc).__name__} without a reason")
                except Exception as exc:
                    raise AssertionError(f"setup() must raise RuntimeError with a reason, not {shown(exc)}") from exc
                else:
                    raise AssertionError(f"setup() accepted {self.failing_runtime_config!r:.200}")

        self._run(tmp_path, boot())
        expect(
            host.adapter.name() == self.adapter_class.name(), "an adapter whose setup failed must still say who it is"
        )

    # --- hooks ------------------------------------------------------------------------------------------------------------

    def test_memory_is_appended_once(self, tmp_path: Path) -> None:
        """Plugins are installed at every start, so the hook is called again with the same text."""
        with self._environment(tmp_path):
            host = self._host(tmp_path)
            filename = host.adapter.memory_filename()
            path = Path(host.config.config_path, filename)
            path.write_text("Written by a person.", encoding="utf-8")
            text = "# Plugin: conformance / rule: one.md\n\nBe brief.\n"
            host.adapter.append_to_memory_hook(host.config, filename, text)
            once = path.read_text(encoding="utf-8")
            expect("Written by a person.\n" in once, "append_to_memory_hook must keep what is there, on its own line")
            expect("Be brief." in once, "append_to_memory_hook did not append the text")
            host.adapter.append_to_memory_hook(host.config, filename, text)
            expect(path.read_text(encoding="utf-8") == once, "append_to_memory_hook appended the same text twice")

    def test_the_transcript_is_a_page(self, tmp_path: Path) -> None:
        """The platform pages through it with `since` and `limit`."""
        adapter = self.make_adapter()

        async def ask(since: int, limit: int) -> Any:
            page: Any = adapter.transcript_lines(since=since, limit=limit)
            return await page if inspect.isawaitable(page) else page

        page = self._run(tmp_path, ask(0, 2))
        expect(isinstance(page, dict), f"transcript_lines() must return a dict, not {type(page).__name__}")
        missing = sorted(_TRANSCRIPT_KEYS - cast("dict[str, Any]", page).keys())
        expect(not missing, f"transcript_lines() lacks {', '.join(missing)}")
        expect(page["runtime"] == adapter.name(), f"runtime must be {adapter.name()!r}, not {page['runtime']!r}")
        for key, kind in (("supported", bool), ("lines", list), ("cursor", int), ("more", bool)):
            expect(isinstance(page[key], kind), f"{key} must be {kind.__name__}, not {page[key]!r:.80}")
        expect(len(page["lines"]) <= 2, f"{len(page['lines'])} lines for a limit of 2")
        expect(page["supported"] or not page["lines"], "lines although supported is False")
        later = self._run(tmp_path, ask(7, 2))
        expect(later["cursor"] >= 7, f"the cursor went back from 7 to {later['cursor']}")
        _expect_json(page, "transcript_lines()")

    def test_a_session_that_is_saved_is_the_session_that_is_restored(self, tmp_path: Path) -> None:
        """The host writes the state under `adapter` in its snapshot and hands the snapshot to the next start."""
        with self._environment(tmp_path):
            before = self.make_adapter()
            self.give_session(before, SESSION)
            state: object = claimed(before.pre_stop_state())
            expect(isinstance(state, dict), f"pre_stop_state() must return a dict, not {type(state).__name__}")
            _expect_json(state, "pre_stop_state()")
            saved = cast("dict[str, Any]", json.loads(json.dumps(state)))
            expect(saved.get("session_id") == SESSION, f"pre_stop_state() saved session {saved.get('session_id')!r}")
            for form, snapshot in (("adapter", {"workspace_id": "w", "adapter": saved}), ("flat", saved)):
                after = self.make_adapter()
                after.restore_state(snapshot)
                restored = self.restored_session(after)
                expect(
                    restored == SESSION, f"restore_state() of the {form} form restored {restored!r}, not {SESSION!r}"
                )
            empty = self.make_adapter()
            empty.restore_state({"adapter": None})
            expect(self.restored_session(empty) is None, "restore_state() of nothing restored a session")


def _expect_json(value: object, what: str) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as exc:
        raise AssertionError(f"{what} must return what JSON can hold: {exc}") from exc
