"""Arithmetic on the vectors of an embedder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lrf.protocols import Vectors

DECIMALS = 6
"""Places to which similarities are compared: sums in another order differ in later ones."""

_QUERIES = 256  # compared at once, which bounds the memory that their similarities take


def unit(vectors: Vectors) -> Vectors:
    """The vectors at length 1, so that their product is their cosine; a vector of zeros stays one.

    ``vectors`` have the shape (n, dimensions).
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def nearest(queries: Vectors, chunks: Vectors, most: int) -> list[list[int]]:
    """For each query the numbers of the ``most`` chunks with the largest product, largest first.

    ``queries`` have the shape (q, dimensions), ``chunks`` (n, dimensions). Of equal products (to :data:`DECIMALS`
    places) the chunk with the smaller number comes first.
    """
    most = min(most, len(chunks))
    rankings: list[list[int]] = []
    for first in range(0, len(queries), _QUERIES):
        products = np.round((queries[first : first + _QUERIES] @ chunks.T).astype(np.float64), DECIMALS)
        thresholds = np.partition(products, -most, axis=1)[:, -most]
        for row, threshold in zip(products, thresholds, strict=True):
            numbers = np.flatnonzero(row >= threshold)
            rankings.append(numbers[np.argsort(-row[numbers], kind="stable")][:most].tolist())
    return rankings
