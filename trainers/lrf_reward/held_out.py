"""Agreement of a reward model with its judges on held-out samples, compared with answer length as a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch

from lrf.types import JSON
from lrf_reward.objective import RewardCollator


def predictions(
    model: Any, rows: Iterable[Mapping[str, Any]], collate: RewardCollator, batch_size: int
) -> Iterator[tuple[Any, list[float]]]:
    """(row, outputs) of each row; a pair has the output of the chosen and of the rejected answer.

    ``batch_size`` is the number of rows in memory at once.
    """
    model.eval()
    rest = iter(rows)
    while some := list(islice(rest, batch_size)):
        batch = collate(some)
        batch.pop("targets", None)
        with torch.no_grad():
            logits = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).logits.float().cpu()
        per_row = logits if len(logits) == len(some) else torch.stack(logits.squeeze(-1).chunk(2), dim=1)
        yield from zip(some, per_row.tolist(), strict=True)


def described(outputs: Sequence[tuple[Mapping[str, Any], list[float]]], dimensions: Sequence[str]) -> dict[str, JSON]:
    """The outputs that are ratings of 0 and of 10, and how far the model agrees with its judges; of pairs without
    ``dimensions``."""
    if dimensions:
        return {"zero_at": -1.0, "ten_at": 1.0, "agreement": rating_metrics(outputs, dimensions)}
    zero_at, ten_at = output_scale([output for _, both in outputs for output in both])
    return {"zero_at": zero_at, "ten_at": ten_at, "agreement": preference_metrics(outputs)}


def rating_metrics(
    outputs: Sequence[tuple[Mapping[str, Any], list[float]]], dimensions: Sequence[str]
) -> dict[str, JSON]:
    """Pearson's and Spearman's correlation with the judge's ratings, of outputs and of lengths, by dimension."""
    figures: dict[str, JSON] = {}
    for place, name in enumerate(dimensions):
        known = [(r["targets"][place], o[place], len(r["input_ids"])) for r, o in outputs]
        known = [one for one in known if one[0] == one[0]]
        judge, model, length = ([float(one[i]) for one in known] for i in range(3))
        figures[name] = {
            "answers": len(known),
            "pearson": pearson(judge, model),
            "spearman": spearman(judge, model),
            "length_pearson": pearson(judge, length),
            "length_spearman": spearman(judge, length),
        }
    return figures


def preference_metrics(outputs: Sequence[tuple[Mapping[str, Any], list[float]]]) -> dict[str, JSON]:
    """Share of pairs whose chosen answer has the higher output, and of those where it is longer. Ties count half."""

    def share(differences: list[float]) -> float | None:
        right = sum(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in differences)
        return right / len(differences) if differences else None

    return {
        "pairs": len(outputs),
        "accuracy": share([chosen - rejected for _, (chosen, rejected) in outputs]),
        "length_accuracy": share([float(len(r["input_ids"]) - len(r["rejected_ids"])) for r, _ in outputs]),
    }


def output_scale(values: Sequence[float]) -> tuple[float, float]:
    """Outputs that correspond to ratings of 0 and 10 if the mean is a 5 and a standard deviation two points."""
    centre, spread = float(np.mean(values)), float(np.std(values)) or 1.0
    return centre - 2.5 * spread, centre + 2.5 * spread


def pearson(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation, −1 to 1; None where one side doesn't vary."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1 to 1; None where one side doesn't vary."""
    return pearson(pd.Series(a).rank().tolist(), pd.Series(b).rank().tolist())
