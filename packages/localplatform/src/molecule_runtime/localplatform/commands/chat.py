"""`molecule-local chat`: talk to an agent as the person."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import console
from molecule_runtime.core.errors import ConfigurationError, MoleculeError
from molecule_runtime.core.identity import short_id
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import Remote

if TYPE_CHECKING:
    import argparse
    from concurrent.futures import Future

    from anyio.from_thread import BlockingPortal

    from molecule_runtime.core.envelope import File, Reply
    from molecule_runtime.localplatform.commands.conversation import Conversation

    Row = dict[str, Any]

_PROMPT = "you> "
_DEFAULT_SECONDS = 300.0
_MAX_MESSAGE_BYTES = 1024 * 1024
_HELP = """\
/attach FILE   send a file with the next message
/new           begin a new session: the agent forgets what was said before, if it can
/quit          end (or Ctrl-D); Ctrl-C stops waiting for an answer"""


def add_arguments(parser: options.Parser) -> None:
    """Add the arguments of `chat`."""
    options.add_remote(parser)
    options.add_workspace(parser)
    parser.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="?",
        help="what to say (default: standard input; on a terminal, a conversation)",
    )
    parser.add_argument(
        "--attach", metavar="FILE", type=Path, action="append", default=[], help="send a file along; may be repeated"
    )
    parser.add_argument(
        "--timeout",
        type=options.seconds,
        default=_DEFAULT_SECONDS,
        metavar="SECONDS",
        help="how long to wait for an answer (default: 300)",
    )
    parser.add_examples("""
molecule-local chat alice
molecule-local chat alice 'What is 17 * 23?'
git diff | molecule-local chat reviewer
molecule-local chat alice 'Summarise this.' --attach report.pdf --json
""")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Talk to an agent."""
    for file in args.attach:
        _check(file)
    interactive = args.message is None and sys.stdin.isatty()
    if interactive and args.json:
        raise ConfigurationError("--json needs a MESSAGE, as an argument or on standard input")
    text = "" if interactive else _text(args.message)
    workspace = Remote.of(args).find(args.workspace)
    if interactive:
        return _converse(args, workspace)
    return _say_once(args, workspace, text)


def _text(argument: str | None) -> str:
    text = argument
    if text is None or text == "-":
        data = sys.stdin.buffer.read(_MAX_MESSAGE_BYTES + 1)
        if len(data) > _MAX_MESSAGE_BYTES:
            raise ConfigurationError(
                "the message on standard input is larger than 1 MiB; send it as a file with --attach"
            )
        text = data.decode("utf-8", errors="replace")
    if not text.strip():
        raise ConfigurationError("there is nothing to say; give a MESSAGE, as an argument or on standard input")
    return text


