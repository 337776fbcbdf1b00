"""The architecture rules: each takes a workspace and returns one line for every violation.

Rules read files only; they import nothing of the project. `test_workspace.py` applies them to this repository and
`test_rules_fire.py` to small workspaces with an injected fault, so that no rule can pass because it looks at nothing.
"""

from __future__ import annotations

import ast
import gc
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .layout import ENVIRONMENT_READERS, FORBIDDEN_NAMES, MEMBERS, NAMESPACE, UNIMPORTED_DEPENDENCIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IGNORED_FOLDERS = frozenset({"__pycache__", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache"})
REQUIRED_FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
REQUIRED_FOLDERS = ("changes", "tests", f"src/{NAMESPACE}")


class NothingToCheckError(AssertionError):
    """A rule found nothing to look at: its glob or its path is wrong."""


@dataclass(frozen=True)
class Module:
    """One source file of a member."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        """Return what it says, read once and when a rule wants it."""
        return _parsed(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One folder under `packages/`."""

    folder: Path
    pyproject: dict[str, Any]
    modules: list[Module] = field(default_factory=list[Module])

    @property
    def name(self) -> str:
        """Return the folder name, by which the rules know the member."""
        return self.folder.name

    @property
    def project(self) -> dict[str, Any]:
        """Return the `[project]` table."""
        table: dict[str, Any] = self.pyproject.get("project", {})
        return table

    @property
    def namespace(self) -> Path:
        """Return the member's part of the namespace folder."""
        return self.folder / "src" / NAMESPACE

    @property
    def wheel_names(self) -> list[str]:
        """Return the paths in the wheel table, relative to the namespace folder."""
        table = _target(self, "wheel").get("only-include", [])
        return [str(entry).removeprefix(f"src/{NAMESPACE}/") for entry in table]

    @property
    def owned_names(self) -> list[str]:
        """Return the file and folder names that the member should have in the namespace."""
        expected = MEMBERS.get(self.name)
        if expected is not None and expected.portions is not None:
            return list(expected.portions)
        return self.wheel_names

    def requirements(self) -> list[Requirement]:
        """Return the parsed `[project] dependencies`."""
        return [Requirement(line) for line in self.project.get("dependencies", [])]

    def all_requirements(self) -> list[Requirement]:
        """Return the dependencies including those of extras."""
        extras: dict[str, list[str]] = self.project.get("optional-dependencies", {})
        return self.requirements() + [Requirement(line) for lines in extras.values() for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The repository as the rules see it."""

    root: Path
    pyproject: dict[str, Any]
    members: dict[str, Member]


def load(root: Path) -> Workspace:
    """Read the workspace at `root`.

    Raises:
        NothingToCheckError: there is no member, or no source file in any member.
    """
    folders = sorted(path.parent for path in root.glob("packages/*/pyproject.toml"))
    # A folder without pyproject.toml is a half-made member; `members_are_the_expected_ones` reports it.
    members = {folder.name: _load_member(folder) for folder in folders}
    if not members:
        raise NothingToCheckError(f"no packages/*/pyproject.toml under {root}")
    if not any(member.modules for member in members.values()):
        raise NothingToCheckError(f"no module in any packages/*/src under {root}")
    return Workspace(root=root, pyproject=_toml(root / "pyproject.toml"), members=members)


def _load_member(folder: Path) -> Member:
    source = folder / "src"
    modules: list[Module] = []
    for path in sorted(source.rglob("*.py")):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        modules.append(Module(".".join(parts), path))
    return Member(folder=folder, pyproject=_toml(folder / "pyproject.toml"), modules=modules)


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _target(member: Member, target: str) -> dict[str, Any]:
    hatch = member.pyproject.get("tool", {}).get("hatch", {})
    table: dict[str, Any] = hatch.get("build", {}).get("targets", {}).get(target, {})
    return table


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.name not in IGNORED_FOLDERS) if folder.is_dir() else []


# --- members and files -------------------------------------------------------------------------------------------------


def members_are_the_expected_ones(workspace: Workspace) -> Iterator[str]:
    """The folders under `packages/` are exactly the members of the layout."""
    folders = {entry.name for entry in _entries(workspace.root / "packages") if entry.is_dir()}
    yield from (f"packages/{name} is not in the layout" for name in sorted(folders - set(MEMBERS)))
    yield from (f"packages/{name} is missing" for name in sorted(set(MEMBERS) - folders))
    yield from (f"packages/{name} has no pyproject.toml" for name in sorted(folders - set(workspace.members)))


def members_have_the_standard_files(workspace: Workspace) -> Iterator[str]:
    """Every member has its files and folders, and the root's license word for word."""
    license_text = (workspace.root / "LICENSE").read_bytes()
    for member in workspace.members.values():
        for name in REQUIRED_FILES:
            if not (member.folder / name).is_file():
                yield f"{member.name}: {name} is missing"
        for name in REQUIRED_FOLDERS:
            if not (member.folder / name).is_dir():
                yield f"{member.name}: {name}/ is missing"
        own = member.folder / "LICENSE"
        if own.is_file() and own.read_bytes() != license_text:
            yield f"{member.name}: LICENSE differs from the root's"


def root_is_a_workspace_and_not_a_package(workspace: Workspace) -> Iterator[str]:
    """The root has no `[project]`, and its tables list every member."""
    root = workspace.pyproject
    tool = root.get("tool", {})
    if "project" in root:
        yield "the root pyproject.toml has a [project] table: plain `uv sync` would then install no member"
    uv = tool.get("uv", {})
    if uv.get("workspace", {}).get("members") != ["packages/*"]:
        yield '[tool.uv.workspace] members is not ["packages/*"]'
    sources = {expected.dist: {"workspace": True} for expected in MEMBERS.values()}
    if uv.get("sources") != sources:
        yield "[tool.uv.sources] does not name exactly the members, each with workspace = true"
    mypy_path = {f"$MYPY_CONFIG_FILE_DIR/packages/{name}/src" for name in MEMBERS}
    if set(tool.get("mypy", {}).get("mypy_path", [])) != mypy_path:
        yield "[tool.mypy] mypy_path does not list exactly the members"
    namespaces = {f"packages/{name}/src/{NAMESPACE}" for name in MEMBERS}
    if set(tool.get("ruff", {}).get("namespace-packages", [])) != namespaces:
        yield "[tool.ruff] namespace-packages does not list exactly the members"


def tests_are_not_packages(workspace: Workspace) -> Iterator[str]:
    """No `__init__.py` in a tests folder: `tests/mcp/__init__.py` would shadow the SDK of that name."""
    folders = [workspace.root / "tests", *(member.folder / "tests" for member in workspace.members.values())]
    for folder in folders:
        for path in sorted(folder.rglob("__init__.py")):
            yield f"{path.relative_to(workspace.root)} makes a tests folder a package"


# --- namespace and wheels ----------------------------------------------------------------------------------------------


def namespace_holds_only_what_the_member_owns(workspace: Workspace) -> Iterator[str]:
    """A member has its own portions in the namespace folder, all of them, and nothing else."""
    for member in workspace.members.values():
        found = {entry.name for entry in _entries(member.namespace)}
        owned = set(member.owned_names)
        yield from (f"{member.name}: {NAMESPACE}/{name} is not its to ship" for name in sorted(found - owned))
        yield from (f"{member.name}: {NAMESPACE}/{name} is missing" for name in sorted(owned - found))
        beside = {entry.name for entry in _entries(member.folder / "src")} - {NAMESPACE}
        yield from (f"{member.name}: src/{name} is outside the namespace" for name in sorted(beside))
        for name in ("__init__.py", "py.typed"):
            if name in owned:
                yield f"{member.name}: the wheel table ships {NAMESPACE}/{name}, which ends the implicit namespace"


def portions_are_typed_packages(workspace: Workspace) -> Iterator[str]:
    """Each portion that is a folder has `__init__.py` and `py.typed`."""
    for member in workspace.members.values():
        for name in member.owned_names:
            if name.endswith(".py"):
                continue
            for needed in ("__init__.py", "py.typed"):
                if not (member.namespace / name / needed).is_file():
                    yield f"{member.name}: {NAMESPACE}/{name}/{needed} is missing"


def names_have_one_owner(workspace: Workspace) -> Iterator[str]:
    """No name of the namespace is shipped or claimed by two members."""
    owners: dict[str, set[str]] = {}
    for member in workspace.members.values():
        found = [entry.name for entry in _entries(member.namespace)]
        for name in [*member.owned_names, *found]:
            owners.setdefault(name.removesuffix(".py"), set()).add(member.name)
    for name, claimants in sorted(owners.items()):
        if len(claimants) > 1:
            yield f"{NAMESPACE}.{name} has {len(claimants)} owners: {', '.join(sorted(claimants))}"


def build_tables_are_exact(workspace: Workspace) -> Iterator[str]:
    """The build backend and both hatch targets are the verified ones and differ only in the portions."""
    for member in workspace.members.values():
        system = {"requires": ["hatchling>=1.27"], "build-backend": "hatchling.build"}
        if member.pyproject.get("build-system") != system:
            yield f"{member.name}: [build-system] is not the standard one"
        names = [f"src/{NAMESPACE}/{name}" for name in member.owned_names]
        wheel = {"only-include": names, "sources": ["src"], "core-metadata-version": "2.4"}
        if _target(member, "wheel") != wheel:
            yield f"{member.name}: [tool.hatch.build.targets.wheel] is not {wheel}"
        sdist = {"only-include": [*names, "tests", "CHANGELOG.md", "README.md"], "core-metadata-version": "2.4"}
        if _target(member, "sdist") != sdist:
            yield f"{member.name}: [tool.hatch.build.targets.sdist] is not {sdist}"
        if set(member.pyproject.get("tool", {})) - {"hatch"}:
            yield f"{member.name}: settings of tools belong to the root pyproject.toml"


def project_tables_agree(workspace: Workspace) -> Iterator[str]:
    """Distribution names, commands and the common metadata are those of the layout."""
    common: dict[str, object] = {
        "readme": "README.md",
        "license": "Apache-2.0",
        "license-files": ["LICENSE"],
        "requires-python": ">=3.11",
    }
    for member in workspace.members.values():
        expected = MEMBERS.get(member.name)
        if expected is None:
            continue
        if member.project.get("name") != expected.dist:
            yield f"{member.name}: the distribution is {member.project.get('name')!r}, not {expected.dist!r}"
        scripts: dict[str, str] = member.project.get("scripts", {})
        missing = expected.scripts - set(scripts)
        extra = set(scripts) - expected.scripts - expected.optional_scripts
        yield from (f"{member.name}: the command {name} is missing" for name in sorted(missing))
        yield from (f"{member.name}: the command {name} is not in the layout" for name in sorted(extra))
        for name, target in scripts.items():
            if name in expected.optional_scripts:
                yield from _repeated_script(workspace, member, name, target)
            else:
                yield from _script_target(member, name, target)
        for key, value in common.items():
            if member.project.get(key) != value:
                yield f"{member.name}: [project] {key} is {member.project.get(key)!r}, not {value!r}"
        if "Typing :: Typed" not in member.project.get("classifiers", []):
            yield f"{member.name}: the classifier 'Typing :: Typed' is missing"


def _repeated_script(workspace: Workspace, member: Member, name: str, target: str) -> Iterator[str]:
    """A command that another member owns: pipx exposes only those of the package that it is asked for."""
    owners = [
        other
        for other in workspace.members.values()
        if name in (MEMBERS[other.name].scripts if other.name in MEMBERS else ())
    ]
    owned: set[object] = {owner.project.get("scripts", {}).get(name) for owner in owners}
    if owned != {target}:
        yield f"{member.name}: the command {name} points at {target}, its owner's at {', '.join(map(str, owned)) or 'nothing'}"


def _script_target(member: Member, name: str, target: str) -> Iterator[str]:
    module, _, function = target.partition(":")
    own = [other for other in member.modules if other.name == module]
    if not own:
        yield f"{member.name}: the command {name} points at {module}, which is not a module of this member"
    elif function not in _bound_names(own[0].tree):
        yield f"{member.name}: the command {name} points at {target}, but {module} has no {function}"


def _bound_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


# --- dependencies ------------------------------------------------------------------------------------------------------


def sibling_requirements_fit_the_workspace(workspace: Workspace) -> Iterator[str]:
    """A sibling requirement has a floor and a cap and accepts the version in the workspace; uv checks none of that."""
    by_dist = {expected.dist: name for name, expected in MEMBERS.items()}
    for member in workspace.members.values():
        for requirement in member.all_requirements():
            sibling = workspace.members.get(by_dist.get(canonicalize_name(requirement.name), ""))
            if sibling is None:
                continue
            operators = {specifier.operator for specifier in requirement.specifier}
            version = str(sibling.project.get("version", ""))
            if ">=" not in operators:
                yield f"{member.name}: {requirement} has no floor"
            if "<" not in operators:
                yield f"{member.name}: {requirement} has no cap"
            if operators & {"==", "===", "~="}:
                yield f"{member.name}: {requirement} is pinned; siblings take a range"
            if not requirement.specifier.contains(version, prereleases=True):
                yield f"{member.name}: {requirement} refuses the workspace version {version}"


def sibling_dependencies_follow_the_layers(workspace: Workspace) -> Iterator[str]:
    """The siblings that a member declares are those of the layout, no more and no fewer."""
    by_dist = {expected.dist: name for name, expected in MEMBERS.items()}
    for member in workspace.members.values():
        expected = MEMBERS.get(member.name)
        if expected is None:
            continue
        names = {canonicalize_name(requirement.name) for requirement in member.requirements()}
        declared = {by_dist[name] for name in names if name in by_dist}
        yield from (f"{member.name}: may not depend on {name}" for name in sorted(declared - expected.siblings))
        yield from (f"{member.name}: must depend on {name}" for name in sorted(expected.siblings - declared))


def imports_are_declared(workspace: Workspace) -> Iterator[str]:
    """Every import in `src` is of the standard library, the member itself, or a declared dependency (never an extra)."""
    owners = _namespace_owners(workspace)
    for member in workspace.members.values():
        declared = {canonicalize_name(requirement.name) for requirement in member.requirements()}
        for module in member.modules:
            for line, name in _imports(module.tree):
                place = f"{module.path.relative_to(workspace.root)}:{line}"
                candidates = _distributions_of(name, owners)
                if candidates is None:
                    yield f"{place}: import of {name}, which no installed distribution and no member provides"
                elif candidates and not candidates & (declared | {_dist(member)}):
                    yield f"{place}: {name} is imported but {' or '.join(sorted(candidates))} is not a dependency"


def dependencies_are_imported(workspace: Workspace) -> Iterator[str]:
    """Every declared dependency is imported, or listed with a reason; an excuse without a dependency is reported too."""
    owners = _namespace_owners(workspace)
    for member in workspace.members.values():
        used: set[str] = set()
        for module in member.modules:
            for _line, name in _imports(module.tree):
                used |= _distributions_of(name, owners) or set()
        for requirement in member.requirements():
            dist = canonicalize_name(requirement.name)
            if dist not in used and (member.name, dist) not in UNIMPORTED_DEPENDENCIES:
                yield f"{member.name}: depends on {dist} but imports nothing of it"
    for name, excused in UNIMPORTED_DEPENDENCIES:
        if name in workspace.members:
            declared = {canonicalize_name(requirement.name) for requirement in workspace.members[name].requirements()}
            if excused not in declared:
                yield f"the layout excuses {name} from importing {excused}, on which it does not depend"


def _dist(member: Member) -> str:
    return canonicalize_name(str(member.project.get("name", "")))


def _namespace_owners(workspace: Workspace) -> dict[str, str]:
    """Map each name of the namespace to the distribution that ships it."""
    return {
        name.removesuffix(".py"): _dist(member)
        for member in workspace.members.values()
        for name in (*member.owned_names, *(entry.name for entry in _entries(member.namespace)))
    }


def _parsed(path: Path) -> ast.Module:
    # The collector would look through the trees that are kept again and again: two thirds of the time.
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    finally:
        gc.enable()


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield every statement below a node, however deep; nine of ten nodes are parts of expressions."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        children: list[ast.AST] | ast.AST = getattr(node, name, [])
        for child in children if isinstance(children, list) else ():
            if isinstance(child, ast.stmt):
                yield child
            yield from _statements(child)


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every absolute import, wherever it stands; `TYPE_CHECKING` blocks count."""
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _distributions_of(name: str, owners: dict[str, str]) -> set[str] | None:
    """Return who provides a dotted name: nobody in particular (standard library), distributions, or None when unknown."""
    top, _, rest = name.partition(".")
    if top == NAMESPACE:
        owner = owners.get(rest.partition(".")[0])
        return {owner} if owner else None
    if top in sys.stdlib_module_names:
        return set()
    return _installed().get(top)


@cache
def _installed() -> dict[str, set[str]]:
    return {
        top: {canonicalize_name(dist) for dist in dists} for top, dists in metadata.packages_distributions().items()
    }


# --- source ------------------------------------------------------------------------------------------------------------


def private_names_stay_at_home(workspace: Workspace) -> Iterator[str]:
    """A member, its tests included, imports only public modules and names of the other members."""
    owners = _namespace_owners(workspace)
    for member in workspace.members.values():
        tests = sorted((member.folder / "tests").rglob("*.py"))
        trees = [(module.path, module.tree) for module in member.modules]
        trees += [(path, _parsed(path)) for path in tests]
        for path, tree in trees:
            for line, name in _imports(tree):
                parts = name.split(".")
                if parts[0] != NAMESPACE or owners.get(".".join(parts[1:2])) == _dist(member):
                    continue
                if any(part.startswith("_") and not part.startswith("__") for part in parts):
                    yield f"{path.relative_to(workspace.root)}:{line}: {name} is private to another member"


def imports_are_absolute(workspace: Workspace) -> Iterator[str]:
    """Source imports absolutely, and never the bare namespace, which has no module."""
    for member in workspace.members.values():
        for module in member.modules:
            place = module.path.relative_to(workspace.root)
            for node in _statements(module.tree):
                if isinstance(node, ast.ImportFrom) and node.level:
                    yield f"{place}:{node.lineno}: relative import"
                elif isinstance(node, ast.Import) and any(alias.name == NAMESPACE for alias in node.names):
                    yield f"{place}:{node.lineno}: bare import of {NAMESPACE}"


def environment_is_read_in_one_place(workspace: Workspace) -> Iterator[str]:
    """Only the modules of the allow-list touch `os.environ`; every entry of the list must still match a module."""
    unused = set(ENVIRONMENT_READERS)
    for member in workspace.members.values():
        for module in member.modules:
            allowed = {pattern for pattern in ENVIRONMENT_READERS if _matches(module.name, pattern)}
            unused -= allowed
            if not allowed:
                place = module.path.relative_to(workspace.root)
                yield from (f"{place}:{line}: reads the environment" for line in _environment_reads(module.tree))
    yield from (f"the allow-list names {pattern}, which matches no module" for pattern in sorted(unused))


def _matches(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*") else name == pattern


def _environment_reads(tree: ast.Module) -> Iterator[int]:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    aliases: set[str] = set()
    for statement in _statements(tree):
        if isinstance(statement, ast.Import):
            aliases |= {alias.asname or alias.name for alias in statement.names if alias.name in {"os", "posix"}}
        elif isinstance(statement, ast.ImportFrom) and statement.module in {"os", "posix"}:
            yield from (statement.lineno for alias in statement.names if alias.name in names)
    for node in ast.walk(tree) if aliases else ():
        if isinstance(node, ast.Attribute) and node.attr in names:
            target = node.value
            if isinstance(target, ast.Name) and target.id in aliases:
                yield node.lineno


def modules_say_what_they_are(workspace: Workspace) -> Iterator[str]:
    """No `utils.py`, no `helpers/`, in source or scripts."""
    scripts = workspace.root / ".gitea" / "scripts"
    for folder in [scripts, *(member.folder / "src" for member in workspace.members.values())]:
        for path in sorted(folder.rglob("*")):
            if path.stem.strip("_") in FORBIDDEN_NAMES and (path.suffix == ".py" or path.is_dir()):
                yield f"{path.relative_to(workspace.root)}: the name does not say what is inside"


RULES: dict[str, Callable[[Workspace], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        members_are_the_expected_ones,
        members_have_the_standard_files,
        root_is_a_workspace_and_not_a_package,
        tests_are_not_packages,
        namespace_holds_only_what_the_member_owns,
        portions_are_typed_packages,
        names_have_one_owner,
        build_tables_are_exact,
        project_tables_agree,
        sibling_requirements_fit_the_workspace,
        sibling_dependencies_follow_the_layers,
        imports_are_declared,
        dependencies_are_imported,
        private_names_stay_at_home,
        imports_are_absolute,
        environment_is_read_in_one_place,
        modules_say_what_they_are,
    )
}
