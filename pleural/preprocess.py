"""From a scan in HU to what a network sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pleural.errors import InputError
from pleural.volume import Volume

BODY_ABOVE_HU = -400
BODY_GRID_MM = 4.0  # coarse enough to be quick, fine enough for a margin of a centimetre
TABLE_THICKNESS_MM = 16.0  # what is thinner than this and not part of the body is cut off


class ChestCT:
    """Reorient to RAS+, crop to the body, resample, and bring a window of HU to [-1, 1].

    Args:
        window_hu: lowest HU (becomes -1) and highest (becomes 1); values beyond are clipped.
        spacing_mm: of the prepared volume in X, Y, Z; ``None`` keeps the scan's own.
        crop_to_body: leave out the table and the air around the patient.
        margin_mm: kept around the body.
    """

    def __init__(
        self,
        window_hu: Sequence[float],
        spacing_mm: Sequence[float | None],
        crop_to_body: bool,
        margin_mm: float,
    ) -> None:
        if len(window_hu) != 2 or window_hu[0] >= window_hu[1]:
            raise InputError(f"preprocess.window_hu is two HU that grow; got {[*window_hu]}")
        if len(spacing_mm) != 3 or any(mm is not None and mm <= 0 for mm in spacing_mm):
            raise InputError(
                "preprocess.spacing_mm is three sizes above 0 (X, Y, Z), or null; got "
                f"{[*spacing_mm]}"
            )
        self.window_hu = (float(window_hu[0]), float(window_hu[1]))
        self.spacing_mm = tuple(spacing_mm)
        self.crop_to_body = crop_to_body
        self.margin_mm = margin_mm

    def __call__(self, scan: Volume) -> Volume:
        """A scan in HU, on any grid, to float32 in [-1, 1], RAS+.

        ``mask.onto(prepared)`` brings a mask down to the same grid, as occupancy;
        ``probability.onto(scan)`` brings a result back up.

        Raises:
            InputError: no body is found in the scan.
        """
        low, high = self.window_hu
        scan = scan.reoriented()
        if self.crop_to_body:
            scan = scan.cropped(body_box(scan, self.margin_mm))
        # Clipped first: metal and padding must not bleed into their neighbours' average.
        clipped = scan.with_array(_clipped(scan.array, low, high))
        prepared = clipped.resampled(self.spacing_mm, fill=low)
        return prepared.with_array(
            (prepared.array.astype(np.float32) - low) * (2 / (high - low)) - 1
        )


def _clipped(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """As integers where array and window are: half the memory of most scans."""
    if array.dtype.kind not in "iu" or not (low.is_integer() and high.is_integer()):
        return np.clip(array, np.float32(low), np.float32(high))
    limits = np.iinfo(array.dtype)
    return np.clip(array, int(max(low, limits.min)), int(min(high, limits.max)))


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
    body = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    body = ndimage.binary_dilation(body, disc)
    (found,) = ndimage.find_objects(body.astype(np.uint8))
    box = []
    for part, step, mm, size in zip(found, steps, scan.spacing_mm, scan.shape, strict=True):
        margin = round(margin_mm / mm)
        start = max(0, (part.start - 1) * step + 1 - margin)
        box.append(slice(start, min(size, part.stop * step + margin)))
    return box[0], box[1], box[2]


def axial_disc(radius_mm: float, spacing_mm: Sequence[float]) -> np.ndarray:
    """``(X, Y, 1)``, at least three voxels wide; ``spacing_mm`` is of X and Y, and maybe more."""
    rx, ry = (max(1, round(radius_mm / mm)) for mm in spacing_mm[:2])
    x, y = np.ogrid[-rx : rx + 1, -ry : ry + 1]
    disc: np.ndarray = ((x / rx) ** 2 + (y / ry) ** 2 <= 1)[..., None]
    return disc
