"""What is found where there is no effusion: in phantoms without one, and beyond its slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pleural.anatomy import chest
from pleural.volume import Volume

LIMIT_ML = 5.0
# Of the phantoms: other bodies than those that train (data=phantom, companions) or have taught what
# trainings start from (experiment=phantoms); tests/test_phantom.py compares.
SEED = 23


def phantom(number: int, spacing_mm: Sequence[float] | None = None) -> Volume:
    """A scan without effusion; by default each scanner has its own spacing."""
    return chest((SEED, number), 0.0, spacing_mm=spacing_mm).scan


def beyond_ml(prediction: Volume, reference: Volume) -> float:
    """Of the prediction in slices below the lowest and above the highest with effusion."""
    prediction, reference = prediction.reoriented(), reference.reoriented()
    slices = np.flatnonzero(reference.array.any(axis=(0, 1)))
    beyond = prediction.array.copy()
    beyond[..., slices[0] : slices[-1] + 1] = 0
    return prediction.with_array(beyond).nonzero_ml
