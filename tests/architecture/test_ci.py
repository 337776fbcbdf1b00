"""CI is `.ci/run` and nothing else: the workflows only name its stages, under the contexts that branch protection requires."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .example import write

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED_CONTEXTS = {
    "ci / unit-tests",
    "ci / lint",
    "ci / build",
    "ci / smoke-install",
    "Secret scan / Scan diff for credential-shaped strings",
}
OTHER_CONTEXTS = {"ci / sdk-floor"}
"""Those that report on a pull request, and that branch protection does not know of yet."""

RUN_LINE = re.compile(r"\.ci/run (?P<stage>[a-z-]+)")
PINNED_ACTION = re.compile(r"https://[^@\s]+@[0-9a-f]{40}")


def ci_run(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [repository / ".ci" / "run", *arguments],
        cwd=repository,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture(scope="module")
def stages(repository: Path) -> set[str]:
    """Return the stages that `.ci/run --help` lists."""
    result = ci_run(repository, "--help")
    assert result.returncode == 0
    return set(re.findall(r"^  ([a-z-]+)  +\S", result.stdout, flags=re.MULTILINE))


def required_contexts(workflows: Path) -> set[str]:
    """Return the contexts of the workflows that run on pull requests."""
    contexts: set[str] = set()
    for path in sorted(workflows.glob("*.y*ml")):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        triggers = workflow[True]  # YAML 1.1 reads the key `on` as a truth value
        if "pull_request" in triggers:
            for key, job in workflow["jobs"].items():
                contexts.add(f"{workflow['name']} / {job.get('name', key)}")
    return contexts


def logic_in(path: Path, stages: set[str]) -> list[str]:
    """Return what a workflow does besides calling an existing stage."""
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    problems: list[str] = []
    for key, trigger in workflow[True].items():
        if set(trigger or {}) & {"paths", "paths-ignore"}:
            problems.append(f"on {key} has a paths filter, so a required context would never report")
    for key, job in workflow["jobs"].items():
        calls = 0
        for step in job["steps"]:
            if "run" in step:
                found = RUN_LINE.fullmatch(step["run"].strip())
                if not found or found["stage"] not in stages:
                    problems.append(f"{key}: `{step['run']}` is not a call of a stage")
                calls += 1
            elif not PINNED_ACTION.fullmatch(step.get("uses", "")):
                problems.append(f"{key}: {step.get('uses')} is not an absolute URL pinned to a commit")
            if set(step) - {"name", "run", "uses", "with"}:
                problems.append(f"{key}: a step has {sorted(set(step) - {'name', 'run', 'uses', 'with'})}")
        if not calls:
            problems.append(f"{key}: runs nothing")
        if set(job) & {"if", "strategy", "continue-on-error"}:
            problems.append(f"{key}: may be skipped or forgiven")
    return problems


def test_the_workflows_report_the_required_contexts_and_those_that_are_known_here(repository: Path) -> None:
    assert required_contexts(repository / ".gitea" / "workflows") == REQUIRED_CONTEXTS | OTHER_CONTEXTS


@pytest.mark.parametrize("name", ["ci.yml", "secret-scan.yml"])
def test_each_required_job_only_calls_a_stage_of_ci_run(name: str, repository: Path, stages: set[str]) -> None:
    assert logic_in(repository / ".gitea" / "workflows" / name, stages) == []


def test_the_job_of_each_ci_context_runs_the_stage_of_that_name(repository: Path) -> None:
    workflow = yaml.safe_load((repository / ".gitea" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    for key, job in workflow["jobs"].items():
        assert [step["run"] for step in job["steps"] if "run" in step] == [f".ci/run {key}"]


@pytest.mark.parametrize(
    ("step", "report"),
    [
        ("run: .ci/run no-such-stage", "is not a call of a stage"),
        ("run: .ci/run lint && rm -rf /", "is not a call of a stage"),
        ("run: |\n          .ci/run lint\n          pytest", "is not a call of a stage"),
        ("uses: actions/checkout@v4", "is not an absolute URL pinned to a commit"),
        ("uses: https://github.com/actions/checkout@v4", "is not an absolute URL pinned to a commit"),
        ("{run: .ci/run lint, if: github.actor == 'bot'}", "a step has ['if']"),
    ],
)
def test_a_workflow_with_logic_is_reported(step: str, report: str, tmp_path: Path, stages: set[str]) -> None:
    text = f"name: ci\non: {{pull_request: }}\njobs:\n  lint:\n    steps:\n      - {step}\n"
    write(tmp_path / "ci.yml", text)
    assert [problem for problem in logic_in(tmp_path / "ci.yml", stages) if report in problem]


def test_a_job_that_may_be_skipped_or_runs_nothing_is_reported(tmp_path: Path, stages: set[str]) -> None:
    write(
        tmp_path / "ci.yml",
        "name: ci\non: {pull_request: {paths: [src]}}\njobs:\n  lint: {if: false, steps: []}\n",
    )
    assert logic_in(tmp_path / "ci.yml", stages) == [
        "on pull_request has a paths filter, so a required context would never report",
        "lint: runs nothing",
        "lint: may be skipped or forgiven",
    ]


def test_a_renamed_job_changes_its_context(tmp_path: Path) -> None:
    write(tmp_path / "ci.yml", "name: ci\non: {pull_request: }\njobs:\n  lint: {name: Linting, steps: []}\n")
    assert required_contexts(tmp_path) == {"ci / Linting"}


def test_ci_run_lists_the_stages_that_it_has(repository: Path, stages: set[str]) -> None:
    source = (repository / ".ci" / "run").read_text(encoding="utf-8")
    assert stages == set(re.findall(r"^stage_([a-z-]+)\(\)", source, flags=re.MULTILINE))
    assert stages == {"lint", "unit-tests", "sdk-floor", "build", "smoke-install", "secret-scan"}


def test_ci_run_refuses_an_unknown_stage_before_it_does_anything(repository: Path) -> None:
    result = ci_run(repository, "lint", "no-such-stage")
    assert result.returncode == 2
    assert "no stage no-such-stage" in result.stderr
    assert result.stdout == ""


def test_ci_run_is_executable(repository: Path) -> None:
    assert os.access(repository / ".ci" / "run", os.X_OK)


@pytest.fixture
def pretend_clone(repository: Path, tmp_path: Path) -> Path:
    """Return a clone with `.ci/run`, and beside it a `uv` that does what `$PRETEND` says instead of its work."""
    clone = tmp_path / "clone"
    write(clone / ".ci" / "run", (repository / ".ci" / "run").read_text(encoding="utf-8"))
    write(
        tmp_path / "bin" / "uv",
        '#!/bin/sh\n[ "$1" = --version ] && echo "uv 0.13.9" && exit\n[ "$1" = sync ] || eval "$PRETEND"\n',
    )
    for path in (clone / ".ci" / "run", tmp_path / "bin" / "uv"):
        path.chmod(0o755)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message", "one"]):
        subprocess.run(["git", *arguments], cwd=clone, check=True, timeout=30)
    return clone


def pretend(clone: Path, does: str, *stages: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / ".ci" / "run", *stages],
        env={"PATH": f"{clone.parent / 'bin'}:{os.environ['PATH']}", "HOME": str(clone.parent), "PRETEND": does},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ci_run_runs_the_stages_in_the_order_given_with_a_heading_each(pretend_clone: Path) -> None:
    result = pretend(pretend_clone, "echo worked", "secret-scan", "unit-tests")
    assert result.returncode == 0, result.stdout + result.stderr
    headings = re.findall(r"^=== (.+?)(?: in \d+ s)?$", result.stdout, flags=re.MULTILINE)
    assert headings == ["secret-scan", "secret-scan: passed", "unit-tests", "unit-tests: passed"]
    assert result.stdout.count("worked") == 3  # unit-tests installs what the tests of MCP clients need first


def test_ci_run_stops_at_the_first_failing_stage_and_names_it(pretend_clone: Path) -> None:
    result = pretend(pretend_clone, "exit 3", "lint", "unit-tests")
    assert result.returncode == 1
    assert "=== lint: FAILED (3)" in result.stdout
    assert "stage lint failed" in result.stderr
    assert "unit-tests" not in result.stdout


def test_ci_run_fails_when_a_stage_leaves_files_behind(pretend_clone: Path) -> None:
    result = pretend(pretend_clone, "touch left-behind", "unit-tests")
    assert result.returncode == 1
    assert "?? left-behind" in result.stdout


def test_ci_run_says_that_it_cannot_tell_when_the_tree_was_not_clean_at_the_start(pretend_clone: Path) -> None:
    write(pretend_clone / "work-in-progress", "")
    result = pretend(pretend_clone, "touch left-behind", "unit-tests")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "The tree was not clean at the start" in result.stdout


def test_ci_run_gives_its_stages_no_input(pretend_clone: Path) -> None:
    assert pretend(pretend_clone, 'test "$CI" = true && ! read -r line', "unit-tests").returncode == 0


def test_the_stage_of_the_oldest_sdk_tests_the_floor_that_the_wheel_promises(repository: Path) -> None:
    tested = re.findall(r"^SDK_FLOOR=(\S+)", (repository / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    manifest = (repository / "packages" / "a2a" / "pyproject.toml").read_text(encoding="utf-8")
    assert tested == re.findall(r"a2a-sdk(?:\[[^]]*\])?>=([0-9.]+)", manifest)
