"""The description of the HTTP face: valid in itself, and true of a real server, whatever schemathesis makes up from it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx
import jsonschema
import pytest
from pydantic import BaseModel
from tests.conformance.platform.local import molecule_local

from molecule_runtime.core.errors import InvalidWorkspaceIdError
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.localplatform.openapi import document
from molecule_runtime.localplatform.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = 1
"""Made up at random for each operation, beside some twenty that walk through what its schema allows and forbids."""
RUN_SECONDS = 400
"""Takes under a minute; a machine that does much else at a time needed more than 200 s."""
ENDLESS = "/workspaces/{id}/events/stream"
DESCRIPTION = "/openapi.json"
"""Schemathesis reads it, and does not try it."""

SETTINGS = """
[auth.openapi.bearer]
bearer = "${SCHEMATHESIS_ADMIN}"

# Which methods a path has is asked of every path elsewhere (test_bad_input.py).
[phases.coverage]
unexpected-methods = []

# What a schema cannot say (a cron expression, what may be done in which state) is refused although it fits the schema.
[checks.positive_data_acceptance]
enabled = false

# The proxy passes on any method and any content (contract 5.1), and answers for agents that are busy or gone (5.4).
[[operations]]
include-path = ["/workspaces/{id}/a2a", "/workspaces/{id}/a2a/inbound"]
checks.negative_data_rejection.enabled = false
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 502, 503]

