"""The life of one workspace host: boot in small steps, serve, stop within a deadline.

The order is that of contract `runtime.md` 11: the card is served before the adapter's setup, so that a workspace whose adapter is
broken can still be reached and asked why; the platform hears of the workspace only once its socket listens.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.a2a import agents_md, snapshot
from molecule_runtime.a2a.adapter_config import adapter_config_of
from molecule_runtime.a2a.authentication import inbound_auth_of, secret_files_of, warn_if_open
from molecule_runtime.a2a.card import Configuration, card_facts, with_skills
from molecule_runtime.a2a.daemon_thread import in_daemon_thread
from molecule_runtime.a2a.errors import BootError, StateFileError
from molecule_runtime.a2a.folders import folders_of
from molecule_runtime.a2a.gate import Gate, rules_of
from molecule_runtime.a2a.idle import IdlePrompts
from molecule_runtime.a2a.initial_prompt import InitialPrompt, Marker
from molecule_runtime.a2a.loading import IMPORT_DEADLINE, load_adapter
from molecule_runtime.a2a.once import Once
from molecule_runtime.a2a.postman import Postman
from molecule_runtime.a2a.presence_thread import PresenceThread
from molecule_runtime.a2a.push import PushNotifications
from molecule_runtime.a2a.push_targets import PushTargets
from molecule_runtime.a2a.reload import Reload
from molecule_runtime.a2a.self_messages import SelfMessages
from molecule_runtime.a2a.server import HostServer, HostState, bind, build_app
from molecule_runtime.a2a.settings import delivery_mode, resolve_workspace_url
from molecule_runtime.a2a.statefile import FILE_NAME, open_state
from molecule_runtime.a2a.steps import Service, Step
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
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from molecule_runtime.a2a.handler import HostHandler
    from molecule_runtime.a2a.settings import HostSettings
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.a2a.stopping import StopSignal
    from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter
    from molecule_runtime.core.config import WorkspaceConfig

logger = logging.getLogger(__name__)

SETUP_DEADLINE = 600.0
"""Seconds for an adapter's setup; the slowest known template is provisioned within 30 minutes, most within 3."""

EXECUTOR_DEADLINE = 120.0

_ANSWER_SECONDS = 2.0
"""For answers to leave after the last turn ended."""

_AGENTS_MD_SECONDS = 5.0
"""For a disk that hangs; the workspace does without."""

_MAX_REASON = 500


