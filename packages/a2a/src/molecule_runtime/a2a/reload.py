"""Takes an edit of config.yaml over while the workspace runs, where that is safe, and says what it could not take over.

The files are looked at every other second: editors replace files and Kubernetes replaces the folder behind a link, and what a file
system tells about such changes differs too much to rely on it for so few files.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from pydantic import BaseModel

from molecule_runtime.a2a.card import with_skills
from molecule_runtime.core import env, logs
from molecule_runtime.core.adapter.memory import PERSONA_FILE
from molecule_runtime.core.adapter.prompt import MEMORY_FILES
from molecule_runtime.core.config import load
from molecule_runtime.core.errors import PlatformError
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from molecule_runtime.a2a.idle import IdlePrompts
    from molecule_runtime.a2a.presence_thread import PresenceThread
    from molecule_runtime.a2a.server import HostState
    from molecule_runtime.core.adapter import AdapterConfig
    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.presence import Vitals

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between looks at the files; what differs is read once it stayed the same for one more (contract `consumers.md`: 2 s)."""

AGENT_SECONDS = 60.0
"""For the adapter to take a change over."""

_OF_THE_CARD = frozenset({"name", "description", "version", "role"})
_OF_THE_AGENT = frozenset({"prompt_files", "skills"})

LIVE = frozenset(
    {
        *_OF_THE_CARD,
        *_OF_THE_AGENT,
        "idle_prompt",
        "idle_prompt_file",
        "idle_interval_seconds",
        "observability.log_level",
        "observability.heartbeat_interval_seconds",
    }
)
"""Keys that are taken over at once; every other one needs a restart."""

_WITHOUT_EFFECT = frozenset({"initial_prompt", "initial_prompt_file", "schedules", "sub_workspaces", "recommended_env"})
"""Keys whose change means nothing to a workspace that runs: they are for its first start, or for the platform."""

_MAX_WARNING = 240


