"""Where in a scan an effusion could lie that is not there: in place of lung, and below it.

By thresholds, as all that is needed is a room to pour synthetic fluid into (see
:class:`pleural.augmentation.RandEffusion`), not the anatomy itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pleural.body import axial_disc
from pleural.volume import Volume

AIR_BELOW_HU = -500
DENSE_ABOVE_HU = 100  # bone and vessels with contrast, which fluid does not replace
BONE_ABOVE_HU = 300
# How far the pleural space goes on below the lung, for want of fluid empty: some 50 mm at quiet
# breathing (Gray's Anatomy, 20th edition), less in the deep breath of a scan.
RECESS_MM = 40.0
# And how wide fluid opens it, from the wall inwards; farther in lies the dome of the diaphragm.
SULCUS_MM = 20.0
LEAST_ML = 200.0  # smaller parts full of air are bowel or stomach
LEAST_CM2 = 6.0  # and smaller ones in a slice the windpipe and its branches
IN_SLICE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])[..., None] * [0, 1, 0]
VESSELS_MM = 8.0  # what is thinner than twice this inside a lung belongs to it


def lung_depth_mm(scan: Volume, prepared: Volume, label: np.ndarray) -> np.ndarray:
    """How far each voxel of ``prepared`` lies inside its lung, from its surface, in mm.

    With the lung goes the recess below it, between ribs and diaphragm, where fluid gathers first:
    the places that have lung within ``RECESS_MM`` above them, and lie within ``SULCUS_MM`` of that
    lung's sides.

    Args:
        scan: in HU, on any grid.
        prepared: RAS+; only its grid counts.
        label: ``(X, Y, Z)`` on that grid, the share of each voxel that is effusion: no lung.

    Returns:
        float32 ``(X, Y, Z)``: positive in the patient's right lung, negative in the left, 0
        elsewhere. A lung that the scan cuts off is as deep at the cut as it is inside.
    """
    airy = _share(scan, scan.array < AIR_BELOW_HU, prepared)
    air = _air_inside(prepared.with_array(airy >= 0.5))
    depth = np.zeros(air.shape, np.float32)
    if not air.any():
        return depth
    dense, bone = (
        _share(scan, scan.array > hu, prepared) >= 0.5 for hu in (DENSE_ABOVE_HU, BONE_ABOVE_HU)
    )
    # The body's, not the lungs': one of them may be drowned.
    middle = round(float(np.average(np.arange(air.shape[0]), weights=(1 - airy).sum(axis=(1, 2)))))
    for side, half in ((-1, slice(None, middle)), (1, slice(middle, None))):
        (box,) = ndimage.find_objects(air[half].astype(np.uint8)) or [None]
        if box is not None:
            box = (*box[:2], slice(None))  # head and feet of the scan itself
            lung = _filled(air[half][box], prepared.spacing_mm) & ~dense[half][box]
            below = _below(lung, prepared.spacing_mm[2])
            inside = below & (lung | ~bone[half][box]) & (label[half][box] < 0.5)
            inside_mm = _depth_mm(inside, prepared.spacing_mm)
            open_to_fluid = lung | _near_sides(lung, prepared.spacing_mm)
            depth[half][box] = side * np.where(open_to_fluid, inside_mm, 0)
    return depth


def _share(scan: Volume, where: np.ndarray, grid: Volume) -> np.ndarray:
    return scan.with_array(where.view(np.uint8)).onto(grid).array


def _air_inside(air: Volume) -> np.ndarray:
    """Large parts full of air that do not reach the sides of the grid, as the air around does."""
    parts, n_parts = ndimage.label(air.array)
    large = np.bincount(parts.ravel(), minlength=n_parts + 1) * air.voxel_ml >= LEAST_ML
    for face in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        large[np.unique(face)] = False
    large[0] = False
    pieces, _ = ndimage.label(large[parts], IN_SLICE)
    voxel_cm2 = air.spacing_mm[0] * air.spacing_mm[1] / 100
    wide = np.bincount(pieces.ravel()) * voxel_cm2 >= LEAST_CM2
    wide[0] = False
    inside: np.ndarray = wide[pieces]
    return inside


def _filled(air: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """With the vessels in it, closed slice by slice."""
    disc = axial_disc(VESSELS_MM, spacing_mm)
    rx, ry = (size // 2 for size in disc.shape[:2])
    framed = np.pad(air, ((rx, rx), (ry, ry), (0, 0)))  # or the frame would be eroded from
    closed: np.ndarray = ndimage.binary_closing(framed, disc)[rx:-rx, ry:-ry]
    return closed


def _below(lung: np.ndarray, slice_mm: float) -> np.ndarray:
    """Lung, and what has some within ``RECESS_MM`` above it."""
    below = lung.copy()
    for n_slices in range(1, 1 + round(RECESS_MM / slice_mm)):
        below[..., :-n_slices] |= lung[..., n_slices:]
    return below


def _near_sides(lung: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Below a lung, or in it, within ``SULCUS_MM`` of the widest outline that it has above."""
    framed = np.pad(lung, ((1, 1), (1, 1), (0, 0)))
    widest = np.logical_or.accumulate(framed[..., ::-1], axis=-1)[..., ::-1]
    near = np.zeros_like(lung)
    for z in range(lung.shape[-1]):
        far_mm = ndimage.distance_transform_edt(widest[..., z], sampling=spacing_mm[:2])
        near[..., z] = far_mm[1:-1, 1:-1] < SULCUS_MM
    return near


def _depth_mm(lung: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """From the nearest voxel outside; beyond the scan's head and feet, lung goes on."""
    framed = np.pad(lung, ((1, 1), (1, 1), (0, 0)))
    framed = np.pad(framed, ((0, 0), (0, 0), (1, 1)), "edge")
    far: np.ndarray = ndimage.distance_transform_edt(framed, sampling=spacing_mm)
    return far[1:-1, 1:-1, 1:-1]
