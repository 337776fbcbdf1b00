"""An agent that leads a team: splits a request, gives each part to the peer whose card fits it, and puts the answers together.

It has no model: a peer is chosen by the words of its card. What a peer says is quoted under its name and never read as an instruction.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio

from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter
from molecule_runtime.core.envelope import Accepted, Answer, Failure, Reply
from molecule_runtime.core.errors import PlatformError
from molecule_runtime.core.identity import display_name

if TYPE_CHECKING:
    from molecule_runtime.a2a.executor import ReplyExecutor, Turn
    from molecule_runtime.core.platform import wire

MAX_PARTS = 12
MAX_ANSWER_CHARS = 4000
MAX_PENDING = 100
PENDING_SECONDS = 24 * 3600.0
PEER_SECONDS = 120.0
MAX_HOPS = 3
"""How often leads may pass a message on; two leads that list each other would do so for ever."""

_HOPS = "lead_hops"


class Platform(Protocol):
    """What a lead needs of `core.platform.client.PlatformClient`."""

    async def peers(self) -> list[wire.Peer]:
        """Return the peers."""
        ...

    async def send_message(
        self, target_id: str, text: str, *, metadata: Mapping[str, Any] | None = None, timeout: float = PEER_SECONDS
    ) -> Answer:
        """Ask a peer."""
        ...

    async def notify(self, message: str) -> object:
        """Say something to the person behind this workspace."""
        ...


class Adapter(BaseAdapter):
    """The lead."""

    def __init__(self) -> None:
        self._lead: Lead | None = None

    @staticmethod
    def name() -> str:
        """Return the runtime key."""
        return "lead"

    @staticmethod
    def display_name() -> str:
        """Return the name for people."""
        return "Lead"

    @staticmethod
    def description() -> str:
        """Say what it does."""
        return "Leads a team: splits a request, asks the peer that fits each part, and combines their answers."

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """Describe `runtime_config`."""
        return {
            "type": "object",
            "properties": {
                "timeout_seconds": {
                    "type": "number",
                    "description": "How long one peer may take.",
                    "default": PEER_SECONDS,
                }
            },
        }

    def skills(self) -> list[Any]:
        """Return the one skill."""
        return [
            {
                "id": "lead",
                "name": "Delegate to the team",
                "description": "Splits a request into parts, delegates each to the peer whose card fits, and reports the answers.",
                "tags": ["lead", "delegate", "coordinate", "team"],
                "examples": [
                    "What is (17 * 23) + 4, and then which planet has the largest mass?",
                    "ask Calculator: 2 + 2",
                ],
            }
        ]

    async def setup(self, config: AdapterConfig) -> None:
        """Take the platform client.

        Raises:
            RuntimeError: there is no platform, or `timeout_seconds` is not a positive number.
        """
        if config.platform is None:
            raise RuntimeError("a lead needs a platform to find its peers on; set PLATFORM_URL")
        seconds = config.runtime_config.get("timeout_seconds", PEER_SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0:
            raise RuntimeError(f"runtime_config.timeout_seconds must be a positive number, not {seconds!r:.60}")
        self._lead = Lead(cast("Platform", config.platform), own_id=config.workspace_id, timeout=float(seconds))

    async def create_executor(self, config: AdapterConfig) -> ReplyExecutor:
        """Answer each message with `answer`."""
        from molecule_runtime.a2a.executor import ReplyExecutor

        return ReplyExecutor(self.answer)

    async def answer(self, turn: Turn) -> str:
        """Lead one request."""
        if self._lead is None:
            raise RuntimeError("the lead was not set up")
        hops = turn.metadata.get(_HOPS, 0)
        return await self._lead.answer(
            turn.text, sender=turn.source_workspace_id, hops=hops if isinstance(hops, int) else MAX_HOPS
        )


# --- the work --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a request and who should do it; `peer` is None where nobody fits, and `note` says why."""

    text: str
    peer: wire.Peer | None = None
    note: str = ""


@dataclass(slots=True)
class Report:
    """The lines of one report; a line that waits for a peer's answer is None."""

    request: str
    lines: list[str | None]
    waiting: dict[int, str] = field(default_factory=dict[int, str])
    """Index of a waiting line to the line that stands in for it."""

    created: float = 0.0
    from_person: bool = False
    """Whether a person asked: the HTTP answer to them is long gone when the last part arrives."""

    def text(self) -> str:
        """Return the report as it stands."""
        return "\n".join(line if line is not None else self.waiting[index] for index, line in enumerate(self.lines))


