"""How a predicted mask agrees with a reference, one case at a time.

An empty mask never makes a number that is not one: what each number is then stands at
:func:`agreement` and, as a table, in ``docs/metrics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from monai.metrics.utils import get_code_to_measure_table
from scipy.ndimage import find_objects
from scipy.spatial import KDTree

from pleural.dice import dice
from pleural.errors import InputError
from pleural.volume import Volume

SAME_GRID_VOXELS = 0.01
HAUSDORFF_SHARE = 0.95
# Distances are sums of spacings, and a spacing read from an affine is off by its last digits: a
# surface one slice of 3 mm away lies within 3 mm, whichever way the scan is turned.
ROUNDING_MM = 1e-3


@dataclass(frozen=True)
class Agreement:
    """A case on its own grid: volumes in mL, shares from 0 (none) to 1 (all), HD95 in mm.

    ``sensitivity`` is the share of the reference that was found, ``precision`` the share of the
    prediction that is right. ``None``: undefined (see :func:`agreement`).
    """

    reference_ml: float
    predicted_ml: float
    dice: float
    nsd: float
    hd95_mm: float
    sensitivity: float | None
    precision: float | None

    @property
    def volume_error_ml(self) -> float:
        """Predicted minus reference: positive where too much was found."""
        return self.predicted_ml - self.reference_ml

    @property
    def absolute_volume_error_ml(self) -> float:
        return abs(self.volume_error_ml)


@dataclass(frozen=True)
class Surface:
    """The surface of a mask in small pieces: where they lie and how large they are.

    Args:
        points_mm: ``(n, 3)``, from the corner of the grid, along its axes.
        areas_mm2: ``(n,)``.
    """

    points_mm: np.ndarray
    areas_mm2: np.ndarray


def agreement(prediction: Volume, reference: Volume, tolerance_mm: float) -> Agreement:
    """Compare two masks on one grid; voxels that are not 0 belong to a mask.

    ``nsd`` is the surface Dice at a tolerance (Nikolov et al. 2021, doi 10.2196/26151): the share
    of both surfaces' area that lies no further than ``tolerance_mm`` from the other surface.
    ``hd95_mm`` is the larger of the two directed 95th percentiles: the distance within which 95 %
    of the area of either surface lies from the other. Where a mask reaches the edge of the scan,
    the edge is its surface.

    - Reference there, prediction empty (missed): Dice, NSD, sensitivity and precision 0, HD95 the
      diagonal of the scan's field of view.
    - Reference empty, prediction there (false alarm): the same, sensitivity undefined.
    - Both empty: Dice and NSD 1, HD95 0, sensitivity and precision undefined.

    Raises:
        InputError: the grids differ in shape or by more than a hundredth of a voxel.
    """
    _refuse_other_grid(prediction, reference)
    box = _box(prediction.array, reference.array)
    if box is None:
        return Agreement(0.0, 0.0, 1.0, 1.0, 0.0, None, None)
    # Compared within the box around both masks: around it there is nothing but scan.
    predicted, actual = prediction.cropped(box), reference.cropped(box)
    p, r = predicted.array != 0, actual.array != 0
    in_p, in_r, in_both = (int(np.count_nonzero(mask)) for mask in (p, r, p & r))
    if in_p and in_r:
        nsd, hd95_mm = _surface_agreement(_surface(predicted), _surface(actual), tolerance_mm)
    else:
        nsd, hd95_mm = 0.0, _diagonal_mm(reference)
    return Agreement(
        reference_ml=actual.nonzero_ml,
        predicted_ml=predicted.nonzero_ml,
        dice=dice(p, r),
        nsd=nsd,
        hd95_mm=hd95_mm,
        sensitivity=in_both / in_r if in_r else None,
        precision=in_both / in_p if in_p else 0.0,
    )


def _diagonal_mm(grid: Volume) -> float:
    """From corner to corner of the field of view: no two surfaces in it are further apart."""
    return float(np.linalg.norm(np.multiply(grid.shape, grid.spacing_mm)))


def _refuse_other_grid(prediction: Volume, reference: Volume) -> None:
    if prediction.shape != reference.shape:
        apart = ""
    else:
        drift = np.abs(np.linalg.inv(reference.affine) @ prediction.affine - np.eye(4))
        voxels = (drift @ [*reference.shape, 1]).max()
        if voxels <= SAME_GRID_VOXELS:
            return
        apart = f", up to {voxels:.2g} voxels apart"
    raise InputError(
        f"the prediction has {_described(prediction)}, the reference {_described(reference)}"
        f"{apart}: bring the prediction onto the grid of the reference"
    )


def _described(grid: Volume) -> str:
    size, spacing = (" x ".join(f"{n:g}" for n in ns) for ns in (grid.shape, grid.spacing_mm))
    origin = ", ".join(f"{mm:g}" for mm in grid.affine[:3, 3])
    return f"{size} voxels of {spacing} mm, {grid.codes} from ({origin}) mm"


def _box(*masks: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box around all of the masks, ``None`` where they are empty."""
    union = np.logical_or.reduce([mask != 0 for mask in masks])
    return next(iter(find_objects(union.view(np.uint8))), None)


def _surface(mask: Volume) -> Surface:
    """Wherever 2 x 2 x 2 neighbouring voxels are not all alike, a piece of surface lies between.

    Its area follows from which of the eight belong to the mask (Nikolov et al. 2021): a code of
    eight bits, built here axis by axis. MONAI has the table of areas and the whole metric too, but
    as a convolution that takes tens of seconds where a stray voxel makes the box as large as the
    scan, and its HD95 counts voxels whatever their area.
    """
    code = np.pad(mask.array != 0, 1).view(np.uint8)
    code = 2 * code[:, :, :-1] + code[:, :, 1:]
    code = 4 * code[:, :-1] + code[:, 1:]
    code = 16 * code[:-1] + code[1:]
    edge = np.argwhere((code != 0) & (code != 255))
    areas_mm2 = get_code_to_measure_table(mask.spacing_mm)[0].numpy()
    return Surface(edge * mask.spacing_mm, areas_mm2[code[tuple(edge.T)]].astype(np.float64))


def _surface_agreement(a: Surface, b: Surface, tolerance_mm: float) -> tuple[float, float]:
    """NSD and HD95 of two surfaces, neither of them empty."""
    near_mm2, hd95_mm = 0.0, 0.0
    for one, other in ((a, b), (b, a)):
        distances_mm, _ = KDTree(other.points_mm).query(one.points_mm)
        near_mm2 += one.areas_mm2[distances_mm <= tolerance_mm + ROUNDING_MM].sum()
        hd95_mm = max(hd95_mm, _percentile(distances_mm, one.areas_mm2))
    return float(near_mm2 / (a.areas_mm2.sum() + b.areas_mm2.sum())), hd95_mm


def _percentile(distances_mm: np.ndarray, areas_mm2: np.ndarray) -> float:
    """The least distance within which 95 % of the area lies."""
    order = np.argsort(distances_mm)
    area_mm2 = np.cumsum(areas_mm2[order])
    return float(distances_mm[order][np.searchsorted(area_mm2, HAUSDORFF_SHARE * area_mm2[-1])])
