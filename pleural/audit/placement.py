"""Whether a mask lies where its fluid lies: its grid, its flips, and a border amid fluid.

As in :mod:`pleural.audit.suspicions`, scan (HU) and mask (boolean) are RAS+ on one grid and the
mask is not empty; only grids are compared as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
from scipy import ndimage

from pleural.audit.suspicions import (
    DETAIL,
    PARTLY,
    WRONG,
    Region,
    Suspicion,
    beyond,
    outside_fluid,
    shifted,
)
from pleural.volume import AXIS_CODES, Volume, box_around

FLIPS = ("left to right", "front to back", "head to foot")
SAME_ANGLE_DEG, SAME_SPACING, SAME_CORNER_VOXELS = 0.1, 0.01, 0.1
LEAST_COVERAGE = 0.95  # a mask loses less by resampling
COARSER_BY = 1.5
OUTWARD_MM = 4.0  # past the blur of the border, within the thinnest of what bounds fluid
BETTER_BY = 1.5  # on sound masks no flip fits better at all, but mirrored effusions come close
FINE_MM = 2.0
CLIP_HU = (-1024, 300)
SAME_HU = 15.0  # half of the step from fluid to muscle, liver or collapsed lung
REACH_MM, REACH_VOXELS = 8.0, (3, 3, 2)  # the same densities must go on so far, past any blur
ABRUPT_SHARE = 0.2  # of the mask's largest slice; up to 0.1 on sound masks


def grid_difference(mask: Volume, scan: Volume) -> str:
    """How the grid of a mask differs from that of its scan, in words; ``"same"`` if it does not."""
    pairs = list(zip(mask.codes, scan.codes, strict=True))
    if all(_axis(own) == _axis(other) for own, other in pairs):
        flipped = [FLIPS[_axis(own)] for own, other in pairs if own != other]
        differences = [f"flipped {' and '.join(flipped)}"] if flipped else []
    else:
        differences = [f"axes in the order {mask.codes} instead of {scan.codes}"]
    mask = mask.reoriented(scan.codes)
    if not np.allclose(mask.spacing_mm, scan.spacing_mm, rtol=SAME_SPACING):
        differences.append(f"voxels of {_size(mask)} instead of {_size(scan)}")
    cosines = np.sum(mask.affine[:3, :3] * scan.affine[:3, :3], axis=0)
    cosines /= np.multiply(mask.spacing_mm, scan.spacing_mm)
    degrees = float(np.degrees(np.arccos(cosines.clip(-1, 1))).max())
    corners = (_corners(mask) - _corners(scan)) / scan.spacing_mm
    if degrees > SAME_ANGLE_DEG:
        differences.append(f"turned by {degrees:.1f} degrees")
    elif np.abs(corners).max() > SAME_CORNER_VOXELS:
        differences.append("another extent")
    return ", ".join(differences) or "same"


def grid_suspicions(mask: Volume, scan: Volume, placed_ml: float) -> Iterator[Suspicion]:
    """What a mask loses on the way to its scan's grid, on which it holds ``placed_ml``."""
    share = placed_ml / mask.nonzero_ml
    if share < LEAST_COVERAGE:
        yield Suspicion(PARTLY, f"only {share:.0%} of the mask lies on its scan")
    coarser = np.array(mask.reoriented().spacing_mm) / scan.reoriented().spacing_mm
    if coarser.max() > COARSER_BY:
        sizes = f"voxels of {_size(mask)}, the scan of {_size(scan)}"
        yield Suspicion(DETAIL, f"the mask is coarser than its scan: it has {sizes}")


def flip_suspicions(
    scan: Volume, mask: np.ndarray, fluid_hu: Sequence[float]
) -> Iterator[Suspicion]:
    """Whether the mask fits better when mirrored about the scan's centre.

    Pairing a mask with its scan by arrays alone, without their affines, leaves such flips.
    """
    reach = [max(1, round(OUTWARD_MM / mm)) for mm in scan.spacing_mm]
    box = box_around(mask, reach)
    own, rims = mask[box], list(_rims(mask[box], reach))
    fits = {}
    for flips in product((False, True), repeat=3):
        axes = tuple(axis for axis in range(3) if flips[axis])
        fluid = ~outside_fluid(np.flip(scan.array, axes)[box], fluid_hu)
        bounded = np.concatenate([fluid[inside] & ~fluid[outside] for inside, outside in rims])
        fits[axes] = float(fluid[own].mean()), float(bounded.mean())
    best = max(fits, key=lambda axes: fits[axes][0] * fits[axes][1])
    (inside, rim), (inside_then, rim_then) = fits[()], fits[best]
    better = inside_then * rim_then / max(inside * rim, 1e-6)
    if best and better > BETTER_BY:
        how = " and ".join(FLIPS[axis] for axis in best)
        place = Region(scan, mask, scan.affine).place(mask)
        sentence = (
            f"the mask lies better when flipped {how}: {inside_then:.0%} instead of {inside:.0%} of"
            f" it in fluid densities, {rim_then:.0%} instead of {rim:.0%} of its border against"
            " lung, fat or bone"
        )
        yield Suspicion(beyond(better, BETTER_BY, WRONG), sentence, place)