class Lead:
    """Splits, delegates and combines. Remembers which questions wait in the inbox of a peer that polls."""

    def __init__(
        self,
        platform: Platform,
        *,
        own_id: str = "",
        timeout: float = PEER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._platform = platform
        self._own_id = own_id
        self._timeout = timeout
        self._clock = clock
        self._pending: OrderedDict[str, tuple[str, int, Report]] = OrderedDict()

    async def answer(self, text: str, *, sender: str | None = None, hops: int = 0) -> str:
        """Answer a request, or take a message from a peer as the answer that it owes."""
        if sender is not None:
            completed = await self._take_late_answer(sender, text)
            if completed is not None:
                return completed
        if hops >= MAX_HOPS:
            return f"This request was passed on {hops} times already; I do not pass it on again."
        parts = split(text)
        if not parts:
            return "There is nothing to do in this message. Send one or more questions; I pass each on to a peer."
        try:
            peers = await self._platform.peers()
        except PlatformError as exc:
            return f"I cannot ask for my peers: {exc}"
        candidates = [peer for peer in peers if peer.id not in {self._own_id, sender} and peer.status != "removed"]
        if not candidates:
            return "I have no peers to ask. Connect an agent to my team, and send this again."
        plan = [choose(part, candidates) for part in parts]
        report = Report(text, [None] * len(plan), created=self._clock(), from_person=sender is None)
        # One peer works on one message at a time; a second one would only be queued (contract `platform-api.md` 5.4).
        by_peer: dict[str, list[int]] = {}
        for index, part in enumerate(plan):
            if part.peer is None:
                report.lines[index] = (
                    f"{part.note or f'No peer fits “{_short(part.text)}”.'} My peers: {_listed(candidates)}."
                )
            else:
                by_peer.setdefault(part.peer.id, []).append(index)

        async def ask(indexes: list[int]) -> None:
            for index in indexes:
                peer = plan[index].peer
                assert peer is not None  # noqa: S101 - by_peer holds only such parts
                await self._ask(peer, plan[index].text, index, report, hops)

        async with anyio.create_task_group() as tasks:
            for indexes in by_peer.values():
                tasks.start_soon(ask, indexes)
        return report.text()

    async def _ask(self, peer: wire.Peer, text: str, index: int, report: Report, hops: int) -> None:
        name = name_of(peer)
        try:
            said = await self._platform.send_message(peer.id, text, metadata={_HOPS: hops + 1}, timeout=self._timeout)
        except PlatformError as exc:
            report.lines[index] = f"{name} did not answer “{_short(text)}”: {exc}"
            return
        match said:
            case Reply():
                report.lines[index] = quoted(name, said.text or "(no text)")
            case Failure():
                report.lines[index] = f"{name} failed on “{_short(text)}”: {_one_line(said.message)}"
            case Accepted(mode="poll"):
                report.waiting[index] = (
                    f"{name}: your question “{_short(text)}” is waiting in its inbox; the answer follows when it is read."
                )
                self._remember(peer.id, index, report)
            case Accepted():
                report.lines[index] = f"{name} is busy; “{_short(text)}” is in its queue and has no answer yet."

    def _remember(self, peer_id: str, index: int, report: Report) -> None:
        self._forget_old()
        self._pending[uuid.uuid4().hex] = (peer_id, index, report)
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)

    def _forget_old(self) -> None:
        limit = self._clock() - PENDING_SECONDS
        for key in [key for key, (_, _, report) in self._pending.items() if report.created < limit]:
            del self._pending[key]

    async def _take_late_answer(self, sender: str, text: str) -> str | None:
        """Put a peer's message into the oldest report that waits for this peer; None when none does."""
        self._forget_old()
        key = next((key for key, (peer_id, _, _) in self._pending.items() if peer_id == sender), None)
        if key is None:
            return None
        _, index, report = self._pending.pop(key)
        name = sender
        # Without the platform the id is the name: a worse one, and the answer is still worth having.
        with contextlib.suppress(PlatformError):
            name = next((name_of(peer) for peer in await self._platform.peers() if peer.id == sender), sender)
        report.lines[index] = quoted(name, text or "(no text)")
        report.waiting.pop(index, None)
        left = len(report.waiting)
        title = "Report" if not left else f"Report so far ({left} answer{'s' if left > 1 else ''} still to come)"
        completed = f"{title} on “{_short(report.request)}”:\n{report.text()}"
        if report.from_person and not left:
            with contextlib.suppress(PlatformError):
                await self._platform.notify(completed)
        return completed


# --- splitting -------------------------------------------------------------------------------------------------------------

