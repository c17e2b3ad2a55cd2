"""Analytic shapes in patient millimetres, painted in HU on a grid of voxels.

A shape is a function of position that is about its signed distance in mm near the surface, negative
inside. World axes as everywhere: x to the Right, y to Anterior, z to Superior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

import numpy as np

from pleural.volume import Volume

Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]
EVERYWHERE: Box = (slice(None), slice(None), slice(None))


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxel centres lie: ``x``, ``y`` and ``z`` in mm, each broadcastable to ``shape``.

    A coordinate has length 1 along the array axes it does not depend on, so that on an aligned
    grid most of a shape is computed on lines and planes, and an oblique one needs no other code.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    affine: np.ndarray

    @classmethod
    def of(cls, shape: Sequence[int], affine: np.ndarray) -> Grid:
        x, y, z = (_coordinate(row, shape) for row in affine[:3])
        return cls(x, y, z, affine)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(self.x.shape, self.y.shape, self.z.shape)

    @cached_property
    def edge_mm(self) -> float:
        """Width of a surface's partial volume: the finest spacing."""
        return float(np.linalg.norm(self.affine[:3, :3], axis=0).min())

    @property
    def voxel_ml(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    def voxels(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Indices of the voxels nearest to ``points`` ``(N, 3)``, clipped to the grid."""
        index = np.linalg.solve(self.affine[:3, :3], (points - self.affine[:3, 3]).T)
        return tuple(
            np.rint(i).astype(int).clip(0, n - 1) for i, n in zip(index, self.shape, strict=True)
        )

    def box(self, low: np.ndarray, high: np.ndarray) -> Box:
        """Voxels around the block of space from ``low`` to ``high`` mm."""
        corners = np.array(list(product(*zip(low, high, strict=True))))
        x, y, z = (slice(int(i.min()), int(i.max()) + 1) for i in self.voxels(corners))
        return x, y, z

    def cropped(self, box: Box) -> Grid:
        """Coordinates inside ``box``; the affine stays that of the whole grid."""
        x, y, z = (part(c, box) for c in (self.x, self.y, self.z))
        return Grid(x, y, z, self.affine)


def _coordinate(row: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    coordinate = np.full((1, 1, 1), row[3])
    for axis, size in enumerate(shape):
        if row[axis] != 0:
            line = row[axis] * np.arange(size)
            coordinate = coordinate + line.reshape([-1 if a == axis else 1 for a in range(3)])
    return coordinate.astype(np.float32)


def part(array: np.ndarray, box: Box) -> np.ndarray:
    """``array[box]``, where axes of length 1 stand for every index."""
    return array[tuple(s if n > 1 else slice(None) for s, n in zip(box, array.shape, strict=True))]


def smooth_min(a: np.ndarray, b: np.ndarray, blend_mm: float) -> np.ndarray:
    """Union of two shapes with the crease between them filled to about ``blend_mm``."""
    crease = np.maximum(blend_mm - np.abs(a - b), 0)
    return np.minimum(a, b) - crease * crease * (0.25 / blend_mm)


def smooth_max(a: np.ndarray, b: np.ndarray, blend_mm: float) -> np.ndarray:
    """Intersection of two shapes with its edge rounded to about ``blend_mm``."""
    return -smooth_min(-a, -b, blend_mm)


def superellipse(
    x: np.ndarray, y: np.ndarray, a_mm: float, b_mm: float, power: float
) -> np.ndarray:
    """Radius relative to the superellipse with half-axes ``a_mm`` and ``b_mm``: 1 on it.

    Never 0, so that it can be divided by.
    """
    radius = (np.abs(x / a_mm) ** power + np.abs(y / b_mm) ** power) ** (1 / power)
    return np.maximum(radius, 1e-3)


def ellipsoid(grid: Grid, centre: Point, radii_mm: Point, turn_deg: float = 0.0) -> np.ndarray:
    """An ellipsoid turned about its vertical axis, counter-clockwise seen from above.

    An infinite third radius makes it an upright cylinder.
    """
    turn = np.deg2rad(turn_deg)
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    dx, dy, dz = (c - o for c, o in zip((grid.x, grid.y, grid.z), centre, strict=True))
    if turn_deg:
        dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
    scaled = [d / r for d, r in zip((dx, dy, dz), radii_mm, strict=True)]
    radius = np.sqrt(sum(s * s for s in scaled))
    slope = np.sqrt(sum((s / r) ** 2 for s, r in zip(scaled, radii_mm, strict=True)))
    return radius * (radius - 1) / np.maximum(slope, 1e-6)


def capsule(grid: Grid, start: Point, end: Point, radius_mm: float) -> np.ndarray:
    """All that lies within ``radius_mm`` of the segment from ``start`` to ``end``."""
    along = [e - s for s, e in zip(start, end, strict=True)]
    dx, dy, dz = (c - s for c, s in zip((grid.x, grid.y, grid.z), start, strict=True))
    length2 = max(sum(a * a for a in along), 1e-6)
    share = ((dx * along[0] + dy * along[1] + dz * along[2]) / length2).clip(0, 1)
    across = [d - share * a for d, a in zip((dx, dy, dz), along, strict=True)]
    return np.sqrt(sum(d * d for d in across)) - radius_mm


def texture(rng: np.random.Generator, grid: Grid, cell_mm: float) -> np.ndarray:
    """Smooth random values of about unit spread that vary over ``cell_mm``; they fill ±300 mm."""
    cells = int(np.ceil(600 / cell_mm)) + 1
    lattice = 1.5 * rng.standard_normal((cells, cells, cells), dtype=np.float32)
    affine = np.diag([cell_mm, cell_mm, cell_mm, 1.0])
    affine[:3, 3] = -300
    target = Volume(np.broadcast_to(np.float32(0), grid.shape), grid.affine)
    return Volume(lattice, affine).onto(target).array


@dataclass(frozen=True, eq=False)
class Canvas:
    """HU values under the brush: what is painted later covers what was there."""

    grid: Grid
    hu: np.ndarray

    def occupancy(self, distance_mm: np.ndarray, soft_mm: float = 0.0) -> np.ndarray:
        """Share of each voxel inside a shape, 0 to 1; ``soft_mm`` widens its edge."""
        return (0.5 - distance_mm / (self.grid.edge_mm + soft_mm)).clip(0, 1)

    def fill(
        self,
        distance_mm: np.ndarray,
        hu: float | np.ndarray,
        *,
        box: Box = EVERYWHERE,
        where: np.ndarray | None = None,
        soft_mm: float = 0.0,
    ) -> None:
        """Paint a shape given on ``box``, thinned by ``where``, an occupancy of the whole grid."""
        share = self.occupancy(distance_mm, soft_mm)
        if where is not None:
            share = share * where[box]
        below = self.hu[box]
        below += share * (np.asarray(hu, dtype=np.float32) - below)

    def ellipsoid(
        self,
        centre: Point,
        radii_mm: Point,
        hu: float,
        *,
        turn_deg: float = 0.0,
        where: np.ndarray | None = None,
        soft_mm: float = 0.0,
    ) -> None:
        reach = np.array([max(radii_mm[:2])] * 2 + [radii_mm[2]]) + 2 * self.grid.edge_mm + soft_mm
        box = self.grid.box(centre - reach, centre + reach)
        shape = ellipsoid(self.grid.cropped(box), centre, radii_mm, turn_deg)
        self.fill(shape, hu, box=box, where=where, soft_mm=soft_mm)

    def tube(
        self, points: Sequence[Point], radius_mm: float, hu: float, where: np.ndarray | None = None
    ) -> None:
        """A round tube along the line through ``points``."""
        reach = radius_mm + 2 * self.grid.edge_mm
        for start, end in pairwise(points):
            low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
            box = self.grid.box(low, high)
            shape = capsule(self.grid.cropped(box), start, end, radius_mm)
            self.fill(shape, hu, box=box, where=where)