def _check(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as exc:
        raise ConfigurationError(f"--attach {str(file)!r} cannot be read: {exc.strerror or exc}") from None


# --- one message ----------------------------------------------------------------------------------------------------------


class _Remarks:
    """Tells on stderr what happens beside the answer, and keeps it for `--json`."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        self.messages: list[Row] = []
        self.requests: list[Row] = []
        self._name = name
        self._quiet = quiet

    def message(self, said: Reply, *, late: bool = False) -> None:
        del late
        self.messages.append(_body(said))
        self._tell(_spoken(self._name, said))

    def request(self, row: Row) -> None:
        self.requests.append(row)
        self._tell(_asked(self._name, row))

    def waiting(self, why: str) -> None:
        self._tell(f"{why} (Ctrl-C stops waiting)")

    def _tell(self, text: str) -> None:
        if not self._quiet:
            console.remark(text)


def _say_once(args: argparse.Namespace, workspace: Row, text: str) -> int:
    from molecule_runtime.localplatform.commands.conversation import Conversation
    from molecule_runtime.localplatform.commands.frames import run_plainly, while_linked

    name = console.one_line(str(workspace.get("name") or workspace["id"]))
    remarks = _Remarks(name, quiet=args.json)

    async def talk() -> Reply:
        conversation = Conversation(str(workspace["id"]), name, remarks)
        return await while_linked(
            lambda: Remote.of(args),
            conversation.serve,
            lambda: conversation.ask(text, args.attach, seconds=args.timeout),
        )

    reply = run_plainly(talk)
    if args.json:
        about = {"workspace_id": workspace["id"], "name": workspace.get("name")}
        console.emit({**about, **_body(reply), "messages": remarks.messages, "requests": remarks.requests})
    else:
        console.say(_content(reply))
    return 0


# --- a conversation -------------------------------------------------------------------------------------------------------


class _Screen:
    """Shows the conversation on a terminal, also while the person types."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._prompting = False
        try:
            import readline
        except ImportError:  # not everywhere; there is no history then
            readline = None  # type: ignore[assignment]
        self._readline = readline

    def ask(self) -> str:
        """Return what the person types."""
        with self._lock:
            self._prompting = True
        try:
            return input(_PROMPT)
        finally:
            with self._lock:
                self._prompting = False

    def show(self, text: str) -> None:
        """Print something above what the person is typing."""
        with self._lock:
            if not self._prompting:
                console.say(text)
                return
            sys.stdout.write("\r\x1b[K")
            console.say(text)
            typed = self._readline.get_line_buffer() if self._readline is not None else ""
            sys.stdout.write(_PROMPT + typed)
            sys.stdout.flush()

    def message(self, said: Reply, *, late: bool = False) -> None:
        self.show(_spoken(f"{self._name} (late)" if late else self._name, said))

    def request(self, row: Row) -> None:
        self.show(_asked(self._name, row))

    def waiting(self, why: str) -> None:
        self.show(f"({why}; Ctrl-C stops waiting)")


def _converse(args: argparse.Namespace, workspace: Row) -> int:
    from anyio.from_thread import start_blocking_portal

    from molecule_runtime.localplatform.commands.conversation import Conversation
    from molecule_runtime.localplatform.commands.frames import stay_linked

    name = console.one_line(str(workspace.get("name") or workspace["id"]))
    screen = _Screen(name)
    # The terminal needs this thread, where signals arrive; the network has one of its own.
    with start_blocking_portal("asyncio") as portal:
        conversation = portal.call(Conversation, str(workspace["id"]), name, screen)
        link, _ = portal.start_task(stay_linked, lambda: Remote.of(args), conversation.serve)
        try:
            portal.call(conversation.ready)
            console.say(f"{name} is {workspace.get('status')}. /help lists the commands, Ctrl-D ends.")
            _loop(args, portal, conversation, screen, link)
        finally:
            link.cancel()
    return 0


def _loop(
    args: argparse.Namespace, portal: BlockingPortal, conversation: Conversation, screen: _Screen, link: Future[None]
) -> None:
    files: list[Path] = list(args.attach)
    while True:
        try:
            line = screen.ask().strip()
        except EOFError:
            console.say("")
            return
        except KeyboardInterrupt:
            console.say("")
            continue
        except UnicodeDecodeError:
            console.complain("molecule-local", "that line is not text in the terminal's encoding; type it again")
            continue
        if link.done():
            link.result()
        word, _, rest = line.partition(" ")
        try:
            match word:
                case "":
                    continue
                case "/quit":
                    return
                case "/help":
                    console.say(_HELP)
                case "/attach":
                    file = Path(rest.strip()).expanduser()
                    _check(file)
                    files.append(file)
                    console.say(f"goes with the next message: {console.one_line(file.name)}")
                case "/new":
                    portal.call(conversation.new_session)
                    console.say("a new session begins")
                case _:
                    attached, files = files, []
                    _turn(args, portal, conversation, line, attached)
        except MoleculeError as exc:
            console.complain("molecule-local", str(exc))


def _turn(
    args: argparse.Namespace, portal: BlockingPortal, conversation: Conversation, line: str, files: list[Path]
) -> None:
    async def ask() -> Reply:
        return await conversation.ask(line, files, seconds=args.timeout)

    waiting = portal.start_task_soon(ask)
    try:
        console.say(_spoken(conversation.name, waiting.result()))
    except KeyboardInterrupt:
        waiting.cancel()
        console.say(f"\nstopped waiting; {conversation.name} may still answer")


# --- how things are shown -------------------------------------------------------------------------------------------------


def _spoken(name: str, said: Reply) -> str:
    first, *others = _content(said).splitlines() or [""]
    margin = " " * (console.measure(name) + 2)
    return "\n".join([f"{name}: {first}", *(f"{margin}{line}".rstrip() for line in others)])


def _content(said: Reply) -> str:
    lines = [console.safe(said.text)] if said.text else []
    lines += [f"[file] {_file(file)}" for file in said.files]
    return "\n".join(lines) or "(no text)"


def _file(file: File) -> str:
    size = "" if file.size is None else f" ({console.size(file.size)})"
    return console.one_line(f"{file.name or 'file'}{size} {file.uri}")


def _asked(name: str, row: Row) -> str:
    wants = "needs your approval" if row.get("kind") == "approval" else "asks you"
    title = console.one_line(str(row.get("title") or ""))
    return f"{name} {wants}: {title} (molecule-local requests show {short_id(str(row['id']))})"


def _body(said: Reply) -> Row:
    return {
        "text": said.text,
        "files": [
            {"uri": file.uri, "name": file.name, "mime_type": file.mime_type, "size": file.size} for file in said.files
        ],
        "state": said.state,
        "task_id": said.task_id,
        "context_id": said.context_id,
    }