@dataclass(frozen=True, eq=False)
class Border:
    """The surface of a mask, and what of it has no edge in the scan: the densities go on.

    Args:
        region: the surroundings, about 2 mm in plane.
        area_cm2: of the whole surface.
        open_cm2: what is open of it, by voxel of the mask.
        ends_cm2: what is open of it towards the feet and towards the head, by voxel.
    """

    region: Region
    area_cm2: float
    open_cm2: np.ndarray
    ends_cm2: tuple[np.ndarray, np.ndarray]

    @property
    def open_share(self) -> float:
        return float(self.open_cm2.sum() / self.area_cm2)

    @property
    def largest_cm2(self) -> float:
        """Area of the mask in the slice with most of it."""
        return float(self.region.mask.sum(axis=(0, 1)).max() * _face_cm2(self.region.scan, 2))


def border(region: Region) -> Border:
    """Find where a mask ends although the tissue does not.

    The scan is averaged to 2 mm in plane and smoothed. A face of the surface is open where all that
    lies within 8 mm outwards (at least three voxels, or two slices) is within 15 HU of the mask's
    own median. What bounds a whole effusion differs by more: lung, fat, bone, muscle, liver,
    collapsed lung.
    """
    region = _averaged(region)
    scan, mask = region.scan, region.mask
    smooth = ndimage.gaussian_filter(scan.array, (1, 1, 0.5))
    core = ndimage.binary_erosion(mask, np.ones((3, 3, 1)))
    same = np.abs(smooth - np.median(smooth[core if core.any() else mask])) < SAME_HU
    area_cm2, opened = 0.0, []
    for axis, sign in product(range(3), (-1, 1)):
        face_cm2 = _face_cm2(scan, axis)
        faces = mask & ~shifted(mask, axis, sign)
        area_cm2 += float(np.count_nonzero(faces) * face_cm2)
        reach = max(REACH_VOXELS[axis], ceil(REACH_MM / scan.spacing_mm[axis] - 0.01))
        for step in range(1, reach + 1):
            faces &= shifted(same & ~mask, axis, sign * step)
        opened.append(faces * np.float32(face_cm2))
    return Border(region, area_cm2, np.sum(opened, axis=0), (opened[4], opened[5]))


def border_suspicions(surface: Border, most_open: float) -> Iterator[Suspicion]:
    """A mask that leaves out part of its effusion, at its sides or at its ends."""
    if surface.open_share > most_open:
        sentence = (
            f"beyond {surface.open_share:.0%} of the mask's border ({surface.open_cm2.sum():.0f} of"
            f" {surface.area_cm2:.0f} cm²) the same densities go on: incomplete?"
        )
        weight = beyond(surface.open_share, most_open, PARTLY)
        yield Suspicion(weight, sentence, surface.region.place(surface.open_cm2 > 0))
    for end_cm2, where in zip(surface.ends_cm2, ("below", "above"), strict=True):
        by_slice = end_cm2.sum(axis=(0, 1))
        share = float(by_slice.max() / surface.largest_cm2)
        if share > ABRUPT_SHARE:
            place = surface.region.place(end_cm2 > 0)
            sentence = (
                f"the mask ends abruptly {where} slice {place[2] + 1}, where"
                f" {by_slice.max():.1f} cm² of the same densities go on"
            )
            yield Suspicion(beyond(share, ABRUPT_SHARE, DETAIL), sentence, place)


def _averaged(region: Region) -> Region:
    """About 2 mm in plane, without the outliers of air and metal."""
    x_mm, y_mm, _ = region.scan.spacing_mm
    fine = (max(x_mm, FINE_MM), max(y_mm, FINE_MM), None)
    scan = region.scan.with_array(np.clip(region.scan.array, *CLIP_HU)).resampled(fine)
    share = region.scan.with_array(region.mask.astype(np.uint8)).resampled(fine).array
    mask = share >= min(0.5, share.max())  # at a half, a mask of a voxel or two would vanish
    return Region(scan, mask, region.whole)


def _face_cm2(grid: Volume, axis: int) -> float:
    """Area of a voxel's side that looks along ``axis``."""
    return grid.voxel_ml / grid.spacing_mm[axis] * 10


def _rims(
    mask: np.ndarray, reach: Sequence[int]
) -> Iterator[tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]]:
    """Voxels at the border within the slices, and the voxels ``reach`` further out."""
    for axis, sign in product((0, 1), (-1, 1)):
        inside = np.nonzero(mask & ~shifted(mask, axis, sign))
        outside = list(inside)
        limit = mask.shape[axis] - 1
        outside[axis] = (inside[axis] + sign * reach[axis]).clip(0, limit)
        yield inside, tuple(outside)


def _axis(code: str) -> int:
    return next(axis for axis, pair in enumerate(AXIS_CODES) if code in pair)


def _size(volume: Volume) -> str:
    return " x ".join(f"{mm:.3g}" for mm in volume.spacing_mm) + " mm"


def _corners(volume: Volume) -> np.ndarray:
    """Where the grid begins and ends, in its own axes' directions from the world's origin, mm."""
    ends = np.array([[-0.5] * 3, np.array(volume.shape) - 0.5])
    world = ends @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return world @ (volume.affine[:3, :3] / volume.spacing_mm)
