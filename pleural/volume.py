"""Voxels that know where they lie.

Arrays are ``(X, Y, Z)``. An affine maps voxel indices to RAS+ millimetres as in NIfTI: world x
grows to the patient's Right, y to Anterior, z to Superior. Codes such as ``"LPS"`` name the
direction in which the index of each array axis grows.

Crop, flip and resampling keep the affine true, so whatever was done to a volume is undone by one
call: ``result.onto(source)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # takes a while to import, so not before it is needed

AXIS_CODES = (("L", "R"), ("P", "A"), ("I", "S"))
OBLIQUE_TOLERANCE_VOXELS = 0.01


@dataclass(frozen=True, eq=False)
class Volume:
    """An array of voxels and the affine that places them in the patient.

    Args:
        array: ``(X, Y, Z)``, any real dtype. Not copied: treat it as read-only.
        affine: ``(4, 4)``, voxel index (of a voxel's centre) to RAS+ mm.

    Raises:
        ValueError: the array is not three-dimensional or has an empty axis, or the affine is not
            a finite, invertible 4x4 matrix.

    >>> import numpy as np
    >>> mask = Volume(np.ones((4, 4, 2)), np.diag([2.0, 2.0, 5.0, 1.0]))
    >>> mask.spacing_mm, round(mask.voxel_ml, 6)
    ((2.0, 2.0, 5.0), 0.02)
    >>> mask.resampled((1, 1, None)).shape
    (8, 8, 2)
    """

    array: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise ValueError(f"a volume has three axes, none empty; got shape {self.array.shape}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise ValueError(f"an affine is a finite 4x4 matrix; got {self.affine.tolist()}")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise ValueError(f"the affine has no volume: {self.affine.tolist()}")

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.array.shape
        return x, y, z

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres (1 mL = 1000 mm³)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    @property
    def nonzero_ml(self) -> float:
        """Volume in millilitres of the voxels that are not zero: of a mask, what it marks."""
        return float(np.count_nonzero(self.array) * self.voxel_ml)

    @property
    def codes(self) -> str:
        """Nearest anatomical direction in which each axis' index grows, such as ``"LPS"``."""
        axes, signs = _closest_axes(self.affine)
        return "".join(AXIS_CODES[w][int(sign > 0)] for w, sign in zip(axes, signs, strict=True))

    def heights_mm(self) -> np.ndarray:
        """Of an upright volume (RAS+), ``(Z,)``: where the middle of each slice lies.

        Along the patient's long axis, growing towards the head.
        """
        x, y, n = self.shape
        middles = np.stack([np.full(n, x / 2), np.full(n, y / 2), np.arange(n), np.ones(n)])
        return (self.affine @ middles)[2]

    def with_array(self, array: np.ndarray) -> Volume:
        """Other values on the same grid."""
        if array.shape != self.array.shape:
            raise ValueError(f"array {array.shape} is not on the grid {self.shape}")
        return Volume(array, self.affine)

    def reoriented(self, codes: str = "RAS") -> Volume:
        """Axes permuted and flipped so that they grow towards ``codes``; no value changes.

        An oblique volume stays oblique: its axes are the nearest to those asked for.
        """
        if sorted(codes.translate(str.maketrans("LPI", "RAS"))) != ["A", "R", "S"]:
            raise ValueError(f"codes name each of L/R, P/A and I/S once; got {codes!r}")
        axes, signs = _closest_axes(self.affine)
        order = []
        for code in codes:
            wanted = next(i for i, pair in enumerate(AXIS_CODES) if code in pair)
            order.append(axes.index(wanted))
        flips = [(signs[a] > 0) != (c in "RAS") for a, c in zip(order, codes, strict=True)]
        steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        array = self.array.transpose(order)[steps]
        to_old = np.zeros((4, 4))
        to_old[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            to_old[old, new] = -1 if flip else 1
            to_old[old, 3] = self.shape[old] - 1 if flip else 0
        return Volume(array, self.affine @ to_old)

    def cropped(self, box: Sequence[slice]) -> Volume:
        """The voxels of ``box``, one slice per axis with plain bounds (no step)."""
        starts = [axis.indices(size)[0] for axis, size in zip(box, self.shape, strict=True)]
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ starts
        return Volume(self.array[tuple(box)], affine)

    def resampled(self, spacing_mm: Sequence[float | None], fill: float = 0.0) -> Volume:
        """The same extent at another spacing, the first corner kept; ``None`` leaves an axis.

        The last voxel of an axis may reach beyond the old extent by less than one new voxel.
        Values as in :meth:`onto`.
        """
        old = self.spacing_mm
        new = [o if n is None else float(n) for o, n in zip(old, spacing_mm, strict=True)]
        if min(new) <= 0:
            raise ValueError(f"spacing must be positive; got {tuple(spacing_mm)} mm")
        scale = np.array(new) / old
        shape = np.maximum(1, np.ceil(np.array(self.shape) / scale - 1e-3)).astype(int)
        to_old = np.diag([*scale, 1.0])
        to_old[:3, 3] = (scale - 1) / 2
        return self._sampled(tuple(shape.tolist()), self.affine @ to_old, fill)

    def onto(self, grid: Volume, fill: float = 0.0) -> Volume:
        """This volume's values at the voxels of ``grid``, matched in world space, as float32.

        Along each axis a target voxel takes the mean over its own width (never less than one
        source voxel): linear interpolation where the target is as fine or finer, the averaged
        share where it is coarser. A binary mask therefore comes down as occupancy (0 to 1), and a
        probability goes up smoothly. What lies beyond this volume does not count; voxels that are
        all beyond it get ``fill``, with which those of a turned grid blend over the last half
        voxel. Grids that only differ by flips, permutations and whole-voxel shifts agree exactly.
        """
        return self._sampled(grid.shape, grid.affine, fill)

    def _sampled(self, shape: tuple[int, ...], affine: np.ndarray, fill: float) -> Volume:
        to_self = np.linalg.inv(self.affine) @ affine  # target voxel -> source voxel
        source_axes = [int(np.argmax(np.abs(column))) for column in to_self[:3, :3].T]
        scale = to_self[source_axes, [0, 1, 2]]
        slack = to_self[:3, :3].copy()
        slack[source_axes, [0, 1, 2]] = 0
        aligned = (np.abs(slack) @ shape < OBLIQUE_TOLERANCE_VOXELS).all()
        if not aligned or len(set(source_axes)) < 3:
            return Volume(_oblique(self, shape, affine, to_self, fill), affine)
        offset = to_self[source_axes, 3]
        array = self.array.transpose(source_axes)
        outside = []
        for axis in sorted(range(3), key=lambda a: -abs(scale[a])):  # shrink first, then grow
            centres = scale[axis] * np.arange(shape[axis]) + offset[axis]
            size = array.shape[axis]
            half = abs(scale[axis]) / 2 - 1e-6
            outside.append((axis, (centres + half < -0.5) | (centres - half > size - 0.5)))
            array = _resampled_axis(array, axis, centres, abs(scale[axis]))
        array = np.ascontiguousarray(array, dtype=np.float32)
        for axis, beyond in outside:
            if beyond.any():
                np.moveaxis(array, axis, 0)[beyond] = fill
        return Volume(array, affine)


def box_around(marked: np.ndarray, margins: Sequence[int]) -> tuple[slice, ...]:
    """The smallest box that holds all of ``marked`` (bool), and so many voxels more on each side.

    It begins within the array; where it ends beyond, slicing cuts it off.
    """
    from scipy.ndimage import find_objects  # slow to import

    (found,) = find_objects(marked.view(np.uint8))
    return tuple(
        slice(max(0, part.start - margin), part.stop + margin)
        for part, margin in zip(found, margins, strict=True)
    )


def _closest_axes(affine: np.ndarray) -> tuple[list[int], list[float]]:
    """World axis (0 x, 1 y, 2 z) nearest to each array axis, each used once, and its sign."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sizes = np.abs(cosines)
    best = max(permutations(range(3)), key=lambda p: sum(sizes[w, a] for a, w in enumerate(p)))
    return list(best), [float(np.sign(cosines[w, a])) for a, w in enumerate(best)]


def _resampled_axis(array: np.ndarray, axis: int, centres: np.ndarray, width: float) -> np.ndarray:
    """Mean of ``array`` over a box of ``width`` voxels (at least 1) around each of ``centres``."""
    size = array.shape[axis]
    if len(centres) == size and np.abs(centres - np.arange(size)).max() < 1e-4:
        return array
    weights = _box_weights(size, centres, width)
    # Planes are taken as they lie in memory, whichever way round that is.
    if array.strides[0] < array.strides[2]:
        return _product(weights, array.T, 2 - axis).T
    return _product(weights, array, axis)


def _box_weights(size: int, centres: np.ndarray, width: float) -> csr_array:
    """``(len(centres), size)``: each voxel's share of each box; rows add up to 1 or are empty."""
    from scipy.sparse import csr_array

    half = max(width, 1.0) / 2
    voxels = np.arange(size)
    low = np.maximum(voxels - 0.5, centres[:, None] - half)
    high = np.minimum(voxels + 0.5, centres[:, None] + half)
    share = high - low
    share[share < 1e-6] = 0
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-6)
    return csr_array(share.astype(np.float32))


def _product(weights: csr_array, array: np.ndarray, axis: int) -> np.ndarray:
    """Each line of ``array`` along ``axis``, multiplied by ``weights``, as float32."""
    n_new, n_old = weights.shape
    if axis == 0:
        flat = array.reshape(n_old, -1).astype(np.float32)
        return (weights @ flat).reshape(n_new, *array.shape[1:])
    shape = [n_new if a == axis else size for a, size in enumerate(array.shape)]
    result = np.empty(shape, np.float32)
    for old, new in zip(array, result, strict=True):
        if axis == 1:
            new[...] = weights @ old.astype(np.float32)
        else:
            new[...] = (weights @ old.T.astype(np.float32, order="C")).T
    return result


def _oblique(
    volume: Volume, shape: tuple[int, ...], affine: np.ndarray, to_self: np.ndarray, fill: float
) -> np.ndarray:
    """Linear interpolation on a grid turned against ``volume``, averaged first where coarser."""
    from scipy.ndimage import affine_transform  # slow to import, rarely needed

    step = np.abs(to_self[:3, :3]).max(axis=1)  # source voxels per target voxel
    if (step > 1.5).any():
        coarse = volume.resampled(np.maximum(step, 1) * volume.spacing_mm)
        to_self, volume = np.linalg.inv(coarse.affine) @ affine, coarse
    return affine_transform(
        volume.array.astype(np.float32),
        to_self[:3, :3],
        to_self[:3, 3],
        output_shape=shape,
        order=1,
        mode="grid-constant",
        cval=fill,
    )
