"""Who stands where in a seed: names, and who is above whom."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.core.config.findings import safe
from molecule_runtime.localplatform.workspaces import MAX_CHARS, NAME_UNSAFE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from molecule_runtime.core.config.document import Document
    from molecule_runtime.core.config.findings import KeyPath
    from molecule_runtime.localplatform.team.members import Member
    from molecule_runtime.localplatform.team.seed import Entry, Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An entry of the file, with its path there and the entry around it."""

    path: KeyPath
    entry: Entry
    above: Entry | None

    @property
    def name(self) -> str:
        """The member's name."""
        return self.entry.name.strip()

    def at(self, key: str) -> KeyPath:
        """Return the path of one of its keys."""
        return (*self.path, key)


def places_of(entries: Sequence[Entry], path: KeyPath = ("workspaces",), above: Entry | None = None) -> Iterator[Place]:
    """Yield every entry, in the order of the file."""
    for index, entry in enumerate(entries):
        here = (*path, index)
        yield Place(path=here, entry=entry, above=above)
        yield from places_of(entry.children, (*here, "children"), entry)


def check_names(document: Document[Seed], places: Sequence[Place]) -> None:
    """Report names that no workspace can have, and those that two members share."""
    first: dict[str, Place] = {}
    for place in places:
        for key in ("name", "role", "runtime"):
            text = str(getattr(place.entry, key))
            if unsafe := NAME_UNSAFE.search(text):
                message = f"holds {unsafe.group()!r}, which no {key} of a workspace may hold"
                document.add("error", "wrong-value", place.at(key), message, "leave it out", value=text)
            elif len(text) > MAX_CHARS[key]:
                message = f"is longer than {MAX_CHARS[key]} characters"
                document.add("error", "wrong-value", place.at(key), message, "shorten it", value=text)
        if not place.name:
            message, remedy = "must not be empty", "give the member a name"
            document.add("error", "wrong-value", place.at("name"), message, remedy, value=place.entry.name)
            continue
        other = first.setdefault(place.name.casefold(), place)
        if other is not place:
            line, _ = document.reader.values.get(other.at("name"), (0, 0))
            message = f"is the name of another member too, in line {line}"
            remedy = "choose another: members, and their workspaces, are found by name"
            document.add("error", "duplicate-name", place.at("name"), message, remedy, value=place.entry.name)


def parents_of(document: Document[Seed], places: Sequence[Place]) -> dict[str, str]:
    """Return who stands below whom, where that makes sense, and report where it does not."""
    names = {place.name for place in places}
    parents: dict[str, str] = {}
    for place in places:
        wanted, path = place.entry.parent.strip(), place.at("parent")
        if place.above is not None:
            parents[place.name] = place.above.name.strip()
            if wanted and wanted != parents[place.name]:
                message = f"differs from the member around it, {safe(parents[place.name])!r}"
                document.add("error", "two-parents", path, message, "remove one of the two", value=wanted)
        elif wanted and wanted not in names:
            near = difflib.get_close_matches(wanted, sorted(names), n=1)
            remedy = f"did you mean {safe(near[0])!r}?" if near else "name a member of this file"
            document.add("error", "unknown-parent", path, "is not a member", remedy, value=wanted)
        elif wanted:
            parents[place.name] = wanted
    for place in places:
        circle = _circle(place.name, parents)
        if circle and place.entry.parent:
            way = " below ".join(repr(safe(name)) for name in circle)
            message, remedy = f"leads back to the member itself: {way}", "let one of them stand at the top"
            document.add("error", "cycle", place.at("parent"), message, remedy)
            for name in circle:
                parents.pop(name, None)
    return parents


def check_ports(document: Document[Seed], places: Sequence[Place]) -> None:
    """Report ports that two members ask for."""
    taken: dict[int, Place] = {}
    for place in places:
        port = place.entry.port
        if port and (other := taken.setdefault(port, place)) is not place:
            message, remedy = f"is the port of {safe(other.name)!r} too", "choose another, or remove it"
            document.add("error", "duplicate-port", place.at("port"), message, remedy, value=port)


def parents_first(members: Mapping[str, Member]) -> Iterator[Member]:
    """Yield every member after the one above it."""
    seated: set[str] = set()

    def seat(member: Member) -> Iterator[Member]:
        if member.name not in seated:
            if member.parent is not None:
                yield from seat(members[member.parent])
            seated.add(member.name)
            yield member

    for member in members.values():
        yield from seat(member)


def _circle(name: str, parents: Mapping[str, str]) -> list[str]:
    """Return the way from a member back to itself, or nothing when it leads to the top."""
    way = [name]
    while (above := parents.get(way[-1])) is not None:
        if above == name:
            return [*way, name]
        if above in way:
            return []
        way.append(above)
    return []
