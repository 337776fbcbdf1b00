"""What the keys of `config.yaml` mean: the texts below the fields of the model, for the schema and the reference.

Not by pydantic's `use_attribute_docstrings`, which reads and parses the source again for every class, in every process that
imports the model.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from molecule_runtime.core.config.blocks import Block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel


def meanings_of(model: type[BaseModel]) -> dict[str, str]:
    """Return what each key of a block means, by its name in the file; where the source is not there, nothing."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Block):
            found |= _texts(base.__module__).get(base.__name__, {})
    return {info.alias or name: found[name] for name, info in model.model_fields.items() if name in found}


@cache
def _texts(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return the texts below the fields of every class of a module, by the name of the class."""
    try:
        source = inspect.getsource(importlib.import_module(module))
    except OSError:
        return {}
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_below(node.body)) for node in classes}


def _below(body: list[ast.stmt]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for statement, after in pairwise(body):
        match statement, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                found.append((name, inspect.cleandoc(text)))
            case _:
                pass
    return found
