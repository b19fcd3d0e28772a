"""Stage *pairs*: from rewards to preference pairs in the format TRL reads; a reason for every sample without one."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lrf.build import pairing_of
from lrf.errors import GateError, StageError
from lrf.prompting.templates import Template
from lrf.stages.context import StageContext
from lrf.stages.progress import Progress
from lrf.stages.reading import good_samples, policy_prompt, prompt_template
from lrf.stages.sample.source import sampled, sampled_source
from lrf.stages.score.results import check_used_up, rewards_by_sample, rewards_of_sample
from lrf.store.files import dump, replacing, sha256_of
from lrf.types import JSON, LeftOut, PreferencePair, Reward, Sample

ROWS_A_GROUP = 64


async def pairs_stage(context: StageContext, data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Counts of the stage. Raises :class:`lrf.errors.StageError` when the rewards are not those of this data."""
    return await asyncio.to_thread(_pairs, context, data)


def _pairs(context: StageContext, data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    run, pipeline, data = context.run_dir, context.pipeline, sampled(context, data)
    scored = bool(pipeline.dimensions) or run.rewards.exists()
    if pipeline.dimensions and not run.rewards.exists():
        raise StageError(f"{run.rewards} is not there; run the stage before first (`--from score`)")
    record = run.record("pairs")
    fingerprint = context.pairs_fingerprint(data["sha256"], sha256_of(run.rewards) if scored else None)
    done = record.finished(fingerprint)
    if done is not None:
        return done
    pairing = pairing_of(pipeline)
    template = prompt_template(pipeline)
    counts, reasons = Counter[str](samples=0, pairs=0, left_out=0), Counter[str]()
    groups: Iterator[tuple[str, list[Reward]]] = rewards_by_sample(run.rewards) if scored else iter(())
    agentic = False
    with replacing(run.pairs) as pairs, replacing(run.left_out) as left_out:
        for sample in good_samples(sampled_source(context)):
            counts["samples"] += 1
            rewards = rewards_of_sample(sample, groups, run.rewards) if scored else _without_rewards(sample)
            outcome = pairing.pair(sample, rewards)
            if isinstance(outcome, LeftOut):
                counts["left_out"] += 1
                reasons[outcome.reason] += 1
                row = {"sample_id": sample.id, "reason": outcome.reason, "detail": outcome.detail}
                left_out.write(dump(row) + "\n")
            else:
                counts["pairs"] += 1
                pair = pair_row(sample, outcome, rewards, template)
                agentic = agentic or "tools" in pair or any(len(turn) > 2 for turn in pair["prompt"])
                pairs.write(dump(pair) + "\n")
            if counts["samples"] % 200 == 0:
                context.report(_progress(counts))
            if context.stop:
                raise context.stop
        check_used_up(groups, run.rewards)
    if counts["samples"] != counts["pairs"] + counts["left_out"] or counts["samples"] != data["samples"]:
        raise GateError(f"samples don't add up: {data['samples']} went in, {dict(counts)} came out")
    write_parquet(run.pairs, run.pairs_parquet, agentic=agentic)
    done = {**counts, "reasons": dict(reasons.most_common()), "prompt_template_sha256": template.sha256}
    record.write(fingerprint, [run.pairs, run.left_out, run.pairs_parquet], done)
    context.report(_progress(counts))
    return done


def _progress(counts: Mapping[str, int]) -> Mapping[str, JSON]:
    progress = Progress(stage="pairs", samples=counts["samples"], pairs=counts["pairs"], left_out=counts["left_out"])
    return progress.as_json()


def pair_row(sample: Sample, pair: PreferencePair, rewards: list[Reward], template: Template) -> Mapping[str, JSON]:
    """A row of ``pairs.jsonl``: TRL's conversational preference format, with the rewards alongside.

    The prompt is the sample's own messages where it has some (``prompt_template_sha256`` is null then), else one
    user message made by ``policy.prompt_template``. ``tools`` is there where the sample has some.
    """
    prompt = [m.as_row() for m in policy_prompt(sample, template)]
    ratings = {r.candidate_id: dict(r.ratings) for r in rewards}
    return {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": pair.chosen.text}],
        "rejected": [{"role": "assistant", "content": pair.rejected.text}],
        "sample_id": sample.id,
        "chosen_id": pair.chosen.id,
        "rejected_id": pair.rejected.id,
        "chosen_reward": pair.chosen_reward,
        "rejected_reward": pair.rejected_reward,
        "chosen_ratings": ratings.get(pair.chosen.id, {}),
        "rejected_ratings": ratings.get(pair.rejected.id, {}),
        "prompt_template_sha256": None if sample.messages is not None else template.sha256,
        **({"tools": [dict(tool) for tool in sample.tools]} if sample.tools else {}),
    }


def _without_rewards(sample: Sample) -> list[Reward]:
    return [Reward(sample.id, c.id, None, {}) for c in sample.candidates]


def write_parquet(pairs: Path, target: Path, *, agentic: bool = False) -> None:
    """The pairs once more as Parquet, a group of rows at a time.

    Where prompts call tools (``agentic``) turns have the columns for it, and arguments and tools are JSON text.
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
        with pq.ParquetWriter(temporary, schema) as writer, pairs.open(encoding="utf-8") as f:
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
