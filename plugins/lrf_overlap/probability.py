"""The probability that evidence supports a statement, of the features of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lrf_overlap.features import FEATURES

VERSION = 8
"""Raised with every change of a probability, so that no reply of another version is taken from a journal."""

_WEIGHTS: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "en": (
        1.47,
        {
            "number": 2.78,
            "number_elsewhere": 2.11,
            "name": 2.94,
            "name_elsewhere": 0.32,
            "foreign": 2.65,
            "denied": 2.32,
            "reversed": 1.87,
            "exchanged": 1.2,
            "scope": 3.17,
            "scope_added": 0.41,
            "renamed": 1.87,
            "renumbered": 1.52,
            "opposed": 1.56,
            "swapped": 0.0,
        },
    ),
    "zh": (
        1.44,
        {
            "number": 2.26,
            "number_elsewhere": 1.81,
            "name": 2.63,
            "name_elsewhere": 0.28,
            "foreign": 2.72,
            "denied": 1.62,
            "reversed": 1.41,
            "exchanged": 1.05,
            "scope": 2.94,
            "scope_added": 0.72,
            "renamed": 1.89,
            "renumbered": 2.19,
            "opposed": 1.95,
            "swapped": 0.86,
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
