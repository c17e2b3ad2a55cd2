"""How much fluid, on which side, how deep and how dense: an effusion's mask in numbers.

Lengths are in mm, volumes in mL. Within this file arrays are ``(X, Y, Z)`` in RAS+ order, the
voxel axes nearest to Right, Anterior and Superior: an oblique scan is measured on its own slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pleural.midline import midline
from pleural.size import detected, size_class
from pleural.volume import Volume

COLLECTION_ML = 1.0  # connected parts below this are specks
GAP_MM = 3.0  # a vessel, a septum or a missing voxel does not end the fluid
CORRIDOR_MM = 60.0  # about half a hemithorax
OVERHANG = 0.5  # of the distance from the midline; see _of_each_side
NECK = 0.5  # of a tongue's mean cross-section; see _of_each_side


@dataclass(frozen=True)
class Measurement:
    """An effusion in plain values; the order of the fields is that of the columns of a table.

    Args:
        volume_ml: of all voxels of the mask, specks included.
        right_ml, left_ml: of the patient; they add up to ``volume_ml``.
        sides_sure: enough of the body is in view to tell its sides; see
            :class:`pleural.midline.Midline`. True where the mask is empty.
        depth_mm: see :func:`greatest_depth_mm`; 0 where the mask is empty.
        size: ``"none"`` (empty mask), ``"small"``, ``"moderate"``, ``"large"``; see
            :func:`pleural.size.size_class`.
        mean_hu, sd_hu: of the scan's voxels inside the mask (the standard deviation is that of the
            population, divided by n); ``None`` where the mask is empty.
        collections: parts of at least 1 mL, connected over faces, edges or corners of voxels.
            Effusions of both sides that touch count as two.
        edge_share: how much of the effusion's surface (mm² of voxel faces) lies on the border of
            the scan, 0 to 1: what the scan cut open.
        lower_bound: the effusion reaches the border of the scan; there may be more beyond.
        effusion: ``volume_ml`` reaches the detection threshold and is not 0.
    """

    volume_ml: float
    right_ml: float
    left_ml: float
    sides_sure: bool
    depth_mm: float
    size: str
    mean_hu: float | None
    sd_hu: float | None
    collections: int
    edge_share: float
    lower_bound: bool
    effusion: bool

    def __str__(self) -> str:
        """In a line, for a person."""
        at_least = "at least " if self.lower_bound else ""
        if not self.effusion:
            return f"no effusion ({at_least}{self.volume_ml:.1f} mL)"
        sides = f"right {self.right_ml:.0f}, left {self.left_ml:.0f}"
        sides += "" if self.sides_sure else ", sides unsure"
        depth = f"{self.size}, {self.depth_mm:.0f} mm deep"
        return f"{at_least}{self.volume_ml:.0f} mL ({sides}), {depth}"


def measure(mask: Volume, scan: Volume, detection_ml: float) -> Measurement:
    """The effusion that ``mask`` marks in ``scan``.

    Args:
        mask: above 0 where there is fluid, on the grid of ``scan``; axes in any order, oblique too.
        scan: in HU. Only the patient's midline and the fluid's HU are taken from it.
        detection_ml: the least volume that is called an effusion.

    Raises:
        ValueError: the grids differ.
        InputError: there is fluid, but no body in the scan.
    """
    if mask.shape != scan.shape or not np.allclose(mask.affine, scan.affine, atol=1e-3):
        raise ValueError(f"the mask {mask.shape} is not on the grid of the scan {scan.shape}")
    mask, scan = mask.reoriented(), scan.reoriented()
    (box,) = ndimage.find_objects((mask.array > 0).astype(np.uint8), max_label=1)
    if box is None:
        return Measurement(0.0, 0.0, 0.0, True, 0.0, "none", None, None, 0, 0.0, False, False)
    fluid = mask.array[box] > 0
    hu = scan.array[box][fluid].astype(np.float64)
    middle = midline(scan)
    parts_ml = mask.voxel_ml * _of_each_side(fluid, box, middle.plane, mask.spacing_mm[0])
    right_ml, left_ml = parts_ml.sum(axis=1).tolist()
    depth = greatest_depth_mm(fluid, scan.spacing_mm)
    edge_share = _edge_share(fluid, box, mask)
    volume_ml = len(hu) * mask.voxel_ml
    return Measurement(
        volume_ml=volume_ml,
        right_ml=right_ml,
        left_ml=left_ml,
        sides_sure=middle.sure,
        depth_mm=depth,
        size=size_class(depth),
        mean_hu=float(hu.mean()),
        sd_hu=float(hu.std()),
        collections=int(np.count_nonzero(parts_ml >= COLLECTION_ML)),
        edge_share=edge_share,
        lower_bound=edge_share > 0,
        effusion=detected(volume_ml, detection_ml),
    )


def greatest_depth_mm(fluid: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Greatest depth of the fluid (bool, RAS+) on an axial slice, square to the chest wall.

    It is the diameter of the widest disc that fits into the fluid of a slice. The disc touches the
    parietal pleura on one side and the visceral on the other, so that its diameter is the way
    through at a right angle to the wall, wherever the layer lies and without knowing the lung;
    what is narrower than deep, as a tongue beside the spine, is not measured lengthwise. In a
    hemithorax filled from back to front the disc would stop at the mediastinum, so where fluid is
    6 cm wide or more, the depth is that of a corridor 6 cm wide from back to front, if greater.
    """
    slices = (fluid[..., k] for k in range(fluid.shape[2]))
    return max(_slice_depth_mm(part, spacing_mm) for part in slices if part.any())


