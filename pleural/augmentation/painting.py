"""What synthetic findings are painted with: densities, noise, smooth unevenness, boxes, blobs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from torch import Tensor
from torch.nn.functional import interpolate

from pleural.prepared import Sample

REACH = 1.7  # of a blob's radius, beyond which nothing of it is left
LOBED = 0.35  # standard deviation of its radius, as a share of it
STRETCHED = 0.4  # log of the greatest factor on an axis
MOTTLED_HU = (0.0, 20.0)  # unevenness of tissue


def value(hu: float, window_hu: Sequence[float]) -> float:
    """Of ``hu`` in an image whose -1 and 1 stand for the ends of ``window_hu``."""
    return difference(hu - window_hu[0], window_hu) - 1


def difference(hu: float, window_hu: Sequence[float]) -> float:
    """Between two values of such an image that lie ``hu`` apart."""
    low, high = window_hu
    return hu * 2 / (high - low)


def noise(random: np.random.RandomState, shape: Sequence[int], sd: float) -> Tensor:
    """Of standard deviation ``sd``; each voxel shares half of it with its neighbours in plane.

    So does the noise of a scan that was brought to 2 mm. White noise would give away what was
    painted.
    """
    generator = torch.Generator().manual_seed(int(random.randint(2**31)))
    n_x, n_y, n_z = shape
    white = torch.randn((n_x + 1, n_y + 1, n_z), generator=generator)
    along_x = white[1:] + white[:-1]
    return (along_x[:, 1:] + along_x[:, :-1]) * (sd / 2)


def uneven(random: np.random.RandomState, shape: Sequence[int], step: Iterable[float]) -> Tensor:
    """Standard normal values some ``step`` voxels apart on each axis, linear between them."""
    coarse = [1 + max(1, round(n / s)) for n, s in zip(shape, step, strict=True)]
    drawn = torch.from_numpy(random.normal(size=(1, 1, *coarse))).float()
    mode = "bilinear" if len(coarse) == 2 else "trilinear"
    return interpolate(drawn, tuple(shape), mode=mode, align_corners=True)[0, 0]


def cell_of(edge_mm: float, spacing_mm: Iterable[float]) -> list[int]:
    """Voxels along X, Y and Z of a cube with such an edge, one at least."""
    return [max(1, round(edge_mm / float(mm))) for mm in spacing_mm]


def repeated(cells: Tensor, cell: Sequence[int], shape: Sequence[int]) -> Tensor:
    """``(1, ...)``, a value for each ``cell`` of voxels, to ``(X, Y, Z)`` of ``shape``."""
    voxels = cells[0]
    for axis, (n, size) in enumerate(zip(cell, shape, strict=True)):
        voxels = voxels.repeat_interleave(n, dim=axis).narrow(axis, 0, size)
    return voxels


def box_of(where: Tensor) -> tuple[slice, ...]:
    """The smallest one, along X, Y and Z, that holds all of ``where``, which holds something."""
    planes = where.any(dim=0)
    found = (where.any(dim=1).any(dim=1), planes.any(dim=1), planes.any(dim=0))
    ends = [axis.nonzero().flatten()[[0, -1]].tolist() for axis in found]
    return tuple(slice(first, last + 1) for first, last in ends)


class Blob(NamedTuple):
    """A lobed ellipsoid somewhere in a patch.

    ``inside`` is ``(X, Y, Z)`` of ``box``: 1 at the middle, 0 at the surface, in radii from it.
    """

    box: tuple[slice, ...]
    radius_mm: float
    radii: np.ndarray  # voxels, along X, Y and Z
    inside: Tensor


def blob(
    random: np.random.RandomState,
    where: Tensor,
    radius_mm: Sequence[float],
    spacing_mm: Sequence[float],
) -> Blob | None:
    """One with its middle in ``where``, ``(X, Y, Z)``; ``None`` where that holds nothing.

    ``radius_mm``: least and greatest; as likely to be halved as doubled.
    """
    places = np.flatnonzero(where.numpy())
    if not places.size:
        return None
    middle = np.unravel_index(random.choice(places), where.shape)
    radius = float(np.exp(random.uniform(*np.log(radius_mm))))
    stretch = np.exp(random.uniform(-STRETCHED, STRETCHED, 3))
    radii = radius * stretch / np.asarray(spacing_mm, np.float64)
    box = tuple(
        slice(max(0, math.floor(c - REACH * r)), min(n, math.ceil(c + REACH * r) + 1))
        for c, r, n in zip(middle, radii, where.shape, strict=True)
    )
    x, y, z = (
        torch.arange(part.start - int(c), part.stop - int(c)) / float(r)
        for part, c, r in zip(box, middle, radii, strict=True)
    )
    distance = ((x**2)[:, None, None] + (y**2)[:, None] + z**2).sqrt()
    inside = 1 - distance + LOBED * uneven(random, distance.shape, 0.6 * radii)
    return Blob(box, radius, radii, inside)


class RandTissue(RandomizableTransform):
    """Paints a blob of tissue, of one density but for unevenness and noise; the label stays.

    Args:
        prob: of doing so.
        window_hu: what -1 and 1 of the image stand for.
        radius_mm: least and greatest; as likely to be halved as doubled.
        tissue_hu: least and greatest mean HU.
        noise_hu: least and greatest standard deviation of HU within one.
    """

    blur_mm: tuple[float, float]  # from nothing to all of it

    def __init__(
        self,
        prob: float,
        window_hu: Sequence[float],
        radius_mm: Sequence[float],
        tissue_hu: Sequence[float],
        noise_hu: Sequence[float],
    ) -> None:
        super().__init__(prob)
        self.window_hu = window_hu
        self.radius_mm = radius_mm
        self.tissue_hu = tissue_hu
        self.noise_hu = noise_hu

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        middles, room = self.places(sample)
        painted = blob(self.R, middles, self.radius_mm, sample["spacing_mm"])
        if painted is None:
            return sample
        inside = self.shaped(painted)
        share = (inside * (painted.radius_mm / self.R.uniform(*self.blur_mm)) + 0.5).clamp(0, 1)
        tissue = self._tissue(painted)
        image = sample["image"].clone()
        part = image[0][painted.box]
        image[0][painted.box] = torch.lerp(part, self.over(part, tissue), share * room[painted.box])
        return {**sample, "image": image}

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Where its middle may lie, and what may be painted over; each ``(X, Y, Z)``."""
        raise NotImplementedError

    def shaped(self, painted: Blob) -> Tensor:
        """``inside`` of the blob, or of what is left of it."""
        return painted.inside

    def over(self, part: Tensor, tissue: Tensor) -> Tensor:
        """What is seen where all of a voxel of ``part`` is painted."""
        return tissue

    def _tissue(self, painted: Blob) -> Tensor:
        shape = painted.inside.shape
        mean = value(self.R.uniform(*self.tissue_hu), self.window_hu)
        unevenness = difference(self.R.uniform(*MOTTLED_HU), self.window_hu)
        sd = difference(self.R.uniform(*self.noise_hu), self.window_hu)
        tissue = mean + noise(self.R, shape, sd)
        return tissue + unevenness * uneven(self.R, shape, painted.radii / 3)
