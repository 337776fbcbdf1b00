"""The life of one workspace host: boot in small steps, serve, stop within a deadline.

The order is that of contract `runtime.md` 11: the card is served before the adapter's setup, so that a workspace whose adapter is
broken can still be reached and asked why; the platform hears of the workspace only once its socket listens.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.a2a import agents_md, snapshot
from molecule_runtime.a2a.adapter_config import adapter_config_of
from molecule_runtime.a2a.authentication import inbound_auth_of, secret_files_of, warn_if_open
from molecule_runtime.a2a.card import Configuration, card_facts, skills_of
from molecule_runtime.a2a.daemon_thread import in_daemon_thread
from molecule_runtime.a2a.errors import BootError, StateFileError
from molecule_runtime.a2a.folders import folders_of
from molecule_runtime.a2a.gate import Gate, rules_of
from molecule_runtime.a2a.idle import IdlePrompts
from molecule_runtime.a2a.initial_prompt import InitialPrompt, Marker
from molecule_runtime.a2a.loading import load_adapter
from molecule_runtime.a2a.once import Once
from molecule_runtime.a2a.postman import Postman
from molecule_runtime.a2a.presence_thread import PresenceThread
from molecule_runtime.a2a.push import PushNotifications
from molecule_runtime.a2a.push_targets import PushTargets
from molecule_runtime.a2a.self_messages import SelfMessages
from molecule_runtime.a2a.server import HostServer, HostState, bind, build_app
from molecule_runtime.a2a.settings import delivery_mode, resolve_workspace_url
from molecule_runtime.a2a.statefile import FILE_NAME, open_state
from molecule_runtime.a2a.tasks import Tasks, limits_of
from molecule_runtime.a2a.turns import TurnExecutor, rules_of_turns
from molecule_runtime.core.adapter import PrivilegedPluginInstallError
from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.presence import Phase, Vitals
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from molecule_runtime.a2a.settings import HostSettings
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.a2a.stopping import StopSignal
    from molecule_runtime.core.adapter import BaseAdapter
    from molecule_runtime.core.config import WorkspaceConfig

logger = logging.getLogger(__name__)

SETUP_DEADLINE = 600.0
"""Seconds for an adapter's setup; the slowest known template is provisioned within 30 minutes, most within 3."""

EXECUTOR_DEADLINE = 120.0

_ANSWER_SECONDS = 2.0
"""For answers to leave after the last turn ended."""

_AGENTS_MD_SECONDS = 5.0
"""For a disk that hangs; the workspace does without."""

MIN_INTERVAL, MAX_INTERVAL = 5.0, 300.0
"""Seconds between heartbeats; contract `runtime.md` 8."""

_MAX_REASON = 500


