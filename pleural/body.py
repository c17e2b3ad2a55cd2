"""Where the patient is in a scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pleural.errors import InputError
from pleural.volume import Volume

BODY_ABOVE_HU = -400
BODY_GRID_MM = 4.0  # coarse enough to be quick, fine enough for a margin of a centimetre
TABLE_THICKNESS_MM = 16.0  # what is thinner than this and not part of the body is cut off


def body_box(scan: Volume, margin_mm: float = 0.0) -> tuple[slice, slice, slice]:
    """The smallest box around the patient, as one slice of voxels per axis.

    The body is the largest connected part above -400 HU once everything thin (the table, tubes,
    clothes) is opened away in the axial plane. The scan's third axis is taken as the long one.

    Raises:
        InputError: nothing is dense enough to be a body.
    """
    steps = [max(1, round(BODY_GRID_MM / mm)) for mm in scan.spacing_mm]
    coarse = scan.array[tuple(slice(None, None, step) for step in steps)] > BODY_ABOVE_HU
    coarse_mm = [step * mm for step, mm in zip(steps, scan.spacing_mm, strict=True)]
    disc = axial_disc(TABLE_THICKNESS_MM / 2, coarse_mm)
    # Beyond the edge counts as dense, or a body cut off by the field of view would lose its rim.
    parts, n_parts = ndimage.label(ndimage.binary_erosion(coarse, disc, border_value=1))
    if n_parts == 0:
        raise InputError(
            f"no body in the scan: nothing above {BODY_ABOVE_HU} HU is thicker than "
            f"{TABLE_THICKNESS_MM:g} mm"
        )
    body = ndimage.binary_dilation(largest(parts), disc)
    (found,) = ndimage.find_objects(body.astype(np.uint8))
    box = []
    for part, step, mm, size in zip(found, steps, scan.spacing_mm, scan.shape, strict=True):
        margin = round(margin_mm / mm)
        start = max(0, (part.start - 1) * step + 1 - margin)
        box.append(slice(start, min(size, part.stop * step + margin)))
    return box[0], box[1], box[2]


def largest(parts: np.ndarray) -> np.ndarray:
    """Where the largest of the ``parts`` is, numbered from 1 as ``ndimage.label`` does."""
    found: np.ndarray = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return found


def axial_disc(radius_mm: float, spacing_mm: Sequence[float]) -> np.ndarray:
    """``(X, Y, 1)``, at least three voxels wide; ``spacing_mm`` is of X and Y, and maybe more."""
    rx, ry = (max(1, round(radius_mm / mm)) for mm in spacing_mm[:2])
    x, y = np.ogrid[-rx : rx + 1, -ry : ry + 1]
    disc: np.ndarray = ((x / rx) ** 2 + (y / ry) ** 2 <= 1)[..., None]
    return disc