def _slice_depth_mm(part: np.ndarray, spacing_mm: Sequence[float]) -> float:
    x_mm, y_mm = spacing_mm[:2]
    half_mm = x_mm / 2, y_mm / 2
    (box,) = ndimage.find_objects(part.astype(np.uint8))
    # On half pixels, the middle of a layer of n pixels is n half pixels from what lies beyond.
    half_pixels = part[box].repeat(2, axis=0).repeat(2, axis=1)
    radius_mm = ndimage.distance_transform_edt(_closed(half_pixels, half_mm), sampling=half_mm)
    widest_mm = 2 * float(radius_mm.max())
    if widest_mm < CORRIDOR_MM:
        return widest_mm
    centres, _ = ndimage.label(radius_mm >= CORRIDOR_MM / 2, [[0, 0, 0], [1, 1, 1], [0, 0, 0]])
    longest = int(np.bincount(centres.ravel())[1:].max())
    # The first centre and the last are so many half pixels from what lies beyond, one of them own.
    beyond = math.ceil(CORRIDOR_MM / 2 / half_mm[1] - 1e-6)
    return max(widest_mm, (longest - 2 + 2 * beyond) * half_mm[1])


def _closed(part: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """``part`` with its gaps bridged, and a margin around it."""
    margins = [int(GAP_MM / mm) + 2 for mm in spacing_mm]
    padded = np.pad(part, [(margin, margin) for margin in margins])
    wider = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= GAP_MM / 2
    return ndimage.distance_transform_edt(wider, sampling=spacing_mm) > GAP_MM / 2


def _of_each_side(
    fluid: np.ndarray, box: tuple[slice, ...], plane: np.ndarray, x_mm: float
) -> np.ndarray:
    """``(2, 1 + parts)``: voxels on the right and the left of each connected part of ``fluid``.

    A part that crosses the midline is either one effusion with a tongue that reaches over, before
    the spine or behind the heart, or two effusions that touch. A tongue stays close to the
    midline, and is as thick there as elsewhere: where the middle voxel of the smaller share is less
    than half as far away as that of the larger share, and the neck at the midline is at least half
    as large as the mean cross-section of the smaller share (which is taken to be twice as long as
    its middle voxel is away), the part is one. Else the midline divides it.

    Args:
        x_mm: of a voxel; the neck is measured within as much to either side.
    """
    labels, n_parts = ndimage.label(fluid, np.ones((3, 3, 3)))
    x, y, z = np.ogrid[box]
    right_mm = (plane[0] * x + plane[1] * y + (plane[2] * z + plane[3]))[fluid]
    part, sides = labels[fluid], (right_mm > 0, right_mm <= 0)
    counts = np.array([np.bincount(part[side], minlength=n_parts + 1) for side in sides])
    crossing = np.flatnonzero(counts.all(axis=0))
    if not len(crossing):
        return counts
    medians = [ndimage.median(np.abs(right_mm[side]), part[side], crossing) for side in sides]
    necks = np.bincount(part[np.abs(right_mm) <= x_mm], minlength=n_parts + 1) / (2 * x_mm)
    for at, away in zip(crossing, np.transpose(medians), strict=True):
        larger = int(counts[:, at].argmax())
        broad = necks[at] * 2 * away[1 - larger] >= NECK * counts[1 - larger, at]
        if broad and away[1 - larger] < OVERHANG * away[larger]:
            counts[larger, at] = counts[:, at].sum()
            counts[1 - larger, at] = 0
    return counts


def _edge_share(fluid: np.ndarray, box: tuple[slice, ...], grid: Volume) -> float:
    """Share of the surface of ``fluid``, which fills ``box`` of ``grid``, on the grid's border."""
    total = cut = 0.0
    for axis, (part, size) in enumerate(zip(box, grid.shape, strict=True)):
        face_mm2 = float(np.delete(grid.spacing_mm, axis).prod())
        layers = np.moveaxis(fluid, axis, 0)
        first, last = np.count_nonzero(layers[0]), np.count_nonzero(layers[-1])
        total += face_mm2 * (np.count_nonzero(layers[1:] != layers[:-1]) + first + last)
        cut += face_mm2 * ((part.start == 0) * first + (part.stop == size) * last)
    return float(cut / total)
