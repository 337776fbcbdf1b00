"""The format of a seed, the YAML file that describes a team: every key, its type and its meaning, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, WrapValidator, model_validator

from molecule_runtime.core.config import WorkspaceConfig
from molecule_runtime.core.config.blocks import Block
from molecule_runtime.core.config.values import Count, ScalarOr, Text, Texts, VariableName

if TYPE_CHECKING:
    ConfigDict = dict[str, Any]
else:
    # Checked as a config.yaml and kept as it came: it is written into one.
    ConfigDict = Annotated[
        WorkspaceConfig,
        WrapValidator(lambda value, check: (check(value), dict(value))[1]),
        WithJsonSchema({"type": "object"}),
    ]

Policy = Literal["always", "on-failure", "never"]

_REFERENCE_RULE = "must be text, $NAME for a variable of molecule-local's own environment, or {from_env: NAME}"


def _reference(value: object) -> object:
    """Read `$NAME` as a reference and `$$` as a dollar sign; anything else in front of which a dollar stands is a slip."""
    if isinstance(value, Mapping):
        return cast("object", value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(_REFERENCE_RULE)  # noqa: TRY004 - pydantic makes a finding of it
    if value.startswith("$$"):
        return {"value": value[1:]}
    if not value.startswith("$"):
        return {"value": value}
    name = value[1:].removeprefix("{").removesuffix("}") if value.startswith("${") else value[1:]
    if not name.isidentifier() or not name.isascii():
        raise ValueError("begins with $ but is not the name of one variable; write $$ for a dollar sign")
    return {"from_env": name}


class Variable(Block):
    """One environment variable of a member: a value, or the name of a variable in molecule-local's own environment."""

    value: Text = Field(default="", repr=False)
    """The value."""
    from_env: VariableName = ""
    """The variable of molecule-local's own environment that holds the value."""

    @model_validator(mode="after")
    def _one_source(self) -> Variable:
        if bool(self.from_env) == ("value" in self.model_fields_set):
            raise ValueError(_REFERENCE_RULE)
        return self


Variables = Annotated[
    Mapping[
        str,
        Annotated[
            Variable,
            BeforeValidator(_reference),
            WithJsonSchema(
                {
                    "anyOf": [
                        {"type": ["string", "number", "boolean"]},
                        {"type": "object", "properties": {"from_env": {"type": "string"}}, "required": ["from_env"]},
                    ]
                }
            ),
        ],
    ],
    AfterValidator(dict),
]


class Restart(Block):
    """What happens when a member's process ends. A text stands for its `policy`."""

    policy: Policy = "on-failure"
    """always, on-failure (only when its exit code is not 0) or never."""
    attempts: Count = 5
    """Quick failures in a row after which the member is given up."""


RestartRule = Annotated[
    Restart,
    ScalarOr("policy"),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["always", "on-failure", "never"]},
                {
                    "type": "object",
                    "properties": {
                        "policy": {"enum": ["always", "on-failure", "never"]},
                        "attempts": {"type": "integer", "minimum": 1},
                    },
                },
            ]
        }
    ),
]


class Defaults(Block):
    """`defaults`: what members have that do not say otherwise. `config` and `env` are merged key by key."""

    runtime: Text = ""
    """An installed adapter."""
    adapter: Text = ""
    """A file or module with an `Adapter` class."""
    command: Texts = ()
    """A program with its arguments."""
    config: ConfigDict = Field(default_factory=dict, repr=False)
    """Keys of config.yaml."""
    env: Variables = Field(default_factory=dict, repr=False)
    """Environment variables."""
    restart: RestartRule = Restart()
    """When to run it anew."""


class Entry(Block):
    """One of `workspaces`: a member of the team."""

    name: Text
    """Its name, by which the same workspace is found again; no two members share one."""
    role: Text = ""
    """What it does, for its peers to read."""
    parent: Text = ""
    """The member above it, where it does not stand below it in `children`."""
    runtime: Text = ""
    """The installed adapter that runs it: a name in the entry-point group molecule_runtime.adapters."""
    adapter: Text = ""
    """Instead of `runtime`: a file (./mine.py) or an installed module with an `Adapter` class."""
    command: Texts = ()
    """Instead of both: a program with its arguments, for an agent with a host of its own."""
    config: ConfigDict = Field(default_factory=dict, repr=False)
    """Keys of its config.yaml, such as runtime_config or model."""
    prompt: Text = Field(default="", repr=False)
    """Its system prompt, written to system-prompt.md in its folder."""
    files: Texts = ()
    """Files and folders to copy into its folder, such as tables, prompts and skills."""
    env: Variables = Field(default_factory=dict, repr=False)
    """Environment variables of its process: values, $NAME or {from_env: NAME}."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The port that it listens on; 0 takes a free one, the same at each start where it can."""
    restart: RestartRule = Restart()
    """always, on-failure or never, or {policy, attempts}."""
    external: bool = False
    """It connects from elsewhere: it gets a workspace and a token, and no process."""
    delivery: Literal["push", "poll"] = "poll"
    """How an external member gets its messages; the others are pushed to."""
    children: Sequence[Entry] = ()
    """The members below it."""


class Seed(Block):
    """A team."""

    name: Text = ""
    """The team's name for people."""
    defaults: Defaults = Field(default_factory=Defaults)
    """What members have that do not say otherwise."""
    workspaces: Sequence[Entry]
    """The members."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a seed, for editors: it accepts what the reader accepts."""
    schema = Seed.model_json_schema(mode="validation")
    definitions = cast("dict[str, dict[str, Any]]", schema.get("$defs", {}))
    for definition in (schema, *definitions.values()):
        required = cast("list[str]", definition.get("required", []))
        for key, rule in cast("dict[str, dict[str, Any]]", definition.get("properties", {})).items():
            rule.pop("title", None)
            if key not in required:
                # A key that is present but empty means its default.
                definition["properties"][key] = {"anyOf": [rule, {"type": "null"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A team for molecule-local up --seed",
    }
