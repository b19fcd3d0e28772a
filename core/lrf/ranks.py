"""Rank correlations. Ties share the mean of their ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def ranks(values: Sequence[float]) -> Floats:
    """The rank of each value, from 1; equal values share the mean of theirs."""
    array = np.asarray(values, dtype=np.float64)
    _, which, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Floats = last - (counts - 1) / 2
    return mean[which]


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, −1 to 1; None where one side doesn't vary. ValueError for unequal lengths."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}")
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def kendall(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's τ-b, −1 to 1; None where one side doesn't vary. Takes n² memory: for the candidates of one sample.

    ValueError for unequal lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    upper = np.triu_indices(len(x), 1)
    dx = np.sign(x[:, None] - x[None, :])[upper]
    dy = np.sign(y[:, None] - y[None, :])[upper]
    differ_x, differ_y = np.count_nonzero(dx), np.count_nonzero(dy)
    if not differ_x or not differ_y:
        return None
    return float(np.clip((dx @ dy) / np.sqrt(float(differ_x) * differ_y), -1.0, 1.0))
