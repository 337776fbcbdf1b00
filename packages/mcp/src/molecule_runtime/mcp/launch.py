"""Where `molecule-mcp` begins: it takes stdout out of everybody's reach, and answers before the SDK is loaded.

A reading thread answers the handshake and the lists from prepared data (`early.py`), while this, the main thread, waits; when the
client has its tools, asks for something else or falls silent, the main thread loads the rest and takes the session over.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from molecule_runtime.mcp.early import EarlyAnswers, PlainCall
    from molecule_runtime.mcp.wire import Intake

QUIET_SECONDS: Final = 0.05
"""How long the client may say nothing before the SDK is loaded: the answers are not to compete with that for the interpreter."""

MAX_QUIET: Final = 6
"""How many times it may speak and fall silent before its tools were listed."""

EXIT_FAILED: Final = 1


class Begun:
    """A session that was begun before the SDK was there.

    Attributes:
        intake: reads the client's lines.
    """

    def __init__(self, intake: Intake, early: EarlyAnswers | None) -> None:
        self.intake = intake
        self._early = early

    def next_call(self, wanted: Callable[[PlainCall], bool]) -> PlainCall | None:
        """Take the line that waits first, where it is a plain call that is wanted."""
        early = self._early
        if early is None:
            return None

        def call_of(line: bytes) -> PlainCall | None:
            call = early.plain_call(line)
            return call if call is not None and wanted(call) else None

        return self.intake.take_if(call_of)

    def replay(self) -> Sequence[tuple[bytes, bytes | None]]:
        """Return the lines that were dealt with and that the session must see, each with what was answered; then the session has it."""
        self.intake.hold()
        return () if self._early is None else tuple(self._early.dealt_with)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; a process that served a session ends here."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments not in ([], ["--transport", "stdio"], ["--transport=stdio"]):
        from molecule_runtime.mcp.cli import main as command

        return command(arguments)

    from molecule_runtime.mcp.wire import Intake, Wire

    try:
        wire = Wire.claim()
    except OSError as exc:
        print(f"molecule-mcp: stdout cannot be used: {exc.strerror}", file=sys.stderr)  # noqa: T201 - the command's own error line
        return EXIT_FAILED
    early = _early_answers(wire.write_line)
    intake = Intake(wire, first=None if early is None else _taking(early), ended=_leave_when_idle(early))
    _leave_on_signals()
    from molecule_runtime.mcp.ending import leave, watch_client

    watch_client(wire)
    intake.start()
    if early is not None:
        for _ in range(MAX_QUIET):
            if early.listed or intake.wait_for_line(QUIET_SECONDS):
                break
    from molecule_runtime.mcp.loading import load_own

    load_own()
    from molecule_runtime.mcp.cli import serve

    # Not by returning: the interpreter would wait for threads that wait for the network.
    return leave(serve(Begun(intake, early)))


def _taking(early: EarlyAnswers) -> Any:
    def take(line: bytes) -> bool:
        try:
            return early.take(line)
        except OSError:
            # The client is gone, and nothing was begun.
            os._exit(0)

    return take


def _leave_when_idle(early: EarlyAnswers | None) -> Any:
    def ended(waiting: bool) -> None:
        if early is not None and early.dealt_with and not waiting:
            os._exit(0)

    return ended


def _early_answers(write: Any) -> EarlyAnswers | None:
    """Return the answers for the workspaces of the environment; None where these are not plainly fine, which `cli` explains."""
    import json

    from molecule_runtime.core import configs_dir, env
    from molecule_runtime.core.errors import ConfigurationError
    from molecule_runtime.core.targets import missing_variables, resolve_targets
    from molecule_runtime.mcp import push_hosts
    from molecule_runtime.mcp.early import PREPARED_NAME, EarlyAnswers
    from molecule_runtime.mcp.instructions import instructions, poll_hint_of

    environ = env.current()
    unusual = env.MOLECULE_WORKSPACES_FILE.is_set(environ) or "://" in env.AUDIT_LEDGER_DB.get(environ)
    if unusual or missing_variables(environ) or env.problems(environ):
        return None
    try:
        targets = resolve_targets(environ)
        configs_dir.resolve(environ)
    except ConfigurationError:
        return None
    inbox = not env.MOLECULE_MCP_DISABLE_INBOX.flag(environ)
    push = push_hosts.load(environ)
    text = instructions(
        poll_hint=poll_hint_of(environ),
        workspace_ids=[target.id for target in targets],
        inbox=inbox,
        push=push.fixed != "off",
    )
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), PREPARED_NAME)  # noqa: PTH100, PTH118, PTH120 - nothing more to load
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as above
            prepared: Mapping[str, Any] = json.load(file)
    except (OSError, ValueError):
        # A source tree before the first `prepare`.
        return None
    return EarlyAnswers(prepared, write, instructions=text, experimental=push.capabilities if inbox else None)


def _leave_on_signals() -> None:
    """Until the session handles them, signals that end the process do it quietly: there is nothing to close yet."""
    import signal

    from molecule_runtime.mcp.ending import stop_signals

    def stop(number: int, frame: object) -> None:
        os._exit(0)

    for number in stop_signals():
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
