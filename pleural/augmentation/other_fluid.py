"""Fluid outside the pleural space: dense as an effusion, and none."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import max_pool3d

from pleural.augmentation.painting import RandTissue, cell_of, repeated, value
from pleural.prepared import Sample

FAT_HU = (-200.0, -20.0)
CLEAR_MM = 8.0  # from lung and effusion, at least: fat there may border on fluid


class RandOtherFluid(RandTissue):
    """Soaks some of the fat away from the lungs: ascites, oedema, or tissue of a breast.

    Muscle, organs and walls stay, and so does the label. Beside few bodies, a network learns that
    what has the density of fluid is effusion, wherever it lies.
    """

    blur_mm = (4.0, 30.0)

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        low, high = (value(hu, self.window_hu) for hu in FAT_HU)
        image = sample["image"][0]
        fat = (image > low) & (image < high) & ~_near_pleura(sample)
        return fat, fat


def _near_pleura(sample: Sample) -> Tensor:
    """``(X, Y, Z)``: within ``CLEAR_MM`` of lung, recess and what may be effusion, or a bit off."""
    pleural = (sample["lung_depth_mm"] != 0) | (sample["label"] != 0)
    cell = cell_of(CLEAR_MM, sample["spacing_mm"])
    cells = max_pool3d(pleural.float(), cell, ceil_mode=True)
    near = max_pool3d(cells, 3, stride=1, padding=1) > 0
    return repeated(near, cell, pleural.shape[1:])
