"""Reads a seed and checks it against this machine: everything that is wrong at once, each with its place, value and remedy."""

from __future__ import annotations

import copy
import difflib
import importlib.util
import keyword
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from molecule_runtime.core import env, features
from molecule_runtime.core.config.document import NOTHING, Document
from molecule_runtime.core.config.findings import Finding, KeyPath, safe
from molecule_runtime.core.config.positions import Problem
from molecule_runtime.core.errors import MissingFeatureError
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.localplatform.errors import SeedError
from molecule_runtime.localplatform.team.family import check_names, check_ports, parents_first, parents_of, places_of
from molecule_runtime.localplatform.team.members import EXTERNAL, Member, RestartRule, Team
from molecule_runtime.localplatform.team.seats import OWN_FILES, OWN_VARIABLES
from molecule_runtime.localplatform.team.seed import Defaults, Entry, Seed
from molecule_runtime.localplatform.workspaces import MAX_CHARS, NAME_UNSAFE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from molecule_runtime.localplatform.team.family import Place
    from molecule_runtime.localplatform.team.seed import Variable

logger = logging.getLogger(__name__)

MAX_MEMBERS = 256
"""Each is a process on this machine."""

HOST_MODULE = "molecule_runtime.a2a"
HOST_DISTRIBUTION = "molecule-runtime-a2a"

_MISSING = "give --seed the path of a YAML file; `molecule-local up --seed-schema` describes what it holds"
_OWN_KEYS = ("name", "role", "runtime")
_MAX_PATH = 400
_ROUNDS = 4
"""Of taking out what does not fit: what is around a wrong value may not fit without it."""


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
        raise SeedError(loaded.findings)
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


class _Reading(Document[Seed]):
    """The reading of one seed."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        super().__init__(path, Seed, missing=_MISSING)
        self._environ = environ
        self._folder = path.absolute().parent
        self._noted: set[tuple[str, KeyPath]] = set()

    def run(self) -> Team | None:
        values = self.read()
        seed = self.validate(values)
        self.look_for_unknown_keys(values, "warning")
        if seed is None:
            # What can be said about the rest is said too.
            seed = _validated_in_part(values)
        if seed is None:
            return None
        places = list(places_of(seed.workspaces))
        if not places:
            self.add("error", "no-members", ("workspaces",), "names nobody", "add `- name: ...` for each member")
        elif len(places) > MAX_MEMBERS:
            message = f"has {len(places)} members, each of which is a process here"
            self.add("error", "too-many", ("workspaces",), message, f"keep it to {MAX_MEMBERS}")
            return None
        check_names(self, places)
        parents = parents_of(self, places)
        check_ports(self, places)
        members = {place.entry.name.strip(): self._member(place, seed.defaults, parents) for place in places}
        self._check_variables(("defaults", "env"), seed.defaults.env)
        self._check_config(("defaults", "config"), seed.defaults.config)
        if self.failed:
            return None
        return Team(name=seed.name.strip() or self.path.stem, members=tuple(parents_first(members)))

    def add(
        self,
        severity: Literal["error", "warning"],
        code: str,
        path: KeyPath,
        message: str,
        remedy: str,
        *,
        value: object = NOTHING,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Add a finding, once: what is wrong with a default is found for each member that has it."""
        if (code, path) not in self._noted:
            self._noted.add((code, path))
            super().add(severity, code, path, message, remedy, value=value, place=place)

    # --- one member -------------------------------------------------------------------------------------------------------

    def _member(self, place: Place, defaults: Defaults, parents: Mapping[str, str]) -> Member:
        entry = place.entry
        given = entry.model_fields_set
        name = entry.name.strip()
        role = entry.role if "role" in given else None
        files = tuple(self._files(place))
        if entry.external or entry.runtime == EXTERNAL:
            self._check_external(place)
            return Member(
                name=name,
                role=role,
                parent=parents.get(name),
                external=True,
                runtime=EXTERNAL,
                delivery=entry.delivery,
                files=files,
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
            if self._is_wrong(place.path) or self._is_wrong(("defaults",)):
                return Member(name=name)  # what should run it was taken out, and reported, above
            remedy = "add runtime (an installed adapter), adapter (a file or module), command, or `external: true`"
            self.add("error", "nothing-to-run", place.path, "does not say what runs it", remedy)
        elif not source.adapter and not source.command:
            self._check_runtime((*path, "runtime"), source.runtime)
        return Member(
            name=name,
            role=role,
            parent=parents.get(name),
            runtime=source.runtime or _label(module, command),
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

    def _is_wrong(self, path: KeyPath) -> bool:
        """Tell whether a value was wrong among those that say what runs a member."""
        keys = [(*path, key) for key in ("runtime", "adapter", "command")]
        return any(noted[: len(key)] == key for code, noted in self._noted if code == "wrong-value" for key in keys)

    def _check_external(self, place: Place) -> None:
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
            self.add("error", "missing-file", path, "does not exist", _create(file), value=text)
        elif file.suffix != ".py":
            self.add("error", "wrong-file", path, "is not a Python file", "name a file that ends in .py", value=text)
        elif not file.stem.isidentifier() or keyword.iskeyword(file.stem):
            message = "has a name that cannot be imported"
            self.add("error", "wrong-file", path, message, "use letters, digits and _ only", value=text)
        elif os.pathsep in str(file.parent):
            message = f"stands in a folder with {os.pathsep!r} in its path, which PYTHONPATH cannot hold"
            self.add("error", "wrong-file", path, message, "move it", value=text)
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

    def _files(self, place: Place) -> Iterator[Path]:
        names: set[str] = set()
        for index, text in enumerate(place.entry.files):
            path, file = (*place.at("files"), index), self._resolved(text)
            if not file.exists():
                self.add("error", "missing-file", path, "does not exist", _create(file), value=text)
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


def _validated_in_part(values: dict[str, Any]) -> Seed | None:
    """Return the values without those that do not fit; None where too little is left."""
    left = copy.deepcopy(values)
    for _ in range(_ROUNDS):
        try:
            return Seed.model_validate(left)
        except ValidationError as exc:
            for error in exc.errors(include_url=False):
                _remove(left, error["loc"])
    return None


def _remove(data: dict[str, Any], path: KeyPath) -> None:
    """Remove the key at a path, or the nearest one above that is there."""
    around: dict[str | int, Any] | None = None
    key: str | int = ""
    value: Any = data
    for part in path:
        if isinstance(value, dict):
            mapping = cast("dict[str | int, Any]", value)
            if part not in mapping:
                return  # it is missing: there is nothing to remove
            around, key, value = mapping, part, mapping[part]
        elif isinstance(value, list) and isinstance(part, int):
            row = cast("Sequence[Any]", value)
            value = row[part] if part < len(row) else None
        else:
            break
    if around is not None:
        around.pop(key, None)


def _label(module: str, command: Sequence[str]) -> str:
    """Return what to call what runs a member, where the seed has no name for it."""
    label = module.rpartition(".")[2] or Path(next(iter(command), "")).name
    label = NAME_UNSAFE.sub("-", label)[: MAX_CHARS["runtime"]]
    return f"{label}-here" if label == EXTERNAL else label


def _create(file: Path) -> str:
    return f"create {safe(str(file), _MAX_PATH)}, or correct the path"


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
