"""The Dice coefficient."""

from __future__ import annotations

from typing import Any


def dice(prediction: Any, reference: Any) -> float:
    """Overlap of two masks or maps of one shape: 1 where they agree, 0 where they never meet.

    Args:
        prediction, reference: arrays or tensors of any shape, values in [0, 1]: masks (boolean or
            0 and 1), probabilities or occupancies.

    With ``|p|`` the sum of the values, this is ``(|p| + |r| - |p - r|) / (|p| + |r|)``. On masks
    it equals ``2 |p ∩ r| / (|p| + |r|)`` (Dice 1945, doi 10.2307/1932409); on soft values it stays
    1 for a map compared with itself, which the product form does not (Wang et al. 2023,
    arXiv 2303.16296). Symmetric.

    Two empty masks agree: 1. One empty mask against one that is not: 0.

    Raises:
        ValueError: the shapes differ.

    >>> import numpy as np
    >>> dice(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0]))
    0.5
    >>> dice(np.zeros(4), np.zeros(4)), dice(np.zeros(4), np.ones(4))
    (1.0, 0.0)
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"masks of different shapes: {prediction.shape} and {reference.shape}")
    prediction, reference = prediction * 1.0, reference * 1.0  # from boolean or integer to float
    total = float(prediction.sum() + reference.sum())
    if total == 0:
        return 1.0
    return (total - float(abs(prediction - reference).sum())) / total
