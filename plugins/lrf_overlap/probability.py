"""The probability that evidence supports a statement, of the features of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lrf_overlap.features import FEATURES

VERSION = 3
"""Raised with every change of a probability, so that no reply of another version is taken from a journal."""

_WEIGHTS: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "en": (
        1.71,
        {
            "number": 3.21,
            "number_elsewhere": 2.53,
            "name": 3.79,
            "name_elsewhere": 1.48,
            "foreign": 3.05,
            "denied": 2.93,
            "reversed": 2.67,
            "exchanged": 1.96,
        },
    ),
    "zh": (
        1.72,
        {
            "number": 4.38,
            "number_elsewhere": 1.73,
            "name": 3.89,
            "name_elsewhere": 1.08,
            "foreign": 2.91,
            "denied": 3.16,
            "reversed": 3.13,
            "exchanged": 2.64,
        },
    ),
}
"""For each language the logit of a statement with which nothing is wrong, and what each feature takes from it.

Fitted by ``benchmarks/overlap.py --fit`` on planted errors in as many true statements as false ones; no weight is below
0, so that nothing that is wrong makes a statement likelier.
"""


def probability(values: Sequence[float], language: str) -> float:
    """The probability, 0 to 1, that a statement with these values of :data:`FEATURES` is supported.

    ``language`` is that of the statement: "zh", or "en" for every other. It holds where about half of the statements
    are supported.
    """
    start, weights = _WEIGHTS["zh" if language == "zh" else "en"]
    logit = start - sum(weights[name] * value for name, value in zip(FEATURES, values, strict=True))
    return 1 / (1 + math.exp(-logit))
