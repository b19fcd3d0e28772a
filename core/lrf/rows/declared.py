"""Which field of a pydantic model a path means, and which keys are allowed there."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def declared_at(model: type[BaseModel], path: Sequence[str | int]) -> tuple[list[type[BaseModel]], FieldInfo | None]:
    """The models that the last key of the path could belong to, and the field that it is, if it is one."""
    models, field = [model], None
    for i, part in enumerate(path):
        field = next((f for m in models if (f := _fields(m).get(str(part)))), None)
        if i + 1 < len(path) and field is not None:
            models = list(_models(field.annotation))
    return models, field


def keys_of(models: Sequence[type[BaseModel]]) -> list[str]:
    """The keys that an object of one of these models may have."""
    return list(dict.fromkeys(key for model in models for key in _fields(model)))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
    else:
        for argument in typing.get_args(annotation):
            yield from _models(argument)


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}