_ASKING = r"what|which|who|where|when|how|is|are|ask|tell|compute|calculate|find|list|give|show|@\w"
_BREAKS = re.compile(
    r"\n+|(?<=[.?!;])\s+"
    r"|\s*,?\s*\b(?:and\s+then|then\s+also|and\s+also|afterwards|after\s+that)\b,?\s*|\s*,\s*then\s+"
    rf"|\s*,?\s+and\s+(?=(?:please\s+)?(?:{_ASKING})\b)|\s*,\s+(?=(?:{_ASKING})\b)",
    re.IGNORECASE,
)
_ITEM = re.compile(r"(?:^|(?<=\s))(?:(?P<number>\d{1,2})[.)]|[-*•])\s+(?=\S)")
_ABBREVIATIONS = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx|dr|mr|mrs|no)\.$", re.IGNORECASE)
_CONNECTIVE = re.compile(
    r"^(?:(?:and|then|also|finally|lastly|afterwards)\b[\s,]*|(?:first|firstly|second|secondly|third|next)\s*,\s*)+",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"(?:hi|hello|hey|dear|good (?:morning|afternoon|evening)|thanks?(?: you)?|thank you|please|cheers|team|all|everyone|there|then"
    r"|first|second|next|finally|also|and|[\s,.!;:-])*",
    re.IGNORECASE,
)


def split(text: str) -> list[str]:
    """Split a request into its parts: lines, numbered items, sentences, and "and then"."""
    lines: list[str] = []
    for line in text.splitlines():
        lines += _items(line)
    pieces = [piece for line in lines for piece in _sentences(line)]
    parts = [_CONNECTIVE.sub("", piece.strip(" \t,;")) for piece in pieces]
    parts = [part for part in parts if part and not _CHATTER.fullmatch(part)]
    if len(parts) > MAX_PARTS:
        # Nothing is dropped: the rest goes as one part.
        parts = [*parts[: MAX_PARTS - 1], " ".join(parts[MAX_PARTS - 1 :])]
    return parts


def _items(line: str) -> list[str]:
    """Split "1. this 2. that"; a dash or a number inside arithmetic is no item."""
    starts = [match for match in _ITEM.finditer(line) if _is_item(line[: match.start()].rstrip(), match)]
    numbers = [int(match["number"]) for match in starts if match["number"]]
    # Inside a line only a list that counts from one: "it costs 7. Then" is a sentence.
    if not starts or (line[: starts[0].start()].strip() and numbers != list(range(1, len(numbers) + 1))):
        return [line]
    if len(starts) == 1 and line[: starts[0].start()].strip():
        return [line]
    pieces = [line[: starts[0].start()]]
    ends = [match.start() for match in starts[1:]] + [len(line)]
    pieces += [line[match.end() : end] for match, end in zip(starts, ends, strict=True)]
    return pieces


def _is_item(before: str, match: re.Match[str]) -> bool:
    if not match["number"]:
        # Only at the beginning of a line: elsewhere it is a minus, a product or a dash.
        return not before
    return not before or before[-1] not in "+-*/^%=<>("


def _sentences(line: str) -> list[str]:
    pieces: list[str] = []
    for piece in _BREAKS.split(line):
        if pieces and _ABBREVIATIONS.search(pieces[-1]):
            pieces[-1] = f"{pieces[-1]} {piece}"
        else:
            pieces.append(piece)
    return pieces


# --- choosing --------------------------------------------------------------------------------------------------------------

_STOP_WORDS = """
a an and are as at be by can could do does for from give has have how i in is it its many me much my of on or our please question
questions show tell than that the their them there these this to us was what when where which who why will with would you your
answer answers agent find
"""
_STOP = frozenset(_STOP_WORDS.split())
_ARITHMETIC = re.compile(
    r"\d\s*(?:[-+*/^×÷]|\*\*|//|%)\s*[\d(]|\d\s*(?:%|percent)\s*of\b"  # noqa: RUF001 - what people type
    r"|\b(?:sqrt|square root|plus|minus|times|divided by|calculate|compute)\b",
    re.IGNORECASE,
)
_ARITHMETIC_WORDS = frozenset(
    {"arithmetic", "calculator", "calculate", "calculation", "compute", "math", "maths", "mathematics"}
)
_EXPLICIT = re.compile(r"(?:please\s+)?(?:ask|tell)\s+(?:the\s+)?(?P<ask>.+)|@(?P<at>.+)", re.IGNORECASE | re.DOTALL)
_WEIGHTS = {"tags": 3.0, "skill": 2.0, "name": 3.0, "role": 2.0, "description": 1.0}
_SHAPE_WEIGHT = 6.0
_OFFLINE = {"offline", "failed", "degraded", "hibernated"}


