"""The backend `e2b`: a fresh machine in E2B's cloud per run, always ended. It needs the extra `[e2b]` and a key."""

from __future__ import annotations

import importlib
import shlex
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

import anyio
import anyio.to_thread

from molecule_runtime.core import env
from molecule_runtime.core.errors import MissingFeatureError
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.sandbox.job import MAX_INPUT_BYTES, Outcome, SandboxUnavailableError
from molecule_runtime.tools.sandbox.languages import INTERPRETERS
from molecule_runtime.tools.sandbox.running import Output, Stream
from molecule_runtime.tools.sandbox.workspace_files import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from molecule_runtime.tools.sandbox.job import Job

FOLDER: Final = "/home/user/work"

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_SPARE_SECONDS: Final = 120
"""The cloud ends a machine so long after its run, should this process not live to do it."""


class CloudBackend:
    """Runs code in E2B's cloud.

    Args:
        environ: where the key is (`E2B_API_KEY`); the environment of the process unless given.
    """

    name: ClassVar[str] = "e2b"

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ

    async def run(self, job: Job) -> Outcome:
        """Run code; see `Backend.run`. Limits of memory and processes are those of the machine there.

        Raises:
            MissingFeatureError: the extra is not installed.
            SandboxUnavailableError: there is no key, or the cloud gave no machine.
        """
        if job.collect:
            raise ToolRefusedError("collect: the backend e2b gives no files back; let the code print what you need")
        sdk = _sdk()
        key = env.E2B_API_KEY.get(self._environ)
        if not key:
            raise SandboxUnavailableError(
                f"sandbox.backend is e2b, and there is no key for it: set {env.E2B_API_KEY.name}, or another backend in config.yaml"
            )
        contents = await anyio.to_thread.run_sync(_contents, job)
        machine: Any = None
        try:
            with anyio.fail_after(_START_SECONDS):
                lifetime = int(job.limits.seconds) + _SPARE_SECONDS
                machine = await sdk.AsyncSandbox.create(
                    timeout=lifetime, allow_internet_access=job.limits.network, api_key=key
                )
                for name, content in contents.items():
                    await machine.files.write(f"{FOLDER}/{name}", content)
            return await _run(sdk, machine, job)
        except (sdk.SandboxException, sdk.AuthenticationException, TimeoutError) as exc:
            text = redact_text(str(exc)) or type(exc).__name__
            raise SandboxUnavailableError(f"the cloud of E2B could not run the code: {text}") from None
        finally:
            if machine is not None:
                with anyio.move_on_after(_STOP_SECONDS, shield=True):
                    await machine.kill()


async def _run(sdk: Any, machine: Any, job: Job) -> Outcome:
    known, output = INTERPRETERS[job.language], Output()
    command = shlex.join([known.command, *known.options, known.file])
    started, code = time.monotonic(), None
    with anyio.move_on_after(job.limits.seconds) as deadline:

        def take_into(stream: Stream) -> Callable[[str], None]:
            def take(text: str) -> None:
                stream.take(text.encode())
                if output.flooded:
                    deadline.cancel()

            return take

        handle = await machine.commands.run(
            command,
            background=True,
            cwd=FOLDER,
            timeout=0,
            on_stdout=take_into(output.stdout),
            on_stderr=take_into(output.stderr),
            retain_output=False,
        )
        try:
            code = int((await handle.wait()).exit_code)
        except sdk.CommandExitException as exc:
            code = int(exc.exit_code)
    return Outcome(
        exit_code=-1 if code is None else code,
        stdout=output.stdout.captured(),
        stderr=output.stderr.captured(),
        seconds=time.monotonic() - started,
        ended="" if code is not None else "output" if output.flooded else "timeout",
    )


def _sdk() -> Any:
    try:
        return importlib.import_module("e2b")
    except ImportError:
        raise MissingFeatureError("the backend e2b of run_code", distribution="'molecule-runtime-tools[e2b]'") from None


def _contents(job: Job) -> dict[str, bytes]:
    contents = {INTERPRETERS[job.language].file: job.code.encode()}
    return contents | {file.name: read_all(file.descriptor, MAX_INPUT_BYTES) or b"" for file in job.inputs}
