"""The probability that evidence supports a statement, of the features of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lrf_overlap.features import FEATURES

VERSION = 5
"""Raised with every change of a probability, so that no reply of another version is taken from a journal."""

_WEIGHTS: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "en": (
        1.46,
        {
            "number": 3.1,
            "number_elsewhere": 2.15,
            "name": 3.31,
            "name_elsewhere": 1.13,
            "foreign": 2.27,
            "denied": 3.03,
            "reversed": 2.25,
            "exchanged": 1.38,
            "scope": 3.04,
            "scope_added": 0.48,
        },
    ),
    "zh": (
        1.36,
        {
            "number": 3.36,
            "number_elsewhere": 1.6,
            "name": 3.43,
            "name_elsewhere": 0.87,
            "foreign": 2.07,
            "denied": 2.67,
            "reversed": 2.24,
            "exchanged": 1.82,
            "scope": 3.11,
            "scope_added": 0.63,
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
