"""The tool that runs code: run_code."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.files import clean_name, open_files
from molecule_runtime.tools.result import MAX_TEXT_BYTES, ToolResult, as_json, bounded
from molecule_runtime.tools.sandbox.box import LEAST_TIER
from molecule_runtime.tools.sandbox.job import MAX_INPUT_BYTES, InputFile, Job
from molecule_runtime.tools.sandbox.languages import INTERPRETERS
from molecule_runtime.tools.sandbox.workspace_files import save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from molecule_runtime.core.registry.arguments import RunCode
    from molecule_runtime.tools.context import Call, ToolContext
    from molecule_runtime.tools.sandbox.job import Captured, Outcome

MAX_CODE_CHARS: Final = 200_000

MAX_FILES: Final = 20
"""That are collected; as many may be passed in (`files.MAX_FILES`)."""

FOLDER: Final = "run_code"
"""In the agent's folder: what was collected, a folder for each run."""

MARK: Final = "[sandbox_output]"
"""By which a snapshot knows what to leave out (contract `workspace-host.md` 23.2)."""


async def run_code(call: Call[RunCode]) -> ToolResult:
    """Run code in the sandbox of this workspace."""
    call.require("code.run")
    arguments, context = call.arguments, call.context
    context.acting(arguments.source_workspace_id)
    sandbox = context.sandbox
    if sandbox is None:
        raise ToolRefusedError("this process has no sandbox, because the configuration of the workspace cannot be read")
    if context.tier < LEAST_TIER:
        raise ToolRefusedError(
            f"this workspace has tier {context.tier}, and code is run from tier {LEAST_TIER} on (tier in config.yaml)"
        )
    if len(arguments.code) > MAX_CODE_CHARS:
        raise ToolRefusedError(
            f"code: {len(arguments.code)} characters, and a run takes {MAX_CODE_CHARS}; pass data in as files"
        )
    if len(arguments.collect) > MAX_FILES:
        raise ToolRefusedError(
            f"collect: {len(arguments.collect)} files, and a run gives {MAX_FILES}; pack them into one"
        )
    collect = [_collected(name) for name in arguments.collect]
    folder = _folder_for(context) if collect else None
    with ExitStack() as stack:
        inputs = await anyio.to_thread.run_sync(_inputs, context, arguments.files, stack)
        taken = {INTERPRETERS[arguments.language].file, *(file.name for file in inputs)}
        if len(taken) <= len(inputs):
            raise ToolRefusedError(
                f"files: every name must be another, and none {INTERPRETERS[arguments.language].file!r}, which is the code"
            )
        job = Job(
            language=arguments.language, code=arguments.code, limits=sandbox.limits, inputs=inputs, collect=collect
        )
        await call.progress(f"running {arguments.language} code in the sandbox ({sandbox.backend.name})")
        outcome = await sandbox.run(job)
    saved = await anyio.to_thread.run_sync(_saved, folder, outcome) if folder is not None else []
    return _result(arguments.language, sandbox.backend.name, sandbox.limits.seconds, outcome, saved)


def _collected(name: str) -> str:
    if name != clean_name(name):
        raise ToolRefusedError(
            f"collect: {bounded(name, 120)!r} is no plain file name; let the code write {clean_name(name)!r} into the folder it starts in"
        )
    return name


def _folder_for(context: ToolContext) -> Path:
    folder = context.files_root or context.state_dir
    if folder is None:
        raise ToolRefusedError(
            "collect: this process has no folder for files; a person can name one in MOLECULE_FILES_DIR"
        )
    return folder


def _inputs(context: ToolContext, paths: Sequence[str], stack: ExitStack) -> list[InputFile]:
    private = [context.state_dir] if context.state_dir is not None else []
    wanted = [(f"files[{index}]", path, None) for index, path in enumerate(paths)]
    files = open_files(context.files_root, wanted, private=private, stack=stack)
    total = sum(file.size for file in files)
    if total > MAX_INPUT_BYTES:
        raise ToolRefusedError(
            f"files: {total} bytes together, and a run takes {MAX_INPUT_BYTES}; pass in what the code needs"
        )
    return [InputFile(name=file.name, descriptor=file.descriptor, size=file.size) for file in files]


def _saved(folder: Path, outcome: Outcome) -> list[dict[str, Any]]:
    if not outcome.files:
        return []
    run = secrets.token_hex(4)
    try:
        save(folder, (FOLDER, run), outcome.files)
    except OSError as exc:
        raise ToolRefusedError(
            f"the code ran, but its files cannot be saved in {folder}: {exc.strerror or type(exc).__name__}"
        ) from None
    return [
        {"name": name, "path": str(folder / PurePosixPath(FOLDER, run, name)), "size": len(content)}
        for name, content in outcome.files.items()
    ]


def _result(
    language: str, backend: str, seconds: float, outcome: Outcome, saved: Sequence[dict[str, Any]]
) -> ToolResult:
    answer: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        **_shown("stdout", outcome.stdout),
        **_shown("stderr", outcome.stderr),
        "language": language,
        "backend": backend,
        "seconds": round(outcome.seconds, 3),
        "source": MARK,
    }
    answer |= {"image": outcome.image} if outcome.image else {}
    answer |= {"files": saved} if saved else {}
    answer |= {"not_collected": dict(outcome.not_collected)} if outcome.not_collected else {}
    if outcome.ended == "timeout":
        answer["error"] = (
            f"the code did not end within {seconds:g} s and was stopped, with everything it had started; do less at a time"
        )
    elif outcome.ended == "memory":
        answer["error"] = "the code took too much memory and was stopped; work through the data in parts"
    elif outcome.ended == "output":
        answer["error"] = "the code wrote too much and was stopped; print less, or write a file and collect it"
    result = as_json(answer)
    return ToolResult(
        text=result.text,
        structured=result.structured,
        is_error=bool(outcome.ended),
        error_type="timeout" if outcome.ended == "timeout" else "",
    )


def _shown(name: str, stream: Captured) -> dict[str, Any]:
    text = bounded(stream.text, MAX_TEXT_BYTES // 2)
    shown: dict[str, Any] = {name: text}
    if stream.truncated or text != stream.text:
        shown |= {f"{name}_truncated": True, f"{name}_bytes": stream.produced}
    return shown
