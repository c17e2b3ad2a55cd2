"""The Dice coefficient."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def dice(prediction: ArrayLike | Tensor, reference: ArrayLike | Tensor) -> float:
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

    >>> dice([1, 1, 0, 0], [0, 1, 1, 0])
    0.5
    >>> dice([0, 0], [0, 0]), dice([0, 0], [1, 1])
    (1.0, 0.0)
    """
    p, r = _as_float(prediction), _as_float(reference)
    if p.shape != r.shape:
        raise ValueError(f"masks of different shapes: {tuple(p.shape)} and {tuple(r.shape)}")
    total = _sum(p) + _sum(r)
    if total == 0:
        return 1.0
    return (total - _sum((p - r).abs_())) / total


def _sum(values: Tensor) -> float:
    """Lines by themselves, then in double: a scan has more voxels than a float32 counts."""
    lines = values.sum(dim=-1) if values.dim() else values
    return float(lines.sum(dtype=torch.float64))


def _as_float(values: ArrayLike | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values.float()
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
