"""Whether the slices of a DICOM series make one even volume, and where that volume lies.

Words used here, all in DICOM's LPS+ mm: ``across`` is the direction in which a slice's columns
follow one another (array X), ``down`` that of its rows (array Y), and their cross product the
``normal``, along which slices are stacked (array Z, ascending).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pleural.errors import InputError
from pleural.io.dicom_write import LPS_TO_RAS
from pleural.io.plausible import COSINE_TOLERANCE, POSITION_TOLERANCE_MM, check_spacing

MIN_SLICES = 3  # with fewer there is no second step between slices to check the first against
PIXEL_SPACING_TOLERANCE_MM = 1e-4
SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class Slice:
    """What the header of one file says, checked; lengths in mm, directions and places in LPS+."""

    path: Path
    size: np.ndarray  # (2,) voxels across and down
    spacing_mm: np.ndarray  # (2,) across and down
    axes: np.ndarray  # (2, 3) unit vectors: across, down
    position_mm: np.ndarray  # (3,) centre of the first voxel
    slope: float
    intercept: float
    padding: float  # the stored value that means "not scanned"

    @property
    def normal(self) -> np.ndarray:
        return np.cross(*self.axes)


def check_alike(folder: Path, slices: list[Slice]) -> None:
    first = slices[0]
    for one in slices[1:]:
        for name, here, there, tolerance in (
            ("Columns x Rows", first.size, one.size, 0),
            ("PixelSpacing", first.spacing_mm, one.spacing_mm, PIXEL_SPACING_TOLERANCE_MM),
            ("orientation", first.axes, one.axes, COSINE_TOLERANCE),
        ):
            if np.abs(here - there).max() > tolerance:
                raise InputError(
                    f"{folder}: slices that are no volume, mixed in {name}: {first.path.name} has"
                    f" {in_brackets(here)}, {one.path.name} has {in_brackets(there)}; keep those"
                    " of one acquisition"
                )


def check_places(folder: Path, slices: list[Slice]) -> None:
    if len(slices) < MIN_SLICES:
        raise InputError(
            f"{folder}: {len(slices)} slice(s) are too few for a volume; a CT needs {MIN_SLICES}"
        )
    positions = np.array([s.position_mm for s in slices])
    along = positions @ slices[0].normal
    twice = np.flatnonzero(np.diff(along) < SAME_PLACE_MM)
    if twice.size:
        one, other = slices[twice[0]], slices[twice[0] + 1]
        raise InputError(
            f"{folder}: {twice.size} of {len(slices)} slices lie where another lies already, as"
            f" {one.path.name} and {other.path.name} at {along[twice[0]]:.6g} mm; keep one for each"
            " place (a repeated scan, phase or reconstruction gets its own folder)"
        )
    findings = [_tilt(positions, slices), _gap(along, slices)]
    if any(findings):
        what = " and ".join(finding for finding in findings if finding)
        raise InputError(f"{folder}: {what}; export the series again, whole, even and untilted")
    check_spacing(folder, "distance between slices", np.diff(along[[0, -1]]) / (len(along) - 1))


def _tilt(positions: np.ndarray, slices: list[Slice]) -> str | None:
    """How the slices slide sideways from one to the next, if they do."""
    normal = slices[0].normal
    offsets = positions - positions[0]
    along = offsets @ normal
    drift = offsets[-1] / along[-1]  # mm for each mm along the normal
    degrees = np.degrees(np.arctan(np.linalg.norm(drift - normal)))
    slid_mm = np.linalg.norm(offsets[-1] - along[-1] * normal)
    if np.radians(degrees) > COSINE_TOLERANCE and slid_mm > POSITION_TOLERANCE_MM:
        return f"the slices are sheared by {degrees:.1f} degrees against their normal (gantry tilt)"
    strays_mm = np.linalg.norm(offsets - along[:, None] * drift, axis=1)
    worst = int(np.argmax(strays_mm))
    if strays_mm[worst] > POSITION_TOLERANCE_MM:
        name = slices[worst].path.name
        return f"{name} lies {strays_mm[worst]:.2f} mm sideways of the line through the others"
    return None


def _gap(along: np.ndarray, slices: list[Slice]) -> str | None:
    """Which slices are missing, or how uneven the steps are, if they are not all the same."""
    steps = np.diff(along)
    usual = np.sort(steps)[(len(steps) - 1) // 2]
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() <= min(POSITION_TOLERANCE_MM, usual / 4):
        return None
    whole = np.rint(steps / usual)
    if whole.min() < 1 or np.abs(steps / usual - whole).max() > 0.1 or whole.max() < 2:
        return f"the slices are spaced unevenly, {steps.min():.4g} to {steps.max():.4g} mm"
    gap = int(np.argmax(whole > 1))
    return (
        f"{whole.sum() - len(steps):.0f} slice(s) missing, the first after {slices[gap].path.name}:"
        f" from {along[gap]:.6g} to {along[gap + 1]:.6g} mm there is none (elsewhere one each"
        f" {usual:.4g} mm)"
    )


def affine_of(slices: list[Slice]) -> np.ndarray:
    """Voxel to RAS+ mm of slices in order."""
    first, last = slices[0], slices[-1]
    lps = np.eye(4)
    lps[:3, :2] = first.axes.T * first.spacing_mm
    lps[:3, 2] = (last.position_mm - first.position_mm) / (len(slices) - 1)
    lps[:3, 3] = first.position_mm
    return LPS_TO_RAS @ lps


def in_brackets(numbers: np.ndarray) -> str:
    return "(" + ", ".join(f"{n:.6g}" for n in numbers.flat) + ")"
