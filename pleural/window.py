"""HU on the scale of a prepared image, where -1 and 1 are the ends of a window."""

from __future__ import annotations

from collections.abc import Sequence


def value(hu: float, window_hu: Sequence[float]) -> float:
    """The image value of ``hu``."""
    return difference(hu - window_hu[0], window_hu) - 1


def difference(hu: float, window_hu: Sequence[float]) -> float:
    """The difference of image values that is one of ``hu``."""
    low, high = window_hu
    return hu * 2 / (high - low)
