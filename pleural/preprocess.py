"""From a scan in HU to what a network sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pleural.body import body_box
from pleural.errors import InputError
from pleural.volume import Volume


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
        if np.shape(window_hu) != (2,) or window_hu[0] >= window_hu[1]:
            raise InputError(f"preprocess.window_hu is two HU that grow; got {window_hu}")
        if np.shape(spacing_mm) != (3,) or any(mm is not None and mm <= 0 for mm in spacing_mm):  # type: ignore[arg-type]
            raise InputError(
                f"preprocess.spacing_mm is three sizes above 0 (X, Y, Z), or null; got {spacing_mm}"
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
