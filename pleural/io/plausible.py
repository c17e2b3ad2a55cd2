"""What no CT has, whatever its format: refused before it costs anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from pleural.errors import InputError

SPACING_RANGE_MM = (0.05, 20.0)
MOST_VOXELS = 4096 * 1024**2  # 4096 slices of 1024²


def check_size(path: str | Path, shape: Sequence[int]) -> None:
    """To be asked before memory is: a damaged header may claim terabytes.

    Raises:
        InputError: more voxels than ``MOST_VOXELS``.
    """
    if math.prod(shape) > MOST_VOXELS:
        size = " x ".join(str(n) for n in shape)
        raise InputError(f"{path}: claims {size} voxels, larger than any CT scan (damaged?)")


def check_spacing(path: str | Path, what: str, spacing_mm: Iterable[float]) -> None:
    """``what``: is so many mm apart.

    Raises:
        InputError: one of them lies outside ``SPACING_RANGE_MM``.
    """
    low, high = SPACING_RANGE_MM
    spacing_mm = [*spacing_mm]
    if min(spacing_mm) < low or max(spacing_mm) > high:
        found = " x ".join(f"{mm:g}" for mm in spacing_mm)
        raise InputError(f"{path}: {what} of {found} mm; a CT has {low:g} to {high:g} mm")
