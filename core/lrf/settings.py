"""The base of every component's settings, and the kinds of field that need the pipeline file to be understood."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo


class Settings(BaseModel):
    """Settings of a component: frozen, and a key that isn't declared is an error.

    Give every field a ``description``: ``lrf schema`` and the reference are made from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _beside_pipeline(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    path = path.expanduser()
    return path if folder is None or path.is_absolute() else Path(os.path.normpath(Path(folder) / path))


FilePath = Annotated[Path, AfterValidator(_beside_pipeline)]
"""A path that starts, where it is relative, at the pipeline file's folder."""
