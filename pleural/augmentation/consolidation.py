"""Synthetic tumours and consolidations in real lungs: dense as fluid, and no effusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from torch import Tensor

from pleural.augmentation.painting import difference, noise, uneven, value
from pleural.prepared import Sample

DEEP_MM = 4.0  # in a lung, where its middle lies
REACH = 1.7  # of its radius, beyond which nothing of it is left
LOBED = 0.35  # standard deviation of its radius, as a share of it
STRETCHED = 0.4  # log of the greatest factor on an axis
BLUR_MM = (2.0, 12.0)  # from lung to tissue
AERATED_SHARE = 0.5  # of them hold air, as infiltrates do
AIR_MM = 8.0  # across
MOTTLED_HU = (0.0, 20.0)  # unevenness of the tissue


class RandConsolidation(RandomizableTransform):
    """Fills a part of a lung with tissue: a tumour, an infiltrate, a collapsed segment.

    Vessels and walls stay, and so does the label. Beside few real ones, a network learns that what
    is dense in a lung is effusion.

    Args:
        prob: of doing so.
        window_hu: what -1 and 1 of the image stand for.
        radius_mm: least and greatest; as likely to be halved as doubled.
        tissue_hu: least and greatest mean HU.
        noise_hu: least and greatest standard deviation of HU within one.
    """

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
        self.log_radius = np.log(radius_mm)
        self.tissue_hu = tissue_hu
        self.noise_hu = noise_hu

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        depth_mm = sample["lung_depth_mm"][0].abs()
        deep = np.flatnonzero(depth_mm.numpy() > DEEP_MM)
        if not deep.size:
            return sample
        middle = np.unravel_index(self.R.choice(deep), depth_mm.shape)
        radius_mm = float(np.exp(self.R.uniform(*self.log_radius)))
        stretch = np.exp(self.R.uniform(-STRETCHED, STRETCHED, 3))
        radii = radius_mm * stretch / np.asarray(sample["spacing_mm"], np.float64)
        box = tuple(
            slice(max(0, math.floor(c - REACH * r)), math.ceil(c + REACH * r) + 1)
            for c, r in zip(middle, radii, strict=True)
        )
        offset = [part.start - c for part, c in zip(box, middle, strict=True)]
        share = self._share(depth_mm[box].shape, offset, radii, radius_mm) * (depth_mm[box] > 0)
        image = sample["image"].clone()
        part = image[0][box]
        image[0][box] = torch.lerp(part, torch.maximum(part, self._tissue(share, radii)), share)
        return {**sample, "image": image}

    def _share(
        self, shape: Sequence[int], offset: Sequence[float], radii: np.ndarray, radius_mm: float
    ) -> Tensor:
        """``(X, Y, Z)``, 0 to 1: how much of each voxel is tissue, whatever lies there."""
        x, y, z = (
            (torch.arange(n) + start) / float(radius)
            for n, start, radius in zip(shape, offset, radii, strict=True)
        )
        distance = ((x**2)[:, None, None] + (y**2)[:, None] + z**2).sqrt()
        inside = 1 - distance + LOBED * uneven(self.R, shape, 0.6 * radii)
        if self.R.random() < AERATED_SHARE:
            air = uneven(self.R, shape, AIR_MM * radii / radius_mm) - self.R.uniform(0.3, 1.2)
            inside = inside - 1.5 * air.clamp(min=0)
        return (inside * (radius_mm / self.R.uniform(*BLUR_MM)) + 0.5).clamp(0, 1)

    def _tissue(self, share: Tensor, radii: np.ndarray) -> Tensor:
        mean = value(self.R.uniform(*self.tissue_hu), self.window_hu)
        mottled = difference(self.R.uniform(*MOTTLED_HU), self.window_hu)
        tissue = mean + mottled * uneven(self.R, share.shape, radii / 3)
        sd = difference(self.R.uniform(*self.noise_hu), self.window_hu)
        return tissue + noise(self.R, share.shape, sd)