async def serve(settings: HostSettings, config: WorkspaceConfig, stop: StopSignal, drain: float) -> None:
    """Run the workspace until `stop`, then give its running turns `drain` seconds.

    Raises:
        BootError: the workspace cannot be served at all.
        ConfigurationError: config.yaml names an adapter that is not installed, or asks for a secret that is not set.
    """
    host = _Host(settings, config, drain)
    failure: MoleculeError | None = None
    async with anyio.create_task_group() as tasks:
        boot = anyio.CancelScope()

        async def until_stop() -> None:
            await stop.wait()
            boot.cancel()

        tasks.start_soon(until_stop)
        try:
            with boot:
                await host.run(tasks)
        except MoleculeError as exc:
            failure = exc
        except Exception as exc:  # the top of the boot: whatever fails ends in one line and an exit code
            logger.exception("boot failed")
            failure = BootError(f"boot failed: {_reason(exc)}")
        if failure is None:
            logger.info("stopping (%s)", stop.reason)
        with anyio.CancelScope(shield=True):
            await host.close()
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the host knows of the messages that it answered."""

    state: StateFile
    tasks: Tasks
    once: Once
    push: PushNotifications | None


class _Host:
    """One workspace: its parts, the steps that bring them up, and the way down."""

    def __init__(self, settings: HostSettings, config: WorkspaceConfig, drain: float) -> None:
        self.settings = settings
        self.config = config
        self.drain = drain
        self.vitals = Vitals()
        self.state: HostState | None = None
        self.server: HostServer | None = None
        self.served = anyio.Event()
        self.turns: TurnExecutor | None = None
        self.presence: PresenceThread | None = None
        self.postman: Postman | None = None
        self.push: PushNotifications | None = None
        self.idle: IdlePrompts | None = None
        self.resources = contextlib.AsyncExitStack()

    async def run(self, tasks: TaskGroup) -> None:
        started = time.monotonic()
        auth = inbound_auth_of(self.settings, self.config)
        warn_if_open(auth, self.settings.bind_host)
        async with _step("load the adapter"):
            adapter = await load_adapter(self.settings.adapter_module, self.config.runtime)
        async with _step("build the agent card"):
            url = resolve_workspace_url(self.settings, self.config.a2a.port)
            state = HostState(
                card=card_facts(self.config, adapter, url=url, auth=auth),
                folders=folders_of(self.settings),
                secrets=secret_files_of(self.settings),
                adapter=adapter,
            )
            self.state = state
        async with _step("listen", seconds=30):
            await self._listen(state, tasks)
        async with _step("open the state file", seconds=30):
            memory = await self._open_memory()
        await self._configure(state, adapter, memory)
        async with _step("write AGENTS.md"):
            await self._describe(state, adapter)
        async with _step("register"):
            self._announce(state, adapter)
        if memory.push is not None:
            tasks.start_soon(memory.push.deliveries.run)
            self.push = memory.push
        self._collect_and_deliver(state, tasks)
        self._prompt(state, tasks)
        logger.info(
            "workspace %s (%s) is up after %.2f s: %s serves %s",
            self.settings.target.id,
            adapter.name(),
            time.monotonic() - started,
            url,
            state.card.name,
        )
        await anyio.sleep_forever()

    async def _listen(self, state: HostState, tasks: TaskGroup) -> None:
        sock = bind(self.settings.bind_host, self.config.a2a.port)
        app = Gate(build_app(state), rules_of(self.settings, self.config, state.card.auth))
        server = HostServer(app, graceful=self.drain + _ANSWER_SECONDS)
        self.server = server

        async def run_server() -> None:
            try:
                await server.serve(sockets=[sock])
            finally:
                self.served.set()
                sock.close()

        tasks.start_soon(run_server)
        await server.listening()

    def _collect_and_deliver(self, state: HostState, tasks: TaskGroup) -> None:
        """Send answers that nobody waits for, tell of delegations, and read the inbox where the platform delivers nothing by itself."""
        postman = self.postman
        if postman is None or state.handler is None:
            return
        tasks.start_soon(postman.answers.run)
        tasks.start_soon(postman.watch_delegations, state.handler)
        if delivery_mode(self.settings, self.config) == "poll":
            tasks.start_soon(postman.read_inbox, state.handler)

    async def _describe(self, state: HostState, adapter: BaseAdapter) -> None:
        def write() -> None:
            facts = agents_md.facts_of(self.config, self.settings.config_path, adapter.name(), state.card)
            agents_md.write(state.folders.workspace, facts)

        with anyio.move_on_after(_AGENTS_MD_SECONDS) as scope:
            await in_daemon_thread(write, name="molecule-agents-md")
        if scope.cancelled_caught:
            logger.warning("%s was not written within %.0f s", agents_md.FILE_NAME, _AGENTS_MD_SECONDS)

    def _prompt(self, state: HostState, tasks: TaskGroup) -> None:
        """Say to the agent what config.yaml has for it: once after its first start, and whenever it has nothing to do."""
        postman, turns = self.postman, self.turns
        if postman is None or turns is None or state.handler is None:
            return
        messages = SelfMessages(
            client=postman.client,
            handler=state.handler,
            turns=turns,
            through_platform=delivery_mode(self.settings, self.config) == "push",
        )

        def ready() -> bool:
            return not state.not_ready()

        # Its predecessor marked it in one of the last two.
        folders = (self.settings.configs_dir, self.settings.config_path, state.folders.workspace)
        tasks.start_soon(InitialPrompt(messages, Marker(folders), self.config.initial_prompt, ready).run)
        self.idle = IdlePrompts(
            messages,
            text=self.config.idle_prompt,
            interval=self.config.idle_interval_seconds,
            free=lambda: ready() and not postman.delegations.pending,
            active=lambda: self.vitals.active_tasks,
            gives_way=self.config.a2a.turns.busy == "interrupt",
        )
        tasks.start_soon(self.idle.run)

    async def _open_memory(self) -> _Memory:
        settings = self.config.a2a.tasks
        path = self.settings.configs_dir / FILE_NAME if settings.store == "disk" else None
        stored = await self.resources.enter_async_context(open_state(path))
        limits = limits_of(settings)
        tasks, once = Tasks(stored, limits), Once(stored, limits)
        push = None
        if self.config.a2a.push_notifications:
            push = PushNotifications(stored, PushTargets.of(self.config.a2a.push_targets))
        interrupted = 0
        try:
            interrupted = await tasks.start()
            await once.start()
            if push is not None:
                await push.start()
        except StateFileError as exc:
            # A full disk, for one: the workspace can do its work all the same.
            logger.error("what was remembered cannot be read: %s", exc)  # noqa: TRY400 - the reason is in the text
        if interrupted:
            logger.warning("%d task(s) were running when this workspace ended last; they are failed now", interrupted)
        return _Memory(stored, tasks, once, push)

    async def _configure(self, state: HostState, adapter: BaseAdapter, memory: _Memory) -> None:
        """Set the adapter up. Only a missing privileged plugin ends the boot: anything else leaves a workspace that says why."""
        try:
            pools = await self.resources.enter_async_context(ConnectionPools())
            client = await self.resources.enter_async_context(PlatformClient(self.settings.target, pools))
            adapter_config = adapter_config_of(self.settings, self.config, client)
            state.boot_phase = "the adapter's setup is running"
            async with _step("set the adapter up", seconds=SETUP_DEADLINE):
                await adapter.setup(adapter_config)
            state.boot_phase = "the executor is being created"
            async with _step("create the executor", seconds=EXECUTOR_DEADLINE):
                executor = await adapter.create_executor(adapter_config)
            if not callable(getattr(executor, "execute", None)):
                raise TypeError(f"create_executor returned {type(executor).__name__}, not an AgentExecutor")
            async with _step("give the agent its state back"):
                # After the executor is there (contract `workspace-host.md` 5.1, step 15).
                await snapshot.restore(adapter, self.settings.target.id, self.settings.snapshot_path)
            card = state.card
            state.card = replace(
                card,
                # Setup may have found out what the agent can do.
                skills=skills_of(adapter.skills(), name=card.name, description=card.description, tag=adapter.name()),
                configuration=Configuration.READY,
            )
            self.turns = TurnExecutor(
                executor, self.vitals, self._on_change, once=memory.once, rules=rules_of_turns(self.config.a2a.turns)
            )
            self.postman = Postman(client, memory.state, state.folders.workspace, self._online)
            self.turns.on_late = self.postman.late
            state.serve_with(self.turns, memory.tasks, memory.once, memory.push)
        except PrivilegedPluginInstallError as exc:
            raise BootError(f"a privileged plugin could not be installed: {_reason(exc)}") from exc
        except Exception as exc:  # an adapter may raise anything
            reason = _reason(exc)
            # The traceback is for the author of the adapter; everybody else reads the reason.
            logger.log(
                logging.ERROR,
                "this workspace is not configured: %s",
                reason,
                exc_info=logger.isEnabledFor(logging.DEBUG),
            )
            state.handler = None
            state.card = replace(state.card, configuration=Configuration.NOT_CONFIGURED, configuration_error=reason)

    def _announce(self, state: HostState, adapter: BaseAdapter) -> None:
        delivery = delivery_mode(self.settings, self.config)
        metadata = _runtime_metadata(adapter)
        asked = self.config.observability.heartbeat_interval_seconds

        def registration() -> wire.RegisterRequest:
            return wire.RegisterRequest(
                id=self.settings.target.id,
                url=state.card.url,
                agent_card=state.card.registered(),
                # Always stated: a platform that remembers another mode would keep it (contract `runtime.md` 11).
                delivery_mode=delivery,
            )

        self.presence = PresenceThread(
            target=self.settings.target,
            configs_dir=self.settings.configs_dir,
            vitals=self.vitals,
            registration=registration,
            metadata=lambda: metadata,
            interval=min(max(asked, MIN_INTERVAL), MAX_INTERVAL),
        )
        state.presence = self.presence
        self.presence.start()

    def _online(self) -> bool:
        return self.presence is not None and self.presence.state.phase is Phase.ONLINE

    def _on_change(self) -> None:
        """Turns began or ended."""
        self._beat_soon()
        if self.idle is not None:
            self.idle.changed()

    def _beat_soon(self) -> None:
        if self.presence is not None:
            self.presence.beat_soon()

    async def close(self) -> None:
        """Stop accepting, let running turns end, keep the agent's state, then say no more to the platform."""
        beat = self.vitals.heartbeat(self.settings.target.id)
        if self.state is not None:
            self.state.stopping = True
        if self.server is not None:
            self.server.should_exit = True
        if self.postman is not None:
            self.postman.stop()
        if self.idle is not None:
            self.idle.stop()
        if self.turns is not None:
            await self.turns.drain(self.drain)
        async with anyio.create_task_group() as last:
            if self.turns is not None and self.state is not None and self.state.adapter is not None:
                last.start_soon(snapshot.capture, self.state.adapter, beat, self.settings.snapshot_path)
            await self._finish_serving()
        if self.presence is not None:
            await anyio.to_thread.run_sync(self.presence.stop)
        await self.resources.aclose()

    async def _finish_serving(self) -> None:
        """Let the last answers leave."""
        if self.postman is not None:
            await self.postman.finished(_ANSWER_SECONDS)
        if self.push is not None:
            # Who is not told how a task ended by then is told after the next start.
            with anyio.move_on_after(_ANSWER_SECONDS):
                await self.push.deliveries.finish()
        if self.server is not None:
            with anyio.move_on_after(_ANSWER_SECONDS + 1):
                await self.served.wait()
        # SDK 1.3 closes its tasks itself; 1.0.3 has nothing to call.
        aclose = getattr(self.state.handler, "aclose", None) if self.state is not None else None
        if aclose is not None:
            with anyio.move_on_after(1):
                await aclose()


