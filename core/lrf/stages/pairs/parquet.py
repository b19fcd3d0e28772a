"""The pairs as Parquet, for libraries that read tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lrf.store.files import dump

ROWS_A_GROUP = 64


def write_parquet(pairs: Path, target: Path, *, agentic: bool = False) -> None:
    """Write the rows of ``pairs.jsonl`` as Parquet, a group of rows at a time.

    With ``agentic`` (prompts that call tools) turns have columns for calls; arguments and tools are JSON text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    call = pa.struct([("id", text), ("type", text), ("function", pa.struct([("name", text), ("arguments", text)]))])
    more = [("name", text), ("tool_calls", pa.list_(call)), ("tool_call_id", text)] if agentic else []
    turns = pa.list_(pa.struct([("role", text), ("content", text), *more]))
    ratings = pa.map_(pa.string(), pa.float64())
    schema = pa.schema(
        [
            *((name, turns) for name in ("prompt", "chosen", "rejected")),
            *((name, pa.string()) for name in ("sample_id", "chosen_id", "rejected_id")),
            *((name, pa.float64()) for name in ("chosen_reward", "rejected_reward")),
            *((name, ratings) for name in ("chosen_ratings", "rejected_ratings")),
            ("prompt_template_sha256", pa.string()),
            *([("tools", text)] if agentic else []),
        ]
    )

    def row(line: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(line)
        for called in (c["function"] for turn in values["prompt"] for c in turn.get("tool_calls", ())):
            called["arguments"] = dump(called["arguments"])
        if "tools" in values:
            values["tools"] = dump(values["tools"])
        return {**values, **{k: list(values[k].items()) for k in ("chosen_ratings", "rejected_ratings")}}

    temporary = target.with_name(f".{target.name}.partial")
    try:
        with temporary.open("wb") as out, pq.ParquetWriter(out, schema) as writer, pairs.open(encoding="utf-8") as f:
            group: list[dict[str, Any]] = []
            for line in f:
                group.append(row(line))
                if len(group) == ROWS_A_GROUP:
                    writer.write_table(pa.Table.from_pylist(group, schema=schema))
                    group = []
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
