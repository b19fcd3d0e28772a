"""Settings of the data sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from lrf.rows.data import FIELDS, MAX_FILE_BYTES
from lrf.settings import FilePath, Settings
from lrf_data.columns import Made


def _row_fields(columns: dict[str, Made] | None) -> dict[str, Made] | None:
    for name in columns or ():
        if name not in FIELDS:
            raise ValueError(f"{name!r} is no field of a row; allowed: {', '.join(FIELDS)}")
    return columns


Columns = Annotated[dict[str, Made] | None, AfterValidator(_row_fields)]

_COLUMNS = (
    "Field of a row (query, context, …) to the column that holds it; to a text with `<<column>>` marks; or to a list "
    "of these, such as `candidates: [answer_a, answer_b]`. Then only these columns are read; without it every column "
    "must be a field of a row."
)
_PATH = "A file, a list of files, or a pattern such as data/*.{}."


class RowsSettings(Settings):
    """What all sources have whose rows may name text files."""

    max_file_bytes: int = Field(
        default=MAX_FILE_BYTES,
        ge=1,
        description="Bytes at most, together, of the text files that a row's documents name by `path`.",
    )


class JsonlSettings(RowsSettings):
    """Settings of the source ``jsonl``."""

    path: FilePath | Annotated[list[FilePath], Field(min_length=1)] = Field(
        description=_PATH.format("jsonl") + " Files that end in .gz are unpacked as they are read."
    )
    columns: Columns = Field(default=None, description=_COLUMNS)

    @property
    def origin(self) -> str:
        return ", ".join(path.name for path in ([self.path] if isinstance(self.path, Path) else self.path))


class ParquetSettings(RowsSettings):
    """Settings of the source ``parquet``."""

    path: FilePath | Annotated[list[FilePath], Field(min_length=1)] = Field(description=_PATH.format("parquet"))
    columns: Columns = Field(default=None, description=_COLUMNS)
    batch_rows: int = Field(default=16, ge=1, description="Rows held in memory at a time.")

    @property
    def origin(self) -> str:
        return ", ".join(path.name for path in ([self.path] if isinstance(self.path, Path) else self.path))


def _local_beside_pipeline(path: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder")
    if not path.startswith(("./", "../", "/", "~")):
        return path  # a name on the Hub
    local = Path(path).expanduser()
    return str(local if folder is None else Path(folder) / local)


class HuggingFaceSettings(RowsSettings):
    """Settings of the source ``huggingface``."""

    path: Annotated[str, AfterValidator(_local_beside_pipeline)] = Field(
        min_length=1,
        description="A dataset's name on the Hub; or a local folder, written with a leading ./, ../, / or ~.",
    )
    name: str | None = Field(default=None, description="The dataset's configuration, where it has several.")
    split: str = Field(default="train", min_length=1, description="The split to read.")
    revision: str | None = Field(
        default=None, description="Commit, tag or branch on the Hub; pin it for repeatability."
    )
    columns: Columns = Field(default=None, description=_COLUMNS)

    @property
    def origin(self) -> str:
        return Path(self.path).name


class LongRewardSettings(RowsSettings):
    """Settings of the source ``longreward``."""

    documents: FilePath = Field(description="JSON Lines of {idx, query, context, answer}; the answer is the reference.")
    candidates: FilePath = Field(description='JSON Lines of {idx, query, answer} with idx as "<document idx>-<n>".')

    @property
    def origin(self) -> str:
        return self.documents.name