@contextlib.asynccontextmanager
async def _step(name: str, *, seconds: float | None = None) -> AsyncGenerator[None, None]:
    """Run one step of the boot: bounded, and its duration logged."""
    started = time.monotonic()
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        if seconds is None or time.monotonic() - started < seconds:
            raise
        raise BootError(f"{name}: not finished within {seconds:.0f} s") from None
    logger.info("boot: %s took %.2f s", name, time.monotonic() - started)


def _runtime_metadata(adapter: BaseAdapter) -> wire.RuntimeMetadata | None:
    """Ask the adapter once; a beat must not depend on its code."""
    try:
        metadata = wire.RuntimeMetadata(capabilities=adapter.capabilities().to_dict())
        idle = adapter.idle_timeout_override()
        if idle is not None and idle > 0:
            metadata = wire.RuntimeMetadata(capabilities=metadata.capabilities, idle_timeout_seconds=int(idle))
    except Exception:  # an adapter may raise anything
        logger.warning("the adapter's capabilities cannot be read; heartbeats leave them out", exc_info=True)
        return None
    return metadata


def _reason(exc: BaseException) -> str:
    """Say what went wrong in one redacted line."""
    text = " ".join(redact_text(str(exc)).split())
    if isinstance(exc, (MoleculeError, RuntimeError)) and text:
        # Written for people: `setup` raises RuntimeError with a reason (core.adapter.BaseAdapter.setup).
        return text[:_MAX_REASON]
    return f"{type(exc).__name__}: {text or 'no message'}"[:_MAX_REASON]
