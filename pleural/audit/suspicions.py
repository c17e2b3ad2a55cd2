"""What makes a mask or the scan under it suspicious: pure checks, each with its numbers.

Scan (HU) and mask (boolean) are RAS+ on one grid and the mask is not empty. A suspicion is a reason
to look, not a verdict. Slices are told as viewers count them: from the feet, the lowest is 1.

The limits were set on synthetic chests and on seven scans of PleThora, so that sound masks stay
well below them; each says what it was set against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from pleural.volume import Volume, box_around

# Weights: cannot be used; wrong as a whole; wrong in part; a detail; to be known, no suspicion.
UNUSABLE, WRONG, PARTLY, DETAIL, NOTE = 8.0, 4.0, 2.0, 1.0, 0.0
MOST_TIMES = 3.0  # a number this often beyond its limit weighs no more

AROUND_MM = 20.0  # the mask, what is looked at
AIR_BELOW_HU, BONE_ABOVE_HU = -500, 300
MOST_AIR, MOST_BONE = 0.05, 0.02  # share of the mask; up to 0.037 and 0.007 on real rims
MEDIAN_HU = (-50, 80)  # from thin rims that share their voxels with air or fat, to clotted blood
AIR_PEAK_HU, TISSUE_MEDIAN_HU = (-1100, -750), (-150, 120)  # room air or lung; fat to contrast
TISSUE_ABOVE_HU = -300
MOST_HOLES_ML = 0.2
SPECK_ML, STRAY_MM = 0.1, 20.0  # too small to measure; too far away to be a slip of the pen
MISSING_MM = 15.0  # a reader skips a few slices; what is further apart may be another pocket
MISSING_SHARE = 0.25  # of the usual slice: less is what ragged contours leave
PART_ML = 1.0  # a smaller part has no usual slice
EDGES = (
    *(("left side", 0, 0), ("right side", 0, -1), ("back", 1, 0), ("front", 1, -1)),
    *(("lowest slice", 2, 0), ("highest slice", 2, -1)),
)
TOUCHING = np.ones((3, 3, 3))  # parts that meet in a corner are one


Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Suspicion:
    """How much it weighs, what was found, and the voxel of the RAS+ scan that shows it best."""

    weight: float
    sentence: str
    place: Voxel | None = None


@dataclass(frozen=True, eq=False)
class Region:
    """Scan and mask around the mask, and the affine of the whole RAS+ scan they were cut from."""

    scan: Volume
    mask: np.ndarray
    whole: np.ndarray

    @classmethod
    def around(cls, scan: Volume, mask: np.ndarray) -> Region:
        box = box_around(mask, [math.ceil(AROUND_MM / mm) for mm in scan.spacing_mm])
        return cls(scan.cropped(box), mask[box], scan.affine)

    def place(self, marks: np.ndarray) -> Voxel:
        """Amid those of ``marks`` that lie in the slice with most of them."""
        z = int(marks.sum(axis=(0, 1)).argmax())
        inside = np.argwhere(marks[..., z])
        off_centre = np.linalg.norm(inside - inside.mean(axis=0), axis=1)
        return self.in_scan((*inside[off_centre.argmin()], z))

    def in_scan(self, voxel: Sequence[int]) -> Voxel:
        """A voxel of the region as a voxel of the whole scan."""
        x, y, z = (np.linalg.inv(self.whole) @ self.scan.affine @ [*voxel, 1])[:3].round()
        return int(x), int(y), int(z)


def beyond(value: float, limit: float, weight: float) -> float:
    """``weight`` at the limit, growing with the value, up to three times as much.

    Where the limit is 0, whatever is beyond it weighs most.
    """
    return weight * (min(value / limit, MOST_TIMES) if limit > 0 else MOST_TIMES)


def hu_suspicions(scan: Volume) -> Iterator[Suspicion]:
    """Whether air and tissue lie where HU put them, and what fills the corners of the slices."""
    hu = scan.array[::4, ::4]
    air = _air_peak(hu[hu < TISSUE_ABOVE_HU])
    tissue = float(np.median(hu[hu > TISSUE_ABOVE_HU]))
    if air is None:
        sentence = f"nothing but padding lies below {TISSUE_ABOVE_HU} HU: another slope or offset?"
        yield Suspicion(WRONG, sentence)
    for name, value, (low, high) in (
        ("most air lies near", air, AIR_PEAK_HU),
        ("the median of all tissue is", tissue, TISSUE_MEDIAN_HU),
    ):
        if value is not None and not low <= value <= high:
            expected = f"expected from {low} to {high}"
            yield Suspicion(WRONG, f"{name} {value:.0f} HU ({expected}): another slope or offset?")
    corners = scan.array[[0, 0, -1, -1], [0, -1, 0, -1]]
    if np.ptp(corners) == 0 and corners[0, 0] > AIR_BELOW_HU:
        padding = f"all corners of the slices hold {corners[0, 0]:g} HU"
        yield Suspicion(DETAIL, f"{padding}: padding that looks like tissue", (0, 0, 0))


def _air_peak(thin: np.ndarray) -> float | None:
    """The HU around which most of ``thin`` lies; ``None`` where there is nothing but padding.

    The lowest value is padding, or what was clipped there.
    """
    above = thin[thin > thin.min()] if thin.size else thin
    if not above.size:
        clipped = thin.size and AIR_PEAK_HU[0] <= thin.min() <= AIR_PEAK_HU[1]
        return float(thin.min()) if clipped else None
    counts, edges = np.histogram(above, bins=np.arange(-2000, TISSUE_ABOVE_HU + 1, 20))
    return float(edges[counts.argmax()] + 10)


def outside_fluid(hu: np.ndarray, fluid_hu: Sequence[float]) -> np.ndarray:
    return (hu < fluid_hu[0]) | (hu > fluid_hu[1])


def density_suspicions(
    region: Region, fluid_hu: Sequence[float], most_outside: float
) -> Iterator[Suspicion]:
    """Voxels of the mask that cannot be fluid."""
    hu, mask = region.scan.array, region.mask
    outside = outside_fluid(hu, fluid_hu)
    between = f"outside fluid densities ({fluid_hu[0]:g} to {fluid_hu[1]:g} HU)"
    for marks, limit, weight, where in (
        (outside, most_outside, PARTLY, f"lies {between}"),
        (hu < AIR_BELOW_HU, MOST_AIR, DETAIL, f"is air (below {AIR_BELOW_HU} HU)"),
        (hu > BONE_ABOVE_HU, MOST_BONE, DETAIL, f"is bone or contrast (above {BONE_ABOVE_HU} HU)"),
    ):
        share = float(marks[mask].mean())
        if share > limit:
            worst = region.place(marks & mask)
            sentence = f"{share:.0%} of the mask {where}, most of it in slice {worst[2] + 1}"
            yield Suspicion(beyond(share, limit, weight), sentence, worst)
    median = float(np.median(hu[mask]))
    if not MEDIAN_HU[0] <= median <= MEDIAN_HU[1]:
        expected = f"fluid has {MEDIAN_HU[0]} to {MEDIAN_HU[1]}"
        yield Suspicion(PARTLY, f"the median of the mask is {median:.0f} HU; {expected}")


def hole_suspicions(region: Region, fluid_hu: Sequence[float]) -> Iterator[Suspicion]:
    """Cavities within a slice of the mask that hold fluid; a lung that floats in it is no hole."""
    filled = np.zeros_like(region.mask)
    for z in np.flatnonzero(region.mask.any(axis=(0, 1))):
        filled[..., z] = ndimage.binary_fill_holes(region.mask[..., z])
    holes = filled & ~region.mask & ~outside_fluid(region.scan.array, fluid_hu)
    holes_ml = float(np.count_nonzero(holes) * region.scan.voxel_ml)
    if holes_ml > MOST_HOLES_ML:
        worst = region.place(holes)
        sentence = f"the mask has holes of {holes_ml:.2g} mL, most of it in slice {worst[2] + 1}"
        yield Suspicion(beyond(holes_ml, MOST_HOLES_ML, DETAIL / 2), sentence, worst)


def gap_suspicions(region: Region, fluid_hu: Sequence[float]) -> Iterator[Suspicion]:
    """Slices without mask, or with little, where fluid lies between mask above and mask below.

    Told apart by connected parts, so that a gap on one side shows beside a whole other side.
    """
    mask, spacing_mm = region.mask, region.scan.spacing_mm
    near = range(1, max(1, int(MISSING_MM / spacing_mm[2])) + 1)
    below, above = (
        np.logical_or.reduce([shifted(mask, 2, sign * step) for step in near]) for sign in (-1, 1)
    )
    gap = below & above & ~mask & ~outside_fluid(region.scan.array, fluid_hu)
    parts, n_parts = ndimage.label(gap | mask, TOUCHING)
    drawn, missing = (_slice_sizes(parts, n_parts, marks) for marks in (mask, gap))
    usual = np.array([np.median(sizes[sizes > 0]) if sizes.any() else 0 for sizes in drawn])
    large = drawn.sum(axis=1) * region.scan.voxel_ml > PART_ML
    skipped = (missing > drawn) & (missing > MISSING_SHARE * usual[:, None]) & large[:, None]
    missing_cm2 = (missing * skipped).sum(axis=0) * spacing_mm[0] * spacing_mm[1] / 100
    if skipped.any():
        found, worst = np.flatnonzero(missing_cm2), int(missing_cm2.argmax())
        first = region.in_scan((0, 0, 0))[2] + 1
        sentence = (
            f"the mask skips slice{'s' * (found.size > 1)} {runs_of((first + found).tolist())}, up"
            f" to {missing_cm2[worst]:.1f} cm² of fluid between mask below and above"
        )
        at_worst = gap & skipped[parts, worst] & (np.arange(mask.shape[2]) == worst)
        yield Suspicion(beyond(found.size, 1, DETAIL), sentence, region.place(at_worst))


def _slice_sizes(parts: np.ndarray, n_parts: int, marks: np.ndarray) -> np.ndarray:
    """How many of ``marks`` each labelled part has in each slice: ``(1 + n_parts, slices)``."""
    n_slices = parts.shape[2]
    slices = np.broadcast_to(np.arange(n_slices), parts.shape)
    counts = np.bincount(
        parts[marks] * n_slices + slices[marks], minlength=(1 + n_parts) * n_slices
    )
    return counts.reshape(1 + n_parts, n_slices)


def speck_suspicions(region: Region) -> Iterator[Suspicion]:
    """Tiny parts far from the rest, such as a stray click leaves."""
    parts, n_parts = ndimage.label(region.mask, TOUCHING)
    sizes_ml = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:] * region.scan.voxel_ml
    small = np.flatnonzero(sizes_ml < min(SPECK_ML, sizes_ml.max())) + 1
    if not small.size:
        return
    places_mm = np.argwhere(region.mask) * region.scan.spacing_mm
    part_of = parts[region.mask]
    rest = KDTree(places_mm[~np.isin(part_of, small)])
    away_mm = {n: float(rest.query(places_mm[part_of == n])[0].min()) for n in small.tolist()}
    stray = [n for n, mm in away_mm.items() if mm > STRAY_MM]
    if stray:
        furthest = max(stray, key=lambda n: away_mm[n])
        where, many = region.place(parts == furthest), len(stray) > 1
        sentence = (
            f"{len(stray)} speck{'s' if many else ''} below {SPECK_ML:g} mL"
            f" lie{' up to' if many else 's'} {away_mm[furthest]:.0f} mm from the rest of the mask"
            f" (slice {where[2] + 1})"
        )
        yield Suspicion(DETAIL / 2, sentence, where)


def edge_suspicions(scan: Volume, mask: np.ndarray) -> Iterator[Suspicion]:
    """A mask that the scan cuts off; ``mask`` is that of the whole scan."""
    region = Region(scan, mask, scan.affine)
    for name, axis, end in EDGES:
        if mask.take(end, axis).any():
            cut = np.zeros_like(mask)
            np.moveaxis(cut, axis, 0)[end] = mask.take(end, axis)
            sentence = f"the mask reaches the scan's {name}, which cuts the effusion off"
            yield Suspicion(DETAIL, sentence, region.place(cut))


def shifted(array: np.ndarray, axis: int, step: int) -> np.ndarray:
    """What lies ``step`` voxels further along ``axis``; 0 beyond the edge."""
    out = np.zeros_like(array)
    n = array.shape[axis]
    here, there = slice(max(0, -step), max(0, n - step)), slice(max(0, step), max(0, n + step))
    np.moveaxis(out, axis, 0)[here] = np.moveaxis(array, axis, 0)[there]
    return out


def runs_of(numbers: Sequence[int]) -> str:
    """Runs in short.

    >>> runs_of([3, 4, 5, 9])
    '3-5, 9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
