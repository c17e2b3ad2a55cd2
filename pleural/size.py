"""How large an effusion is called, and from when on it is called one."""

from __future__ import annotations

from itertools import pairwise

from pleural.errors import InputError

BANDS_ML = (50, 200, 500)
SMALL_UP_TO_MM, LARGE_ABOVE_MM = 30.0, 100.0  # Moy et al. 2013


def band(volume_ml: float) -> str:
    """To which of the bands of size a volume belongs; an edge belongs to the band below it.

    50 mL alone has no band below that names it and opens ``"50–200"``.

    >>> [band(volume_ml) for volume_ml in (49.9, 50, 200, 500, 500.1)]
    ['<50', '50–200', '50–200', '200–500', '>500']
    """
    if volume_ml < BANDS_ML[0]:
        return f"<{BANDS_ML[0]}"
    for low, high in pairwise(BANDS_ML):
        if volume_ml <= high:
            return f"{low}–{high}"
    return f">{BANDS_ML[-1]}"


def size_class(depth_mm: float) -> str:
    """Up to 3 cm small, up to 10 cm moderate, above large; 0 is none.

    These are the thresholds that Moy et al. 2013 (Chest 143:1054, doi 10.1378/chest.12-1292) give
    for borderline cases. Their rule first asks which quarter of the chest, counted from the back,
    the fluid reaches (first: small, second: moderate, beyond: large), and takes its depth from
    back to front at the midclavicular line. Here depth alone decides, wherever it is greatest.

    >>> [size_class(depth_mm) for depth_mm in (0, 30, 30.1, 100, 100.1)]
    ['none', 'small', 'moderate', 'moderate', 'large']
    """
    if depth_mm == 0:
        return "none"
    if depth_mm <= SMALL_UP_TO_MM:
        return "small"
    return "moderate" if depth_mm <= LARGE_ABOVE_MM else "large"


def detected(volume_ml: float, detection_ml: float) -> bool:
    """Whether there is so much that it is called an effusion; 0 mL never are."""
    return volume_ml > 0 and volume_ml >= detection_ml


def check_detection(detection_ml: float) -> None:
    """
    Raises:
        InputError: it is no volume.
    """
    if not isinstance(detection_ml, int | float) or not detection_ml >= 0:
        raise InputError(f"detection_ml is a volume in mL, 0 or more; got {detection_ml}")
