"""Fluid outside the pleural space: dense as an effusion, and none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.transforms import RandomizableTransform
from torch import Tensor
from torch.nn.functional import max_pool3d

from pleural.augmentation.painting import blob, mottled, value
from pleural.prepared import Sample

FAT_HU = (-200.0, -20.0)
CLEAR_MM = 8.0  # from lung and effusion, at least: fat there may border on fluid
BLUR_MM = (4.0, 30.0)  # from fat to fluid


class RandOtherFluid(RandomizableTransform):
    """Soaks some of the fat away from the lungs: ascites, oedema, or tissue of a breast.

    Muscle, organs and walls stay, and so does the label. Beside few bodies, a network learns that
    what has the density of fluid is effusion, wherever it lies.

    Args:
        prob: of doing so.
        window_hu: what -1 and 1 of the image stand for.
        radius_mm: least and greatest; as likely to be halved as doubled.
        fluid_hu: least and greatest mean HU.
        noise_hu: least and greatest standard deviation of HU within one.
    """

    def __init__(
        self,
        prob: float,
        window_hu: Sequence[float],
        radius_mm: Sequence[float],
        fluid_hu: Sequence[float],
        noise_hu: Sequence[float],
    ) -> None:
        super().__init__(prob)
        self.window_hu = window_hu
        self.radius_mm = radius_mm
        self.fluid_hu = fluid_hu
        self.noise_hu = noise_hu
        self.low, self.high = (value(hu, window_hu) for hu in FAT_HU)

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        image = sample["image"]
        fat = (image[0] > self.low) & (image[0] < self.high) & ~_near_pleura(sample)
        soaked = blob(self.R, fat, self.radius_mm, sample["spacing_mm"])
        if soaked is None:
            return sample
        share = (soaked.inside * (soaked.radius_mm / self.R.uniform(*BLUR_MM)) + 0.5).clamp(0, 1)
        fluid = mottled(self.R, soaked, self.fluid_hu, self.noise_hu, self.window_hu)
        image = image.clone()
        part = image[0][soaked.box]
        image[0][soaked.box] = torch.lerp(part, fluid, share * fat[soaked.box])
        return {**sample, "image": image}


def _near_pleura(sample: Sample) -> Tensor:
    """``(X, Y, Z)``: within ``CLEAR_MM`` of lung, recess or effusion, and some voxels beyond."""
    pleural = (sample["lung_depth_mm"] != 0) | (sample["label"] > 0)
    cell = [max(1, round(CLEAR_MM / float(mm))) for mm in sample["spacing_mm"]]
    cells = max_pool3d(pleural.float(), cell, ceil_mode=True)
    near = max_pool3d(cells, 3, stride=1, padding=1)[0] > 0
    for axis, n in enumerate(cell):
        near = near.repeat_interleave(n, dim=axis)
    n_x, n_y, n_z = pleural.shape[1:]
    return near[:n_x, :n_y, :n_z]
