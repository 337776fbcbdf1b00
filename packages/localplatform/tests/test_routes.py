"""The table of routes, the README that shows it, and the conformance tests that it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.localplatform import route_reference
from molecule_runtime.localplatform.app import Tree
from molecule_runtime.localplatform.openapi import document
from molecule_runtime.localplatform.routes import ROUTES

if TYPE_CHECKING:
    from molecule_runtime.localplatform.routing import Route

README = Path(__file__).parents[1] / "README.md"
SUITE = Path(__file__).parents[3] / "tests" / "conformance" / "platform"


@cache
def pinned(file: str) -> dict[str, set[str]]:
    """Return the tests of a file of the suite, each with the sections that its marker names."""
    path = SUITE / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    functions = [node for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    return {function.name: sections_of(function) for function in functions if function.name.startswith("test_")}


def sections_of(function: ast.AsyncFunctionDef | ast.FunctionDef) -> set[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.contract":
            return {str(argument.value) for argument in decorator.args if isinstance(argument, ast.Constant)}
    return set()


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_the_conformance_test_of_a_route_is_in_the_suite_and_pins_its_section(route: Route) -> None:
    file, _, test = route.test.partition("::")
    assert test in pinned(file), f"tests/conformance/platform/{route.test} does not exist"
    of_route = set(route.section.split(", "))
    # A test of section 5.4 pins a route of section 5 as well.
    assert any(
        pin == section or pin.startswith(f"{section}.") or section.startswith(f"{pin}.")
        for pin in pinned(file)[test]
        for section in of_route
    ), f"{route.test} pins {pinned(file)[test]}, the route says {of_route}"


def test_no_two_routes_are_the_same_whatever_their_placeholders_are_called() -> None:
    templates = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for route in ROUTES]
    assert len(templates) == len(set(templates)) > 50


def test_two_routes_that_are_the_same_do_not_start() -> None:
    with pytest.raises(ValueError, match="twice"):
        Tree.of([*ROUTES, ROUTES[0]])


def test_every_route_is_described_and_nothing_else_is() -> None:
    described = {(method.upper(), path) for path, item in document()["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_the_readme_shows_the_table_of_routes() -> None:
    assert route_reference.README == README
    assert route_reference.main(["--check"]) == 0, "run: python -m molecule_runtime.localplatform.route_reference"


def test_a_table_that_is_out_of_date_is_found_and_mended(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text(encoding="utf-8").replace("`GET /health`", "`GET /heath`"), encoding="utf-8")
    assert route_reference.main(["--check"], file=copy) == 1
    assert route_reference.main([], file=copy) == 0
    assert route_reference.main(["--check"], file=copy) == 0
