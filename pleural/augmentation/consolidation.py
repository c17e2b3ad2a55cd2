"""Synthetic tumours and consolidations in real lungs: dense as fluid, and no effusion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.transforms import RandomizableTransform
from torch import Tensor

from pleural.augmentation.painting import Blob, blob, mottled, uneven
from pleural.prepared import Sample

DEEP_MM = 4.0  # in a lung, where its middle lies
BLUR_MM = (2.0, 12.0)  # from lung to tissue
AERATED_SHARE = 0.5  # of them hold air, as infiltrates do
AIR_MM = 8.0  # across


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
        self.radius_mm = radius_mm
        self.tissue_hu = tissue_hu
        self.noise_hu = noise_hu

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        depth_mm = sample["lung_depth_mm"][0].abs()
        filled = blob(self.R, depth_mm > DEEP_MM, self.radius_mm, sample["spacing_mm"])
        if filled is None:
            return sample
        share = self._share(filled) * (depth_mm[filled.box] > 0)
        tissue = mottled(self.R, filled, self.tissue_hu, self.noise_hu, self.window_hu)
        image = sample["image"].clone()
        part = image[0][filled.box]
        image[0][filled.box] = torch.lerp(part, torch.maximum(part, tissue), share)
        return {**sample, "image": image}

    def _share(self, filled: Blob) -> Tensor:
        """``(X, Y, Z)``, 0 to 1: how much of each voxel is tissue, whatever lies there."""
        inside = filled.inside
        if self.R.random() < AERATED_SHARE:
            air_voxels = AIR_MM * filled.radii / filled.radius_mm
            air = uneven(self.R, inside.shape, air_voxels) - self.R.uniform(0.3, 1.2)
            inside = inside - 1.5 * air.clamp(min=0)
        return (inside * (filled.radius_mm / self.R.uniform(*BLUR_MM)) + 0.5).clamp(0, 1)
