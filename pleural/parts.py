"""Parts of what a network finds, and whether it is sure of their inside.

Along its surface every part is uncertain, by a voxel or two. Farther in, networks are sure of
fluid, and much less so of what they take for it: muscle of a shoulder, a liver as dense as fluid
(docs/tried.md#parts-that-the-network-is-unsure-of).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from pleural.errors import InputError
from pleural.volume import Volume

SURE = 0.95  # a probability as high as this
INSIDE_MM = 2.5  # and more from the surface
LEAST_INSIDE_ML = 0.5  # of less, nothing can be said
LARGE_ML = 100.0
TOUCHING = np.ones((3, 3, 3))  # by a face, an edge or a corner

Shares = tuple[float, float]  # of the largest part and other large ones, and of the rest


def shares(sure_inside: Any) -> Shares | None:
    """From a configuration.

    Raises:
        InputError: these are not two shares.
    """
    if sure_inside is None:
        return None
    try:
        largest, others = (float(share) for share in sure_inside)
        if not (0 <= largest <= 1 and 0 <= others <= 1):
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            "sure_inside is two shares from 0 to 1, of the largest part and other large ones, and "
            f"of the rest, or null; got {sure_inside}"
        ) from None
    return largest, others


def unsure(probability: Volume, threshold: float, sure_inside: Shares) -> Volume | None:
    """Where the parts are that the network is too unsure of, and what touches them, as 0 and 1.

    Args:
        probability: 0 to 1.
        threshold: what reaches it and touches is a part.
        sure_inside: least share of a part's inside that is surely effusion. Less is asked of the
            largest part, which is the finding if there is any, and of all of ``LARGE_ML`` or more,
            which must not vanish for a network's want of training.

    Returns:
        ``None`` where there are no such parts. One too thin or small to have an inside stays.
    """
    numbers, _ = ndimage.label(probability.array >= threshold, TOUCHING)
    sizes_ml = np.bincount(numbers.ravel(), minlength=2)[1:] * probability.voxel_ml
    large_ml = min(sizes_ml.max(), LARGE_ML)
    left_out = np.zeros(numbers.shape, bool)
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        part = numbers[box] == number
        least = sure_inside[0 if sizes_ml[number - 1] >= large_ml else 1]
        if _sure_share(probability, box, part) < least:
            left_out[box] |= part
    if not left_out.any():
        return None
    return probability.with_array(ndimage.binary_dilation(left_out, TOUCHING).astype(np.uint8))


def without(found: np.ndarray, left_out: Volume | None, grid: Volume) -> np.ndarray:
    """``found`` on ``grid``, as truth values, less what :func:`unsure` gave on any other grid."""
    return found if left_out is None else found & (left_out.onto(grid).array < 0.5)


def mask_on(
    grid: Volume, probability: Volume, threshold: float, sure_inside: Shares | None
) -> Volume:
    """One network's mask on ``grid``, as 0 and 1.

    All at once, for exported networks; :class:`pleural.segmenter.Segmenter` takes slabs of a mean.
    """
    found = probability.onto(grid).array >= threshold
    left_out = None if sure_inside is None else unsure(probability, threshold, sure_inside)
    return grid.with_array(without(found, left_out, grid).astype(np.uint8))


def _sure_share(probability: Volume, box: tuple[slice, ...], part: np.ndarray) -> float:
    """Of the inside of ``part``, which lies in ``box``; 1 where it has none."""
    depth_mm = ndimage.distance_transform_edt(np.pad(part, 1), sampling=probability.spacing_mm)
    inside = probability.array[box][depth_mm[1:-1, 1:-1, 1:-1] > INSIDE_MM]
    if inside.size * probability.voxel_ml < LEAST_INSIDE_ML:
        return 1.0
    return float((inside >= SURE).mean())
