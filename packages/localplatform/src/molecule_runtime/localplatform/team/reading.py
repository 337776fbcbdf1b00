"""Reads a seed and checks it against this machine: everything that is wrong at once, each with its place, value and remedy."""

from __future__ import annotations

import difflib
import importlib.util
import keyword
import logging
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import env, features
from molecule_runtime.core.config.document import Document
from molecule_runtime.core.config.findings import Finding, KeyPath, safe
from molecule_runtime.core.config.positions import Problem
from molecule_runtime.core.errors import MissingFeatureError
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.localplatform.errors import SeedError
from molecule_runtime.localplatform.team.members import EXTERNAL, Member, RestartRule, Team
from molecule_runtime.localplatform.team.seats import OWN_FILES, OWN_VARIABLES
from molecule_runtime.localplatform.team.seed import Defaults, Entry, Seed
from molecule_runtime.localplatform.workspaces import MAX_CHARS, NAME_UNSAFE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from molecule_runtime.localplatform.team.seed import Variable

logger = logging.getLogger(__name__)

MAX_MEMBERS = 256
"""Each is a process on this machine."""

HOST_MODULE = "molecule_runtime.a2a"
HOST_DISTRIBUTION = "molecule-runtime-a2a"

_MISSING = "give --seed the path of a YAML file; `molecule-local up --seed-schema` describes what it holds"
_OWN_KEYS = ("name", "role", "runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSeed:
    """What one reading gave.

    Attributes:
        team: None when there are errors.
        findings: everything noticed, in the order of the file.
    """

    team: Team | None
    findings: tuple[Finding, ...]


def read_team(path: Path, environ: Mapping[str, str] | None = None) -> Team:
    """Read a seed, and log what is worth a look.

    Raises:
        SeedError: it cannot be used; `findings` names every place, value and remedy.
        MissingFeatureError: the wheel that runs its members is not installed.
    """
    loaded = load_team(path, environ)
    if loaded.team is None:
        raise SeedError(finding for finding in loaded.findings if finding.severity == "error")
    for finding in loaded.findings:
        logger.warning("%s", finding)
    if any(not member.external and not member.command for member in loaded.team.members):
        require_host()
    return loaded.team


def require_host() -> None:
    """Make sure that the wheel with the workspace host is installed.

    Raises:
        MissingFeatureError: it is not.
    """
    if importlib.util.find_spec(HOST_MODULE) is None:
        raise MissingFeatureError(
            f"members of the team are run by the workspace host, {HOST_DISTRIBUTION}, which",
            distribution=HOST_DISTRIBUTION,
        )


def load_team(path: Path, environ: Mapping[str, str] | None = None) -> LoadedSeed:
    """Read a seed and report everything that is wrong. Never raises on account of the file."""
    reading = _Reading(path, env.current() if environ is None else environ)
    try:
        team = reading.run()
    except Problem as problem:
        reading.add_problem(problem)
        team = None
    return LoadedSeed(team=None if reading.failed else team, findings=reading.in_order())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """An entry of the file, with its place there and the entry around it."""

    path: KeyPath
    entry: Entry
    above: Entry | None

    def at(self, key: str) -> KeyPath:
        return (*self.path, key)


class _Reading(Document[Seed]):
    """The reading of one seed."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        super().__init__(path, Seed, missing=_MISSING)
        self._environ = environ
        self._folder = path.absolute().parent

    def run(self) -> Team | None:
        values = self.read()
        seed = self.validate(values)
        self.look_for_unknown_keys(values, "warning")
        if seed is None:
            return None
        places = list(_places(seed.workspaces, ("workspaces",), None))
        if not places:
            self.add("error", "no-members", ("workspaces",), "names nobody", "add `- name: ...` for each member")
        elif len(places) > MAX_MEMBERS:
            message = f"has {len(places)} members, each of which is a process here"
            self.add("error", "too-many", ("workspaces",), message, f"keep it to {MAX_MEMBERS}")
            return None
        self._check_names(places)
        parents = self._parents(places)
        self._check_ports(places)
        members = {place.entry.name.strip(): self._member(place, seed.defaults, parents) for place in places}
        self._check_variables(("defaults", "env"), seed.defaults.env)
        self._check_config(("defaults", "config"), seed.defaults.config)
        if self.failed:
            return None
        return Team(name=seed.name.strip() or self.path.stem, members=tuple(_parents_first(members)))

    # --- names and parents ------------------------------------------------------------------------------------------------

    def _check_names(self, places: list[_Place]) -> None:
        first: dict[str, _Place] = {}
        for place in places:
            path, name = place.at("name"), place.entry.name
            for key, text in (("name", name), ("role", place.entry.role)):
                if unsafe := NAME_UNSAFE.search(text):
                    message = f"holds {unsafe.group()!r}, which no {key} of a workspace may hold"
                    self.add("error", "wrong-value", place.at(key), message, "leave it out", value=text)
                elif len(text) > MAX_CHARS[key]:
                    message = f"is longer than {MAX_CHARS[key]} characters"
                    self.add("error", "wrong-value", place.at(key), message, "shorten it", value=text)
            if not name.strip():
                self.add("error", "wrong-value", path, "must not be empty", "give the member a name", value=name)
                continue
            other = first.setdefault(name.strip().casefold(), place)
            if other is not place:
                line, _ = self.reader.values.get(other.at("name"), (0, 0))
                message = f"is the name of another member too, in line {line}"
                remedy = "choose another: members find each other, and their workspaces, by name"
                self.add("error", "duplicate-name", path, message, remedy, value=name)

    def _parents(self, places: list[_Place]) -> dict[str, str]:
        """Return who stands below whom, where that makes sense."""
        names = {place.entry.name.strip() for place in places}
        parents: dict[str, str] = {}
        for place in places:
            name, wanted = place.entry.name.strip(), place.entry.parent.strip()
            path = place.at("parent")
            if place.above is not None:
                parents[name] = place.above.name.strip()
                if wanted and wanted != parents[name]:
                    message = f"differs from the member around it, {safe(parents[name])!r}"
                    self.add("error", "two-parents", path, message, "remove one of the two", value=wanted)
            elif wanted and wanted not in names:
                near = difflib.get_close_matches(wanted, sorted(names), n=1)
                remedy = f"did you mean {safe(near[0])!r}?" if near else "name a member of this file"
                self.add("error", "unknown-parent", path, "is not a member", remedy, value=wanted)
            elif wanted:
                parents[name] = wanted
        for place in places:
            circle = _circle(place.entry.name.strip(), parents)
            if circle and place.entry.parent:
                shown = " below ".join(repr(safe(name)) for name in circle)
                message = f"leads back to the member itself: {shown}"
                self.add("error", "cycle", place.at("parent"), message, "let one of them stand at the top")
                for name in circle:
                    parents.pop(name, None)
        return parents

    def _check_ports(self, places: list[_Place]) -> None:
        taken: dict[int, str] = {}
        for place in places:
            port = place.entry.port
            if port and taken.setdefault(port, place.entry.name) != place.entry.name:
                message = f"is the port of {safe(taken[port])!r} too"
                self.add(
                    "error", "duplicate-port", place.at("port"), message, "choose another, or remove it", value=port
                )

    # --- one member -------------------------------------------------------------------------------------------------------

    def _member(self, place: _Place, defaults: Defaults, parents: Mapping[str, str]) -> Member:
        entry = place.entry
        given = entry.model_fields_set
        name = entry.name.strip()
        role = entry.role if "role" in given else None
        files = tuple(self._files(place))
        if entry.external or entry.runtime == EXTERNAL:
            self._check_external(place)
            return Member(
                name=name, role=role, parent=parents.get(name), runtime=EXTERNAL, delivery=entry.delivery, files=files
            )
        if entry.delivery == "poll" and "delivery" in given:
            remedy = "remove it, or set `external: true` for an agent that connects from elsewhere"
            self.add("error", "wrong-value", place.at("delivery"), "is push for members that run here", remedy)
        self._check_variables(place.at("env"), entry.env)
        self._check_config(place.at("config"), entry.config)
        # What runs a member is taken as a whole from where it is said: a member's runtime must not meet the default's adapter.
        own = bool(entry.runtime or entry.adapter or entry.command)
        source: Entry | Defaults = entry if own else defaults
        path: KeyPath = place.path if own else ("defaults",)
        module, folder = self._adapter((*path, "adapter"), source.adapter) if source.adapter else ("", None)
        command = self._command((*path, "command"), source.command) if source.command else ()
        if not (source.runtime or source.adapter or source.command):
            remedy = "add runtime (an installed adapter), adapter (a file or module), command, or `external: true`"
            self.add("error", "nothing-to-run", place.path, "does not say what runs it", remedy)
        elif not source.adapter and not source.command:
            self._check_runtime((*path, "runtime"), source.runtime)
        return Member(
            name=name,
            role=role,
            parent=parents.get(name),
            runtime=source.runtime or module.rpartition(".")[2] or Path(next(iter(command), "")).name,
            adapter_module=module,
            adapter_folder=folder,
            command=command,
            config=_merged(defaults.config, entry.config),
            environ=self._values({**defaults.env, **entry.env}),
            prompt=entry.prompt,
            files=files,
            port=entry.port,
            restart=_restart(entry, defaults),
        )

    def _check_external(self, place: _Place) -> None:
        for key in ("runtime", "adapter", "command", "config", "prompt", "env", "port", "restart"):
            if key in place.entry.model_fields_set and not (key == "runtime" and place.entry.runtime == EXTERNAL):
                message = "means nothing for a member that connects from elsewhere"
                self.add("warning", "unused", place.at(key), message, "remove it, or remove `external`")

    def _check_runtime(self, path: KeyPath, name: str) -> None:
        known = features.names(features.ADAPTERS)
        if name in known or importlib.util.find_spec(HOST_MODULE) is None:
            return  # without the host's wheel there is one thing to say, and `require_host` says it
        near = difflib.get_close_matches(name, known, n=1)
        installed = f"is not an installed adapter ({', '.join(known) or 'there is none'})"
        remedy = f"did you mean {near[0]}?" if near else "install its wheel, or name a file with `adapter: ./FILE.py`"
        self.add("error", "unknown-runtime", path, installed, remedy, value=name)

    def _adapter(self, path: KeyPath, text: str) -> tuple[str, Path | None]:
        """Return the module of an adapter, and its folder where it is not installed."""
        if not text.endswith(".py") and "/" not in text:
            if not all(part.isidentifier() for part in text.split(".")):
                self.add("error", "wrong-value", path, "is neither a file nor a module", _ADAPTER_REMEDY, value=text)
            elif not _is_installed(text.partition(".")[0]):
                message = "is not a module that is installed here"
                self.add("error", "unknown-adapter", path, message, _ADAPTER_REMEDY, value=text)
            return text, None
        file = self._resolved(text)
        if file.is_dir():
            message = "is a folder"
            self.add("error", "wrong-file", path, message, "name the file in it that has the Adapter class", value=text)
        elif not file.is_file():
            self.add("error", "missing-file", path, "does not exist", f"create {file}, or correct the path", value=text)
        elif file.suffix != ".py":
            self.add("error", "wrong-file", path, "is not a Python file", "name a file that ends in .py", value=text)
        elif not file.stem.isidentifier() or keyword.iskeyword(file.stem):
            message = "has a name that cannot be imported"
            self.add("error", "wrong-file", path, message, "use letters, digits and _ only", value=text)
        elif _is_installed(file.stem, apart_from=file):
            message = "has the name of an installed module, which would be imported instead"
            self.add("error", "wrong-file", path, message, "rename it", value=text)
        return file.stem, file.parent

    def _command(self, path: KeyPath, words: Sequence[str]) -> tuple[str, ...]:
        """Return a command whose program is an absolute path."""
        program, *arguments = words
        where = str(self._resolved(program)) if "/" in program else program
        found = shutil.which(where, path=self._environ.get("PATH")) if program else None
        if found is None:
            message = "names a program that is not there, or may not be executed"
            remedy = "install it, or give its path, relative to this file"
            self.add("error", "unknown-command", (*path, 0), message, remedy, value=program)
        return (found or program, *arguments)

    def _files(self, place: _Place) -> Iterator[Path]:
        names: set[str] = set()
        for index, text in enumerate(place.entry.files):
            path, file = (*place.at("files"), index), self._resolved(text)
            if not file.exists():
                self.add(
                    "error", "missing-file", path, "does not exist", f"create {file}, or correct the path", value=text
                )
            elif file.name in OWN_FILES or not file.name:
                message = "has the name of a file that molecule-local writes there itself"
                self.add("error", "wrong-file", path, message, "rename it", value=text)
            elif file.name in names:
                message = "has the name of another file of this member"
                self.add("error", "wrong-file", path, message, "rename one of them", value=text)
            names.add(file.name)
            yield file

    # --- values -----------------------------------------------------------------------------------------------------------

    def _check_variables(self, path: KeyPath, variables: Mapping[str, Variable]) -> None:
        for name, variable in variables.items():
            here = (*path, name)
            place = self.reader.keys.get(here)
            if not name.isascii() or not name.isidentifier():
                message = "is not the name of an environment variable"
                self.add("error", "wrong-key", here, message, "use letters, digits and _", place=place)
            elif name in OWN_VARIABLES:
                message = "is set by molecule-local itself"
                self.add("error", "wrong-key", here, message, f"remove it; {OWN_VARIABLES[name]}", place=place)
            elif "\0" in variable.value:
                self.add("error", "wrong-value", here, "holds a NUL character", "remove it")
            elif variable.from_env and variable.from_env not in self._environ:
                message = f"refers to the environment variable {safe(variable.from_env)}, which is not set"
                self.add("error", "unset-variable", here, message, "set it before `molecule-local up`, or remove it")

    def _values(self, variables: Mapping[str, Variable]) -> dict[str, str]:
        return {
            name: self._environ.get(variable.from_env, "") if variable.from_env else variable.value
            for name, variable in variables.items()
        }

    def _check_config(self, path: KeyPath, config: Mapping[str, Any]) -> None:
        for key in _OWN_KEYS:
            if key in config:
                message = "stands in the member itself"
                self.add("error", "wrong-key", (*path, key), message, f"write {key} outside of `config`")
        server = config.get("a2a")
        if isinstance(server, dict) and "port" in cast("dict[str, Any]", server):
            message = "stands in the member itself"
            self.add("error", "wrong-key", (*path, "a2a", "port"), message, "write port outside of `config`")

    def _resolved(self, text: str) -> Path:
        return self._folder / expand_home(text)


_ADAPTER_REMEDY = "write ./FILE.py for a file beside this one, or the name of an installed module"


def _places(entries: Sequence[Entry], path: KeyPath, above: Entry | None) -> Iterator[_Place]:
    for index, entry in enumerate(entries):
        here = (*path, index)
        yield _Place(path=here, entry=entry, above=above)
        yield from _places(entry.children, (*here, "children"), entry)


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


def _parents_first(members: Mapping[str, Member]) -> Iterator[Member]:
    seated: set[str] = set()

    def seat(member: Member) -> Iterator[Member]:
        if member.name not in seated:
            if member.parent is not None:
                yield from seat(members[member.parent])
            seated.add(member.name)
            yield member

    for member in members.values():
        yield from seat(member)


def _restart(entry: Entry, defaults: Defaults) -> RestartRule:
    rule = entry.restart if "restart" in entry.model_fields_set else defaults.restart
    return RestartRule(policy=rule.policy, attempts=rule.attempts)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of both; where both have a mapping, the keys of both of those."""
    result = dict(below)
    for key, value in above.items():
        other = result.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            result[key] = _merged(cast("dict[str, Any]", other), cast("dict[str, Any]", value))
        else:
            result[key] = value
    return result


def _is_installed(name: str, *, apart_from: Path | None = None) -> bool:
    """Tell whether a top-level module can be imported by the members' Python, which is this one."""
    if name in sys.stdlib_module_names:
        return True
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    if found is None:
        return False
    return apart_from is None or found.origin is None or Path(found.origin).resolve() != apart_from.resolve()