async def serve(settings: HostSettings, config: WorkspaceConfig, stop: StopSignal, drain: float) -> None:
    """Run the workspace until `stop`, then give its running turns `drain` seconds.

    Raises:
        BootError: the workspace cannot be served at all.
        ConfigurationError: config.yaml names an adapter that is not installed, or asks for a secret that is not set.
    """
    failure: MoleculeError | None = None
    async with anyio.create_task_group() as tasks:
        boot = anyio.CancelScope()
        host = _Host(settings, config, drain, tasks, on_server_end=boot.cancel)

        async def until_stop() -> None:
            await stop.wait()
            boot.cancel()

        tasks.start_soon(until_stop)
        try:
            with boot:
                await host.run()
        except MoleculeError as exc:
            failure = exc
        except Exception as exc:  # the top of the boot: whatever fails ends in one line and an exit code
            logger.exception("boot failed")
            failure = BootError(f"boot failed: {_reason(exc)}")
        failure = failure or host.failure
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

    adapter: BaseAdapter
    state: HostState
    memory: _Memory
    client: PlatformClient
    adapter_config: AdapterConfig
    executor: Any

    def __init__(
        self,
        settings: HostSettings,
        config: WorkspaceConfig,
        drain: float,
        tasks: TaskGroup,
        *,
        on_server_end: Callable[[], None],
    ) -> None:
        self.on_server_end = on_server_end
        self.failure: BootError | None = None
        self.settings = settings
        self.config = config
        self.drain = drain
        self.tasks = tasks
        self.vitals = Vitals()
        self.server: HostServer | None = None
        self.served = anyio.Event()
        self.turns: TurnExecutor | None = None
        self.presence: PresenceThread | None = None
        self.postman: Postman | None = None
        self.idle: IdlePrompts | None = None
        self.resources = contextlib.AsyncExitStack()

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the boot, in their order."""
        return (
            Step(name="load the adapter", seconds=IMPORT_DEADLINE + 5, run=self._load_adapter),
            Step(name="build the agent card", seconds=30, run=self._build_card),
            Step(name="listen", seconds=30, run=self._listen),
            Step(name="open the state file", seconds=30, run=self._open_memory),
            Step(name="prepare the agent", seconds=30, run=self._prepare, of_the_agent=True),
            Step(name="set the adapter up", seconds=SETUP_DEADLINE, run=self._set_up, of_the_agent=True),
            Step(name="create the executor", seconds=EXECUTOR_DEADLINE, run=self._create_executor, of_the_agent=True),
            Step(name="give the agent its state back", seconds=30, run=self._restore, of_the_agent=True),
            Step(name="take messages", seconds=30, run=self._take_messages, of_the_agent=True),
            Step(name="write AGENTS.md", seconds=30, run=self._describe),
            Step(name="register", seconds=30, run=self._announce),
            Step(name="start the services", seconds=30, run=self._start_services),
        )

    async def run(self) -> None:
        started = time.monotonic()
        warn_if_open(inbound_auth_of(self.settings, self.config), self.settings.bind_host)
        works = True
        for step in self.steps():
            if step.of_the_agent and not works:
                continue
            try:
                await step.take()
            except Exception as exc:  # an adapter may raise anything
                if not step.of_the_agent:
                    raise
                if isinstance(exc, PrivilegedPluginInstallError):
                    raise BootError(f"a privileged plugin could not be installed: {_reason(exc)}") from exc
                self._not_configured(exc)
                works = False
        logger.info(
            "workspace %s (%s) is up after %.2f s: %s serves %s",
            self.settings.target.id,
            self.adapter.name(),
            time.monotonic() - started,
            self.state.card.url,
            self.state.card.name,
        )
        await anyio.sleep_forever()

    async def _load_adapter(self) -> None:
        self.adapter = await load_adapter(self.settings.adapter_module, self.config.runtime)

    async def _build_card(self) -> None:
        url = resolve_workspace_url(self.settings, self.config.a2a.port)
        auth = inbound_auth_of(self.settings, self.config)
        self.state = HostState(
            card=card_facts(self.config, self.adapter, url=url, auth=auth),
            folders=folders_of(self.settings),
            secrets=secret_files_of(self.settings),
            adapter=self.adapter,
        )

    async def _listen(self) -> None:
        sock = bind(self.settings.bind_host, self.config.a2a.port)
        app = Gate(build_app(self.state), rules_of(self.settings, self.config, self.state.card.auth))
        server = self.server = HostServer(app, graceful=self.drain + _ANSWER_SECONDS)

        async def run_server() -> None:
            reason = "it ended by itself"
            try:
                await server.serve(sockets=[sock])
            except Exception as exc:  # whatever it was, a host that serves nothing must not stay on the platform
                logger.exception("the HTTP server failed")
                reason = _reason(exc)
            finally:
                self.served.set()
                sock.close()
            if not server.should_exit:
                self.failure = BootError(f"the HTTP server stopped: {reason}")
                self.on_server_end()

        self.tasks.start_soon(run_server)
        await server.listening()

    async def _open_memory(self) -> None:
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
        self.memory = _Memory(stored, tasks, once, push)

    async def _prepare(self) -> None:
        pools = await self.resources.enter_async_context(ConnectionPools())
        self.client = await self.resources.enter_async_context(PlatformClient(self.settings.target, pools))
        self.adapter_config = adapter_config_of(self.settings, self.config, self.client)

    async def _set_up(self) -> None:
        self.state.boot_phase = "the adapter's setup is running"
        await self.adapter.setup(self.adapter_config)

    async def _create_executor(self) -> None:
        self.state.boot_phase = "the executor is being created"
        self.executor = await self.adapter.create_executor(self.adapter_config)
        if not callable(getattr(self.executor, "execute", None)):
            raise TypeError(f"create_executor returned {type(self.executor).__name__}, not an AgentExecutor")

    async def _restore(self) -> None:
        # After the executor is there (contract `workspace-host.md` 5.1, step 15).
        await snapshot.restore(self.adapter, self.settings.target.id, self.settings.snapshot_path)

    async def _take_messages(self) -> None:
        state, memory = self.state, self.memory
        # Setup may have found out what the agent can do.
        state.card = replace(with_skills(state.card, self.adapter), configuration=Configuration.READY)
        self.turns = TurnExecutor(
            self.executor, self.vitals, self._on_change, once=memory.once, rules=rules_of_turns(self.config.a2a.turns)
        )
        self.postman = Postman(self.client, memory.state, state.folders.workspace, self._online)
        self.turns.on_late = self.postman.late
        state.serve_with(self.turns, memory.tasks, memory.once, memory.push)

    def _not_configured(self, exc: Exception) -> None:
        """Say why the agent does not work, and serve the rest."""
        reason = _reason(exc)
        # The traceback is for the author of the adapter; everybody else reads the reason.
        detail = exc if logger.isEnabledFor(logging.DEBUG) else None
        logger.error("this workspace is not configured: %s", reason, exc_info=detail)
        state = self.state
        state.handler = None
        state.card = replace(state.card, configuration=Configuration.NOT_CONFIGURED, configuration_error=reason)

    async def _describe(self) -> None:
        def write() -> None:
            facts = agents_md.facts_of(self.config, self.settings.config_path, self.adapter.name(), self.state.card)
            agents_md.write(self.state.folders.workspace, facts)

        with anyio.move_on_after(_AGENTS_MD_SECONDS) as scope:
            await in_daemon_thread(write, name="molecule-agents-md")
        if scope.cancelled_caught:
            logger.warning("%s was not written within %.0f s", agents_md.FILE_NAME, _AGENTS_MD_SECONDS)

    async def _announce(self) -> None:
        delivery = delivery_mode(self.settings, self.config)
        metadata = _runtime_metadata(self.adapter)
        state = self.state

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
            interval=self.config.observability.heartbeat_interval_seconds,
        )
        state.presence = self.presence
        self.presence.start()

    async def _start_services(self) -> None:
        for service in self._services():
            self.tasks.start_soon(service.keep_running)

    def _services(self) -> list[Service]:
        """Return what runs from now on; most of it only where the agent works."""
        services: list[Service] = []
        postman, turns, handler, push = self.postman, self.turns, self.state.handler, self.memory.push
        if push is not None:
            services.append(Service(name="sending push notifications", run=push.deliveries.run))
        if postman is not None and turns is not None and handler is not None:
            services.append(Service(name="sending late answers", run=postman.answers.run))
            services.append(Service(name="watching delegations", run=lambda: postman.watch_delegations(handler)))
            if delivery_mode(self.settings, self.config) == "poll":
                services.append(Service(name="reading the inbox", run=lambda: postman.read_inbox(handler)))
            services += self._prompts(postman, turns, handler)
        services.append(Service(name="watching config.yaml", run=self._reload().run))
        return services

    def _prompts(self, postman: Postman, turns: TurnExecutor, handler: HostHandler) -> list[Service]:
        """Say to the agent what config.yaml has for it: once after its first start, and whenever it has nothing to do."""
        messages = SelfMessages(
            client=postman.client,
            handler=handler,
            turns=turns,
            through_platform=delivery_mode(self.settings, self.config) == "push",
        )

        def ready() -> bool:
            return not self.state.not_ready()

        # Its predecessor marked it in one of the last two.
        folders = (self.settings.configs_dir, self.settings.config_path, self.state.folders.workspace)
        first = InitialPrompt(messages, Marker(folders), self.config.initial_prompt, ready)
        idle = self.idle = IdlePrompts(
            messages,
            text=self.config.idle_prompt,
            interval=self.config.idle_interval_seconds,
            free=lambda: ready() and not postman.delegations.pending,
            active=lambda: self.vitals.active_tasks,
            gives_way=self.config.a2a.turns.busy == "interrupt",
        )
        return [Service(name="the initial prompt", run=first.run), Service(name="idle prompts", run=idle.run)]

    def _reload(self) -> Reload:
        async def describe(config: WorkspaceConfig) -> None:
            self.config = config
            await self._describe()

        return Reload(
            folder=self.settings.config_path,
            config=self.config,
            state=self.state,
            vitals=self.vitals,
            adapter_config=self.adapter_config if self.state.handler is not None else None,
            presence=self.presence,
            idle=self.idle,
            describe=describe,
        )

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
        state: HostState | None = getattr(self, "state", None)
        if state is not None:
            state.stopping = True
        if self.server is not None:
            self.server.should_exit = True
        if self.postman is not None:
            self.postman.stop()
        if self.idle is not None:
            self.idle.stop()
        if self.turns is not None:
            await self.turns.drain(self.drain)
        async with anyio.create_task_group() as last:
            if self.turns is not None:
                last.start_soon(snapshot.capture, self.adapter, beat, self.settings.snapshot_path)
            await self._finish_serving(state)
        if self.presence is not None:
            await anyio.to_thread.run_sync(self.presence.stop)
        await self.resources.aclose()

    async def _finish_serving(self, state: HostState | None) -> None:
        """Let the last answers leave."""
        if self.postman is not None:
            await self.postman.finished(_ANSWER_SECONDS)
        memory: _Memory | None = getattr(self, "memory", None)
        if memory is not None and memory.push is not None:
            # Who is not told how a task ended by then is told after the next start.
            with anyio.move_on_after(_ANSWER_SECONDS):
                await memory.push.deliveries.finish()
        if self.server is not None:
            with anyio.move_on_after(_ANSWER_SECONDS + 1):
                await self.served.wait()
        if state is not None and state.handler is not None:
            await state.handler.aclose()


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
