"""What synthetic findings are painted with: densities, noise, smooth unevenness, boxes, blobs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate

from pleural.prepared import Sample
from pleural.window import difference, value

REACH = 1.7  # of a blob's radius, beyond which nothing of it is left
LOBED = 0.35  # standard deviation of its radius, as a share of it
STRETCHED = 0.4  # log of the greatest factor on an axis
MOTTLED_HU = (0.0, 20.0)  # unevenness of tissue

IN_PLANE = 0.268  # share of a neighbour's noise: a correlation of 0.25
SOFT_HU = (0.0, 150.0)
LEAST_VOXELS = 1000
TYPICAL_NOISE_HU = 18.0  # seven scans have 18 to 24
MEDIAN_DIFFERENCE = 0.563  # of noise of standard deviation 1 from the mean of 3 x 3 neighbours


def between(image: Tensor, hu: Sequence[float], window_hu: Sequence[float]) -> Tensor:
    """Where an image is within a range of ``hu``, its ends left out."""
    low, high = (value(end, window_hu) for end in hu)
    return (image > low) & (image < high)


def noise(random: np.random.RandomState, shape: Sequence[int], sd: float) -> Tensor:
    """Of standard deviation ``sd``, correlated between neighbours by 0.25 in plane, 0.5 along Z.

    As is, about, that of scans brought to 1.5 or 2 mm, by their soft tissue. White noise would give
    away what was painted.
    """
    generator = torch.Generator().manual_seed(int(random.randint(2**31)))
    n_x, n_y, n_z = shape
    white = torch.randn((n_x + 1, n_y + 1, n_z + 1), generator=generator)
    along_x = white[1:] + IN_PLANE * white[:-1]
    along_y = along_x[:, 1:] + IN_PLANE * along_x[:, :-1]
    return (along_y[..., 1:] + along_y[..., :-1]) * (sd / (1 + IN_PLANE**2) / math.sqrt(2))


def noise_sd(image: Tensor, window_hu: Sequence[float]) -> float:
    """Standard deviation of such noise in the soft tissue of ``image``, ``(X, Y, Z)``.

    From what the values of one slice in four differ from their neighbours'; a typical one where
    there is too little soft tissue.
    """
    slices = image[None, ..., ::4]
    smooth = avg_pool3d(slices, (3, 3, 1), stride=1, padding=(1, 1, 0))
    differences = (slices - smooth)[between(smooth, SOFT_HU, window_hu)].abs()
    if differences.numel() < LEAST_VOXELS:
        return difference(TYPICAL_NOISE_HU, window_hu)
    return float(differences.median()) / MEDIAN_DIFFERENCE


def uneven(random: np.random.RandomState, shape: Sequence[int], step: Iterable[float]) -> Tensor:
    """Standard normal values some ``step`` voxels apart on each axis, linear between them."""
    coarse = [1 + max(1, round(n / s)) for n, s in zip(shape, step, strict=True)]
    drawn = torch.from_numpy(random.normal(size=(1, 1, *coarse))).float()
    mode = "bilinear" if len(coarse) == 2 else "trilinear"
    return interpolate(drawn, tuple(shape), mode=mode, align_corners=True)[0, 0]


def mottled(
    random: np.random.RandomState,
    shape: Sequence[int],
    mean_hu: float,
    sd: float,
    step: Iterable[float],
    window_hu: Sequence[float],
) -> Tensor:
    """Tissue with noise of ``sd``, its density a little other some ``step`` voxels apart."""
    unevenness = difference(random.uniform(*MOTTLED_HU), window_hu)
    tissue = value(mean_hu, window_hu) + noise(random, shape, sd)
    return tissue + unevenness * uneven(random, shape, step)


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
        noise: least and greatest standard deviation within one, as a share of the scan's own.
    """

    blur_mm: tuple[float, float]  # from nothing to all of it

    def __init__(
        self,
        prob: float,
        window_hu: Sequence[float],
        radius_mm: Sequence[float],
        tissue_hu: Sequence[float],
        noise: Sequence[float],
    ) -> None:
        super().__init__(prob)
        self.window_hu = window_hu
        self.radius_mm = radius_mm
        self.tissue_hu = tissue_hu
        self.noise = noise

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
        image = sample["image"].clone()
        tissue = self.tissue(painted, noise_sd(image[0], self.window_hu))
        part = image[0][painted.box]
        image[0][painted.box] = torch.lerp(part, self.over(part, tissue), share * room[painted.box])
        return {**sample, "image": image}

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Where its middle may lie, and what may be painted over; each ``(X, Y, Z)``."""
        raise NotImplementedError

    def shaped(self, painted: Blob) -> Tensor:
        """``inside`` of the blob, or of what is left of it."""
        return painted.inside

    def tissue(self, painted: Blob, own_sd: float) -> Tensor:
        """Over the blob's box, with the noise of a scan that has ``own_sd``."""
        mean_hu = self.R.uniform(*self.tissue_hu)
        sd = own_sd * self.R.uniform(*self.noise)
        shape = painted.inside.shape
        return mottled(self.R, shape, mean_hu, sd, painted.radii / 3, self.window_hu)

    def over(self, part: Tensor, tissue: Tensor) -> Tensor:
        """What is seen where all of a voxel of ``part`` is painted."""
        return tissue
