"""What a page needs to show all slices of a study in any window of HU.

Voxels are averaged to a width in pixels, cut to a range of HU and rounded; the page says so.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import Any

import numpy as np

from pleural.figures import MODEL_COLOUR, READER_COLOURS, REFERENCE_COLOUR, SOFT_TISSUE_HU
from pleural.report.slices import PREDICTION, REFERENCE, THICK_MM, Slices, outlines
from pleural.volume import Volume

WINDOWS_HU = {  # customary ones for the chest, and one wide enough for lung, fluid and wall at once
    "Soft tissue": SOFT_TISSUE_HU,
    "Lung": (-1350, 150),
    "Pleura (wide)": (-900, 500),
}
KEPT_HU = (-1024, 1023)
STEP_HU = 2  # finer than a screen shows: 200 greys in the narrowest window


def reduced(width_px: int) -> str:
    """What a page says of the difference between its slices and the study's."""
    low, high = KEPT_HU
    return (
        f"Cropped to the body and averaged to at most {width_px} pixels across; slices of "
        f"{THICK_MM / 2:g} mm and thinner are averaged, to {THICK_MM:g} mm at most; HU from "
        f"{low} to {high} in steps of {STEP_HU}. "
        "Outlines have the study's own resolution within a slice; of slices that are averaged they "
        "show what at least half of these mark. What is to be measured is measured on the study."
    )


def study(slices: Slices, width_px: int) -> dict[str, Any]:
    """Plain values for JSON.

    ``voxels`` are steps of ``step_hu`` above ``lowest_hu``, slice by slice from the feet, row by
    row from the back, each from the patient's left: all low bytes, then all high bytes, deflated,
    in base64. Lines have a ``[x, y]`` for each slice, in mm, with ``None`` where a line ends.
    """
    scan, offset_mm = _shrunk(slices.scan, width_px)
    columns, rows, n_slices = scan.shape
    interest = slices.interest
    return {
        "columns": columns,
        "rows": rows,
        "slices": n_slices,
        "pixel_mm": scan.spacing_mm[:2],
        "offset_mm": offset_mm,
        "names": [
            f"{slices.named(z)} of {slices.n_of_study or n_slices} from the feet"
            for z in range(n_slices)
        ],
        "heights_mm": slices.scan.heights_mm().round(1).tolist(),
        "start": int(interest.argmax()) if interest.any() else n_slices // 2,
        "lowest_hu": KEPT_HU[0],
        "step_hu": STEP_HU,
        "voxels": _packed(scan.array),
        "lines": [
            {
                "name": who,
                "colour": colour,
                "shown": who in (PREDICTION, REFERENCE),
                "points": _lines(slices.masks[who]),
            }
            for who, colour in _colours(slices).items()
        ],
    }


def _colours(slices: Slices) -> dict[str, str]:
    """The model's mask and the reference first, then the readers'."""
    own = {PREDICTION: MODEL_COLOUR, REFERENCE: REFERENCE_COLOUR}
    others = [who for who in slices.masks if who not in own]
    own |= {who: READER_COLOURS[number % len(READER_COLOURS)] for number, who in enumerate(others)}
    return {who: colour for who, colour in own.items() if who in slices.masks}


def _shrunk(scan: Volume, width_px: int) -> tuple[Volume, tuple[float, float]]:
    """At most ``width_px`` wide, with square pixels, and how far its first centre has moved."""
    columns = scan.shape[0]
    x_mm, y_mm, _ = scan.spacing_mm
    pixel_mm = max(columns * x_mm / width_px, min(x_mm, y_mm))
    kept = scan.with_array(np.clip(scan.array, *KEPT_HU))
    small = kept.resampled((pixel_mm, pixel_mm, None), fill=KEPT_HU[0])
    return small, ((pixel_mm - x_mm) / 2, (pixel_mm - y_mm) / 2)


def _packed(hu: np.ndarray) -> str:
    steps = np.rint((hu.T - np.float32(KEPT_HU[0])) / STEP_HU).astype("<u2")
    low_then_high = steps.reshape(-1).view(np.uint8).reshape(-1, 2).T
    return b64encode(zlib.compress(low_then_high.tobytes(), 6)).decode()


def _lines(mask: Volume) -> list[list[list[float | None]]]:
    return [_line(mask.array[..., z], mask.spacing_mm[:2]) for z in range(mask.shape[2])]


def _line(mask: np.ndarray, spacing_mm: tuple[float, float]) -> list[list[float | None]]:
    x: list[float | None] = []
    y: list[float | None] = []
    for points in outlines(mask, spacing_mm) if mask.any() else ():
        x += [*points[:, 0].round(1).tolist(), None]
        y += [*points[:, 1].round(1).tolist(), None]
    return [x, y]