@dataclass(slots=True, kw_only=True)
class Reload:
    """Watches the files of one workspace.

    Attributes:
        folder: of config.yaml.
        config: what runs: as it was at the start, with what was taken over since.
        state: what the routes show.
        vitals: what the heartbeats say.
        adapter_config: what the adapter was given; None where it does not work, and only a restart can mend that.
        presence: sends the heartbeats.
        idle: prompts an agent that has nothing to do.
        describe: writes AGENTS.md anew.
    """

    folder: Path
    config: WorkspaceConfig
    state: HostState
    vitals: Vitals
    adapter_config: AdapterConfig | None
    presence: PresenceThread | None
    idle: IdlePrompts | None
    describe: Callable[[WorkspaceConfig], Awaitable[None]]
    _seen: dict[Path, object] = field(default_factory=dict["Path", object])
    _waits: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look at the files until cancelled."""
        seen = self._seen = await self._look()
        while True:
            await anyio.sleep(LOOK_SECONDS)
            found = await self._look()
            if found != seen:
                # Still being written, perhaps.
                seen = found
            elif found != self._seen:
                changed = {path for path in found.keys() | self._seen.keys() if found.get(path) != self._seen.get(path)}
                await self._take_over(changed)
                # It may name other files now. What changed meanwhile is not seen yet.
                seen = self._seen = {path: found.get(path, now) for path, now in (await self._look()).items()}

    async def _look(self) -> dict[Path, object]:
        return await anyio.to_thread.run_sync(lambda: {path: _state_of(path) for path in self._files()})

    def _files(self) -> Iterator[Path]:
        yield self.folder / "config.yaml"
        names = [*(self.config.prompt_files or (PERSONA_FILE,)), *MEMORY_FILES, self.config.idle_prompt_file]
        yield from (self.folder / name for name in dict.fromkeys(names) if name)
        for skill in self.config.skills:
            yield self.folder / "skills" / skill / "SKILL.md"

    async def _take_over(self, changed: set[Path]) -> None:
        loaded = await anyio.to_thread.run_sync(load, self.folder)
        if loaded.config is None:
            first, *others = loaded.errors
            more = f" (and {len(others)} more)" if others else ""
            logger.error("an edit of config.yaml cannot be used, and what ran runs on: %s%s", first, more)
            for finding in others:
                logger.error("config.yaml: %s", finding)
            # Without the folder, which says nothing to whoever reads it elsewhere.
            said = str(first).removeprefix(f"{self.folder}/")
            await self._warn(f"an edit cannot be used, and what ran runs on: {said}{more}")
            return
        for finding in loaded.warnings:
            logger.warning("%s", finding)
        keys = set(differences(self.config, loaded.config))
        taken = {key for key in keys if key in LIVE}
        self._waits = frozenset(keys - taken - _WITHOUT_EFFECT)
        texts = changed - {self.folder / "config.yaml"}
        self.config = merged(self.config, loaded.config)
        await self._apply(taken, texts=bool(texts))
        if taken or texts:
            names = sorted(taken) + sorted(path.name for path in texts)
            logger.info("taken over while running: %s", ", ".join(names))
        if self._waits:
            logger.warning("a change of config.yaml needs a restart: %s", ", ".join(sorted(self._waits)))
            await self._warn(f"config.yaml: a restart is needed for {', '.join(sorted(self._waits))}")
        else:
            await self._warn("")

    async def _apply(self, taken: set[str], *, texts: bool) -> None:
        config = self.config
        if "observability.log_level" in taken and not env.LOG_LEVEL.is_set():
            logs.configure(default_level=config.observability.log_level)
        if "observability.heartbeat_interval_seconds" in taken and self.presence is not None:
            self.presence.beat_every(config.observability.heartbeat_interval_seconds)
        if self.idle is not None:
            self.idle.text, self.idle.interval = config.idle_prompt, config.idle_interval_seconds
        if self.adapter_config is not None and (texts or taken & _OF_THE_AGENT):
            await self._tell_the_agent(self.adapter_config)
        if taken & (_OF_THE_CARD | _OF_THE_AGENT):
            await self._change_card()

    async def _tell_the_agent(self, adapter_config: AdapterConfig) -> None:
        adapter = self.state.adapter
        if adapter is None:
            return
        adapter_config.prompt_files = list(self.config.prompt_files)
        adapter_config.tools = list(self.config.skills)
        adapter_config.workspace_config = self.config
        try:
            with anyio.fail_after(AGENT_SECONDS):
                await adapter.reload(adapter_config)
        except TimeoutError:
            logger.warning("the adapter did not take its new prompt over within %.0f s", AGENT_SECONDS)
        except Exception:  # an adapter may raise anything
            logger.exception("the adapter could not take its new prompt over; it has the earlier one")

    async def _change_card(self) -> None:
        config, card, adapter = self.config, self.state.card, self.state.adapter
        if adapter is None:
            return
        name = config.name if "name" in config.model_fields_set else adapter.display_name()
        description = config.description or adapter.description() or name
        changed = replace(card, name=name, description=description, version=config.version)
        self.state.card = with_skills(changed, adapter)
        await self.describe(config)
        await self._show_card()

    async def _warn(self, text: str) -> None:
        """Have people see it: in the heartbeats, and on the card."""
        shown = " ".join(redact_text(text).split())[:_MAX_WARNING]
        if shown == self.state.card.configuration_warning:
            return
        self.vitals.notice(shown)
        self.state.card = replace(self.state.card, configuration_warning=shown)
        await self._show_card()

    async def _show_card(self) -> None:
        """Tell the platform at once; a heartbeat brings a card only where the platform has none."""
        if self.presence is not None:
            self.presence.beat_soon()
        client = self.adapter_config.platform if self.adapter_config is not None else None
        if client is None:
            return
        try:
            await client.update_card(self.state.card.registered())
        except PlatformError as exc:
            # The next registration has it.
            logger.info("the platform was not told of the changed card: %s", exc)


def differences(one: WorkspaceConfig, other: WorkspaceConfig) -> Iterator[str]:
    """Return the keys in which two configurations differ, such as `a2a.port`."""
    yield from _differences(one, other, "")


def merged(running: WorkspaceConfig, edited: WorkspaceConfig) -> WorkspaceConfig:
    """Return the configuration that runs with what may be taken over of an edited one."""
    changes: dict[str, Any] = {key: getattr(edited, key) for key in LIVE if "." not in key}
    blocks: dict[str, dict[str, Any]] = {}
    for key in LIVE:
        block, _, name = key.partition(".")
        if name:
            blocks.setdefault(block, {})[name] = getattr(getattr(edited, block), name)
    for block, fields in blocks.items():
        changes[block] = getattr(running, block).model_copy(update=fields)
    copied = running.model_copy(update=changes)
    # Whether a key is in the file decides whose word counts: that of the file, or the adapter's.
    copied.model_fields_set.difference_update(LIVE - edited.model_fields_set)
    copied.model_fields_set.update(LIVE & edited.model_fields_set)
    return copied


def _differences(one: BaseModel, other: BaseModel, above: str) -> Iterator[str]:
    before, after = _values(one), _values(other)
    for key in sorted({*before, *after}):
        was, now = before.get(key), after.get(key)
        if isinstance(was, BaseModel) and isinstance(now, BaseModel):
            yield from _differences(was, now, f"{above}{key}.")
        elif was != now:
            yield f"{above}{key}"


def _values(model: BaseModel) -> dict[str, Any]:
    """Return the known and the unknown keys of a block."""
    return {name: getattr(model, name) for name in type(model).model_fields} | (model.model_extra or {})


def _state_of(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as exc:
        return exc.errno
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
