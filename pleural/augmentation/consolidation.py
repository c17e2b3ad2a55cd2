"""Synthetic tumours and consolidations in real lungs: dense as fluid, and no effusion."""

from __future__ import annotations

import torch
from torch import Tensor

from pleural.augmentation.painting import Blob, RandTissue, uneven
from pleural.prepared import Sample

DEEP_MM = 4.0  # in a lung, where its middle lies
AERATED_SHARE = 0.5  # of them hold air, as infiltrates do
AIR_MM = 8.0  # across


class RandConsolidation(RandTissue):
    """Fills a part of a lung with tissue: a tumour, an infiltrate, a collapsed segment.

    Vessels and walls stay, and so does the label. Beside few real ones, a network learns that what
    is dense in a lung is effusion.
    """

    blur_mm = (2.0, 12.0)

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        depth_mm = sample["lung_depth_mm"][0].abs()
        return depth_mm > DEEP_MM, depth_mm > 0

    def shaped(self, painted: Blob) -> Tensor:
        inside = painted.inside
        if self.R.random() < AERATED_SHARE:
            air_voxels = AIR_MM * painted.radii / painted.radius_mm
            air = uneven(self.R, inside.shape, air_voxels) - self.R.uniform(0.3, 1.2)
            inside = inside - 1.5 * air.clamp(min=0)
        return inside

    def over(self, part: Tensor, tissue: Tensor) -> Tensor:
        return torch.maximum(part, tissue)
