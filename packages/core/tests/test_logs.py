"""What the log of a process may carry out."""

import io
import json
import logging
import sys
from typing import Any

import anyio
import pytest

from molecule_runtime.core import logs
from molecule_runtime.core.errors import ConfigurationError

SECRET = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7dE9f"  # noqa: S105 - made up
pytestmark = pytest.mark.usefixtures("root_logger")
logger = logging.getLogger("molecule_runtime.test_logs")


@pytest.fixture(params=["text", "json"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def configured(style: str = "text", **more: Any) -> io.StringIO:
    stream = io.StringIO()
    logs.configure({"LOG_FORMAT": style, "LOG_LEVEL": "DEBUG"}, stream=stream, **more)
    return stream


class SecretError(Exception):
    """An error whose text holds a secret."""


class Named:
    def __repr__(self) -> str:
        return f"Named({SECRET})"

    __str__ = __repr__


def fail_with_a_secret() -> None:
    raise SecretError(f"refused {SECRET}")


def test_a_secret_in_message_or_arguments_never_reaches_the_stream(style: str) -> None:
    stream = configured(style)
    logger.warning(f"in the message {SECRET}")  # noqa: G004 - the case under test
    logger.warning("as an argument %s", SECRET)
    logger.warning("in a mapping %(token)s", {"token": SECRET})
    logger.warning("as an object %s %r", Named(), Named())
    logging.getLogger("someone.elses").warning("Authorization: Bearer %s", SECRET)
    assert SECRET not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 5
    assert stream.getvalue().count("[REDACTED:") == 6


def test_a_secret_in_an_exception_or_a_stack_never_reaches_the_stream(style: str) -> None:
    stream = configured(style)
    try:
        fail_with_a_secret()
    except SecretError as exc:
        logger.exception("failed")
        try:
            raise RuntimeError("while handling") from exc
        except RuntimeError:
            logger.exception("failed again", stack_info=True)
    logger.warning(
        "whose line of code holds one", stack_info=True
    )  # Bearer abcdefgh12345678 secret-scan: allow, made up
    assert "abcdefgh12345678" not in stream.getvalue()
    written = stream.getvalue()
    assert SECRET not in written
    assert "Traceback" in written
    assert "fail_with_a_secret" in written
    assert "Stack (most recent call last)" in written


def test_a_line_that_cannot_be_formatted_is_lost_without_its_contents(
    style: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = configured(style)
    logger.warning("%d of them", SECRET)  # noqa: PLE1205, RUF100 - the case under test
    logger.warning(f"%s %s {SECRET}", SECRET)  # noqa: G004
    logger.warning("still logging")
    captured = capfd.readouterr()
    assert SECRET not in stream.getvalue() + captured.out + captured.err
    assert stream.getvalue().count("was lost") == 2
    assert "test_logs.py" in stream.getvalue()
    assert "still logging" in stream.getvalue()


class BrokenStream(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_a_stream_that_is_gone_raises_nothing(style: str, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure({"LOG_FORMAT": style}, stream=BrokenStream())
    logger.warning("token %s", SECRET)
    assert SECRET not in capfd.readouterr().err


def test_text_lines_carry_prefix_time_level_and_logger() -> None:
    stream = configured(prefix="[molecule-mcp] ")
    logger.info("hello %s", "world")
    prefix, time, rest = stream.getvalue().split(" ", 2)
    assert prefix == "[molecule-mcp]"
    assert time.count(":") == 2
    assert rest == "INFO molecule_runtime.test_logs: hello world\n"


def test_a_json_line_is_one_object_whatever_it_says() -> None:
    stream = configured("json")
    logger.info('two\nlines \ud800 "quoted" 日本語')
    [line] = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("time")
    assert record == {
        "level": "INFO",
        "logger": "molecule_runtime.test_logs",
        "message": 'two\nlines \ud800 "quoted" 日本語',
    }
    assert line.isascii()


def test_the_log_goes_to_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure({})
    logger.info("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_configuring_again_replaces_the_handler(root_logger: logging.Logger) -> None:
    first, second = configured(), configured()
    logger.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert len(root_logger.handlers) == 1


def test_the_level_comes_from_the_environment_then_from_the_caller(root_logger: logging.Logger) -> None:
    logs.configure({"LOG_LEVEL": " error "}, default_level="DEBUG", stream=sys.stderr)
    assert root_logger.level == logging.ERROR
    logs.configure({"LOG_LEVEL": " "}, default_level="warning", stream=sys.stderr)
    assert root_logger.level == logging.WARNING
    logs.configure({}, stream=sys.stderr)
    assert root_logger.level == logging.INFO


def test_libraries_that_log_each_request_are_quiet_even_at_debug() -> None:
    stream = configured()
    for name in ("httpx", "httpcore", "httpcore.http11", "mcp", "uvicorn.access"):
        logging.getLogger(name).info("one more request")
        logging.getLogger(name).warning("trouble in %s", name)
    assert "one more request" not in stream.getvalue()
    assert stream.getvalue().count("trouble in") == 5


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        ({"LOG_LEVEL": "10"}, "LOG_LEVEL"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT"),
    ],
)
def test_a_value_that_does_not_exist_is_an_error_and_changes_nothing(
    environ: dict[str, str], named: str, root_logger: logging.Logger
) -> None:
    before = list(root_logger.handlers)
    with pytest.raises(ConfigurationError, match=named):
        logs.configure(environ)
    assert root_logger.handlers == before


def test_what_is_bound_stands_on_every_line_below_and_on_none_after(style: str) -> None:
    stream = configured(style)
    with logs.bind(workspace_id="ws-1"):
        logger.warning("outer")
        with logs.bind(task_id="t-7"):
            logging.getLogger("someone.elses").warning("inner")
    logger.warning("after")
    outer, inner, after = stream.getvalue().splitlines()
    if style == "json":
        assert json.loads(outer)["workspace_id"] == "ws-1"
        assert (json.loads(inner)["workspace_id"], json.loads(inner)["task_id"]) == ("ws-1", "t-7")
        assert "workspace_id" not in json.loads(after)
    else:
        assert "[workspace_id=ws-1]: outer" in outer
        assert "someone.elses [workspace_id=ws-1 task_id=t-7]: inner" in inner
        assert "[" not in after
    assert logs.bound() == {}


@pytest.mark.anyio
async def test_what_is_bound_in_one_task_stays_out_of_another(style: str) -> None:
    stream = configured(style)
    both = anyio.Event()
    first = anyio.Event()

    async def one() -> None:
        with logs.bind(workspace_id="ws-1"):
            first.set()
            await both.wait()
            logger.warning("one")

    async def two() -> None:
        await first.wait()
        with logs.bind(workspace_id="ws-2"):
            logger.warning("two")
        both.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(two)
    two_line, one_line = stream.getvalue().splitlines()
    assert "ws-2" in two_line
    assert "ws-1" not in two_line
    assert "ws-1" in one_line
    assert "ws-2" not in one_line


def test_a_secret_that_is_bound_never_reaches_the_stream(style: str) -> None:
    stream = configured(style)
    with logs.bind(task_id=SECRET):
        logger.warning("hello")
    assert SECRET not in stream.getvalue()