def choose(text: str, peers: Sequence[wire.Peer]) -> Part:
    """Return a part with the peer for it: the one that is named, else the one whose card fits best."""
    named = _named(text, peers)
    if named is not None:
        return named
    scored = [(score(text, peer), peer) for peer in peers]
    best = max(
        (item for item in scored if item[0] > 0),
        # Equal scores: one that is there before one that is not, then by name, so that the choice is always the same.
        key=lambda item: (
            item[0],
            item[1].status not in _OFFLINE,
            [-ord(letter) for letter in name_of(item[1]).lower()],
        ),
        default=None,
    )
    return Part(text, best[1] if best is not None else None)


def score(text: str, peer: wire.Peer) -> float:
    """Say how well a peer's card fits a text; 0 when it does not."""
    wanted = _stems(text)
    card = peer.agent_card or {}
    fields: dict[str, set[str]] = {name: set() for name in _WEIGHTS}
    fields["name"] = _stems(f"{peer.name or ''} {_text(card.get('name'))}")
    fields["role"] = _stems(peer.role or "")
    fields["description"] = _stems(_text(card.get("description")))
    for skill in _list(card.get("skills")):
        if not isinstance(skill, Mapping):
            continue
        entry = cast("Mapping[str, Any]", skill)
        fields["skill"] |= _stems(f"{_text(entry.get('name'))} {_text(entry.get('id'))}")
        fields["description"] |= _stems(_text(entry.get("description")))
        fields["tags"] |= _stems(" ".join(_text(tag) for tag in _list(entry.get("tags"))))
    total = 0.0
    for word in wanted:
        # A word counts once, where it weighs most.
        total += max((_WEIGHTS[name] for name, words in fields.items() if word in words), default=0.0)
    everything = {word for words in fields.values() for word in words}
    if _ARITHMETIC.search(text) and everything & {_stem(word) for word in _ARITHMETIC_WORDS}:
        total += _SHAPE_WEIGHT
    return total


def _named(text: str, peers: Sequence[wire.Peer]) -> Part | None:
    match = _EXPLICIT.match(text)
    if match is None:
        return None
    rest = match["ask"] or match["at"]
    # The longest name first: "Data" must not shadow "Data Team".
    for peer in sorted(peers, key=lambda item: -len(item.name or "")):
        for name in sorted({peer.name or "", name_of(peer), peer.id}, key=len, reverse=True):
            if not name:
                continue
            found = re.match(
                rf"{re.escape(name)}(?!\w)\s*(?:[:,]|\bto\b|\bfor\b|\babout\b)?\s*(.*)", rest, re.IGNORECASE | re.DOTALL
            )
            if found:
                task = found[1].strip()
                if task:
                    return Part(task, peer)
                return Part(text, None, f"You named {name_of(peer)} without a question.")
    unknown = re.match(r"([\w-]+)\s*:", rest) if match["ask"] else re.match(r"([\w-]+)", rest)
    if unknown:
        return Part(text, None, f"I have no peer named {display_name(unknown[1]) or 'that'}.")
    return None


def name_of(peer: wire.Peer) -> str:
    """Return a name that is safe to show: peers choose their own."""
    return display_name(peer.name) or display_name(_text((peer.agent_card or {}).get("name"))) or peer.id


def quoted(name: str, text: str) -> str:
    """Quote a peer's answer under its name, so that no line of it can pass for the lead's or another peer's."""
    shown = text.strip()
    if len(shown) > MAX_ANSWER_CHARS:
        shown = f"{shown[:MAX_ANSWER_CHARS]}… [{len(shown) - MAX_ANSWER_CHARS} more characters]"
    lines = shown.splitlines() or [""]
    if len(lines) == 1:
        return f"{name}: {lines[0]}"
    return "\n".join([f"{name}:", *(f"> {line}" for line in lines)])


def _listed(peers: Sequence[wire.Peer]) -> str:
    shown: list[str] = []
    for peer in peers[:20]:
        what = _text((peer.agent_card or {}).get("description")) or peer.role or ""
        shown.append(f"{name_of(peer)} ({_short(_one_line(what))})" if what else name_of(peer))
    return ", ".join(shown) + (", …" if len(peers) > 20 else "")


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in re.findall(r"[a-z][a-z0-9]+", text.lower()) if word not in _STOP}


def _stem(word: str) -> str:
    for ending in ("ing", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 3 and not word.endswith("ss"):
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > 4 else word


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else f"{flat[:79]}…"