# Where an agent is asked, or a process of this machine is needed.
[[operations]]
include-path = [
  "/registry/discover/{id}", "/workspaces/{id}/chat/uploads", "/workspaces/{id}/chat/download", "/workspaces/{id}/restart",
  "/workspaces/{id}/resume", "/workspaces/{id}/shared-context", "/workspaces/{id}/transcript",
]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 502, 503]
"""


@dataclass(frozen=True)
class Run:
    """What schemathesis did."""

    code: int
    output: str
    report: dict[str, Any]
    answered: dict[tuple[str, str], set[int]]
    """By method and path of a route, the statuses that it answered."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Run:
    """A real process, with some workspaces to find, asked every way that its description allows and forbids."""
    folder = tmp_path_factory.mktemp("schemathesis")
    (folder / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    with molecule_local(folder) as running:
        _seed(running.url, running.admin_token)
        # Nothing else, since it looks through all of its environment for every request.
        environ = {
            "PATH": os.environ["PATH"],
            "SCHEMATHESIS_ADMIN": running.admin_token,
            "COLUMNS": "150",
            # Hypothesis takes seconds to find out which characters there are, and keeps that.
            "HYPOTHESIS_STORAGE_DIRECTORY": str(pytestconfig.rootpath / ".hypothesis"),
        }
        done = subprocess.run(
            [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "--config-file", "settings.toml",
             "run", f"{running.url}{DESCRIPTION}", "--exclude-path", ENDLESS, "--phases", "examples,coverage,fuzzing",
             "--max-examples", str(EXAMPLES),
             "--generation-deterministic", "--continue-on-failure", "--request-timeout", "20", "--no-color",
             "--report", "json,har", "--report-json-path", "report.json", "--report-har-path", "traffic.har"],
            cwd=folder, env=environ,
            capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
        )  # fmt: skip
    output = done.stdout + done.stderr
    if not (folder / "report.json").exists():
        pytest.fail(output)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return Run(done.returncode, output, report, _answered(folder / "traffic.har"))


def _seed(url: str, admin_token: str) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {admin_token}"}, trust_env=False) as http:

        def create(**fields: object) -> str:
            answer = http.post("/workspaces", json={"external": True, "delivery_mode": "poll", **fields})
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

        parent = create(name="parent")
        children = [create(name=name, parent_id=parent) for name in ("left", "right")]
        create(name="hosted", external=False, parent_id=parent)
        for workspace_id in (parent, *children):
            body = {"id": workspace_id, "agent_card": {"name": "x"}, "delivery_mode": "poll"}
            assert http.post("/registry/register", json=body).status_code == 200


def _answered(traffic: Path) -> dict[tuple[str, str], set[int]]:
    statuses: dict[tuple[str, str], set[int]] = {}
    for entry in json.loads(traffic.read_text(encoding="utf-8"))["log"]["entries"]:
        method: str = entry["request"]["method"]
        path = urlsplit(str(entry["request"]["url"])).path
        matching = [route for route in ROUTES if route.method == method and _pattern(route.path).fullmatch(path)]
        if matching:
            # A literal segment wins over a placeholder.
            route = min(matching, key=lambda route: route.path.count("{"))
            statuses.setdefault((method, route.path), set()).add(entry["response"]["status"])
    return statuses


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{\w+}", "[^/]+", path))


@pytest.mark.timeout(RUN_SECONDS + 60)
def test_whatever_is_asked_the_answer_is_one_that_the_description_has(run: Run) -> None:
    assert run.report["failures"] == [], run.output
    assert run.report["errors"] == [], run.output
    assert (run.code, run.report["complete"]) == (0, True), run.output


@pytest.mark.timeout(RUN_SECONDS + 60)
def test_every_operation_was_tried_many_times(run: Run) -> None:
    tried = {(route.method, route.path) for route in ROUTES if route.path not in {ENDLESS, DESCRIPTION}}
    assert tried <= run.answered.keys(), run.output
    assert run.report["operations"]["tested"] == len(tried), run.output
    assert run.report["test_cases"]["generated"] > 10 * len(ROUTES), run.output


@pytest.mark.timeout(RUN_SECONDS + 60)
def test_most_operations_also_did_what_they_are_for(run: Run) -> None:
    done = {route for route, statuses in run.answered.items() if any(status < 300 for status in statuses)}
    assert len(done) > len(ROUTES) / 2, sorted(run.answered.keys() - done)


@pytest.mark.timeout(RUN_SECONDS + 60)
def test_nothing_was_answered_with_an_error_of_the_servers_own(run: Run) -> None:
    assert {route for route, statuses in run.answered.items() if 500 in statuses} == set()


def test_the_description_keeps_the_rules_of_openapi() -> None:
    described = document()
    assert described["openapi"].startswith("3.1.")
    operations = [operation for item in described["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) == len(ROUTES)
    for path, item in described["paths"].items():
        for operation in item.values():
            placed = [name["name"] for name in operation["parameters"] if name["in"] == "path"]
            assert placed == re.findall(r"{(\w+)}", path)
            assert all(status.isdigit() or status == "default" for status in operation["responses"])
            assert operation["responses"]
            assert operation["summary"]


def test_every_schema_of_the_description_is_a_json_schema_whose_references_lead_somewhere() -> None:
    described = document()
    found = list(_schemas(described))
    assert len(found) > len(ROUTES)
    for schema in found:
        jsonschema.Draft202012Validator.check_schema(schema)
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(described)))
    assert references
    assert references <= {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}


def _schemas(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        for key, value in cast("dict[str, Any]", node).items():
            if key == "schema":
                yield value
            elif key == "schemas":
                yield from value.values()
            yield from _schemas(value)
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from _schemas(value)


def _is_model(shape: object) -> bool:
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def test_two_shapes_with_one_name_are_the_same_shape() -> None:
    shapes: list[Any] = [shape for route in ROUTES for shape in (route.body, *route.answers.values())]
    names = [model.__name__ for model in {shape for shape in shapes if _is_model(shape)}]
    assert len(names) > 20
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    "value", ["a", "0", "agent-1", "a" * 128, "", "-a", "A", "a_b", "a" * 129, "a/b", "a\n", "é", "a "]
)
def test_the_pattern_of_an_id_in_a_path_is_the_rule_that_the_server_keeps(value: str) -> None:
    operation = document()["paths"]["/workspaces/{id}"]["get"]
    pattern = operation["parameters"][0]["schema"]["pattern"]
    try:
        kept = validate_workspace_id(value) == value
    except InvalidWorkspaceIdError:
        kept = False
    # In the dialect of JSON Schema `$` is the very end.
    assert bool(re.fullmatch(pattern.strip("^$"), value)) is kept


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if isinstance(route.body, type)],
    ids=lambda route: f"{route.method} {route.path}",
)
def test_null_is_as_good_as_nothing_for_what_a_body_need_not_have(route: Any) -> None:
    schemas: dict[str, Any] = document()["components"]["schemas"]
    # A body that takes any object has no schema of its own.
    schema: dict[str, Any] = schemas.get(route.body.__name__, {})
    for name, shape in schema.get("properties", {}).items():
        if name not in schema.get("required", ()):
            jsonschema.validate(None, {**shape, "components": {"schemas": schemas}})
