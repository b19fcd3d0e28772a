"""Rows of ``candidates.jsonl``. Each candidate that was sampled is kept, or counted with the reason why not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lrf.config.model import SampleKeys
from lrf.errors import GateError, Reason
from lrf.prompting.requests import Reply
from lrf.stages.sample.result import CandidateCounts
from lrf.store.files import replacing
from lrf.types import JSON, Candidate, Sample

Row = dict[str, Any]


def row_of(sample: Sample, replies: Sequence[Reply], seeds: Sequence[int] | None, source: str, keys: SampleKeys) -> Row:
    """The row of a sample: the candidates of the data, and the sampled ones that are kept.

    Parameters
    ----------
    seeds: one for each reply; None for a sampler without seeds.
    source: the name of the model that wrote the replies.
    """
    kept, dropped, cut_off = list(sample.candidates), Counter[str](), 0
    texts, taken = {c.text for c in kept}, {c.id for c in kept}
    for number, reply in enumerate(replies):
        why = _why_dropped(reply, texts, keys)
        if why is not None:
            dropped[why] += 1
            continue
        texts.add(reply.text)
        cut_off += reply.finish == "length"
        id_ = f"sampled-{number}"
        while id_ in taken:
            id_ += "+"
        about: dict[str, JSON] = {"finish": reply.finish, "seed": seeds[number] if seeds else None}
        if reply.finish_word:
            about["finish_word"] = reply.finish_word
        about |= {name: getattr(reply.usage, name) for name in ("prompt_tokens", "completion_tokens")}
        kept.append(Candidate(id_, reply.text, source, about))
    if not kept:
        why = ", ".join(f"{n} {reason}" for reason, n in dropped.items())
        row = left_out(sample, Reason.NO_CANDIDATES, f"none of {len(replies)} was kept: {why}")
    else:
        row = _row(sample, candidates=[asdict(c) for c in kept], cut_off=cut_off)
    return {**row, "drawn": len(replies), "dropped": dict(dropped)}


def left_out(sample: Sample, reason: str, detail: str, *, transient: bool = False) -> Row:
    """The row of a sample without candidates. ``transient`` is removed before the row is written."""
    given = len(sample.candidates)
    why = {"reason": reason, "detail": detail, "transient": transient}
    return _row(sample, left_out=why, dropped={"left_out": given} if given else {})


def _row(sample: Sample, **fields: Any) -> Row:
    row: Row = {"sample_id": sample.id, "left_out": None, "given": len(sample.candidates), "drawn": 0}
    return {**row, "dropped": {}, "cut_off": 0, "candidates": [], **fields}


def _why_dropped(reply: Reply, texts: set[str], keys: SampleKeys) -> str | None:
    if reply.finish == "filter":
        return "filtered"
    if reply.finish == "length" and keys.on_cut_off == "drop":
        return "cut_off"
    if reply.finish in ("tool_call", "other") and not reply.text.strip():
        return "no_text"  # a call of a tool, say
    if reply.text in texts and keys.duplicates == "merge":
        return "duplicate"
    return None


def write_candidates(path: Path, lines: Iterable[tuple[int, str]]) -> CandidateCounts:
    """Write the file of (transient, row) in order, and count what is in it.

    Raises :class:`lrf.errors.GateError` when candidates don't add up.
    """
    with replacing(path) as file:
        return count_candidates(_written(lines, file.write))


def count_candidates(lines: Iterable[tuple[int, str]]) -> CandidateCounts:
    """Count (transient, row). Raises :class:`lrf.errors.GateError` when candidates don't add up."""
    counts, dropped, reasons = Counter[str](), Counter[str](), Counter[str]()
    for transient, line in lines:
        row = json.loads(line)
        counts.update(samples=1, transient=transient, candidates=len(row["candidates"]))
        counts.update({name: row[name] for name in ("given", "drawn", "cut_off")})
        counts["sampled" if row["left_out"] is None else "left_out"] += 1
        dropped.update(row["dropped"])
        if row["left_out"] is not None:
            reasons[row["left_out"]["reason"]] += 1
    if counts["given"] + counts["drawn"] != counts["candidates"] + dropped.total():
        raise GateError(f"candidates don't add up: {dict(counts)}, dropped {dict(dropped)}")
    names = ("samples", "sampled", "left_out", "transient", "given", "drawn", "candidates", "cut_off")
    numbers = {name: counts[name] for name in names}
    return CandidateCounts(**numbers, dropped=dict(dropped.most_common()), reasons=dict(reasons.most_common()))


def _written(lines: Iterable[tuple[int, str]], write: Callable[[str], object]) -> Iterator[tuple[int, str]]:
    for transient, line in lines:
        write(line + "\n")
        yield transient, line
