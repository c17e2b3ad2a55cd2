"""Synthetic effusions in real chests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from torch import Tensor

from pleural.augmentation.painting import box_of, mottled, noise, noise_sd, uneven
from pleural.prepared import Sample
from pleural.window import value

# By eye, on scans with real ones.
LEVEL_SHARE = 0.3  # have a level surface
HIGHER_MM = (25.0, 60.0)  # how far fluid climbs above its own depth
THINNING = (0.3, 1.2)  # power of the height: the smaller, the blunter the upper end
UNEVEN = 0.25  # standard deviation of the depth along the wall
UNEVEN_VOXELS = (12, 8)
AT_BASE_SHARE = 0.6  # fill the lowest recess, where fluid gathers first
LENGTH_MM = (40.0, 300.0)
ENDS_MM = 25.0  # over which they thin out towards head and feet
COMPRESSED_SHARE = 0.5  # have compressed lung beside them
COMPRESSED_HU = (-250.0, 80.0)
DEEP_MM = 40.0  # fluid as deep as this compresses twice as much of a lung
MOTTLED_MM = 15.0
EDGE_MM = 1.0
KNOWN_SHARE = 0.5  # least share of fluid with which a voxel of unknown label becomes known
BLURRED = (0.1, 1.0)  # share of the compressed lung's width over which it gives way to air


class RandEffusion(RandomizableTransform):
    """Pours synthetic fluid into the chest, between one lung and the wall it lies on.

    The patient is taken to lie on the back. The fluid is deepest at the lowest point of each slice
    and thins out upwards along the wall and the mediastinum, as free fluid does; or it has a level
    surface. Lung next to it may be compressed. What is poured adds to the label, so few scans with
    small effusions stand for many with effusions of every size, and no scan needs to be labelled
    for it: sides and slices without fluid are as good.

    Args:
        prob: of pouring at all.
        window_hu: what -1 and 1 of the image stand for.
        thickness_mm: least and greatest depth of the fluid; as likely to be halved as doubled.
        fluid_hu: mean and standard deviation, between effusions, of its HU.
        noise: least and greatest standard deviation within one, as a share of the scan's own.
        rim_mm: greatest width of compressed lung beside thin fluid; twice that at 40 mm of fluid.
    """

    def __init__(
        self,
        prob: float,
        window_hu: Sequence[float],
        thickness_mm: Sequence[float],
        fluid_hu: Sequence[float],
        noise: Sequence[float],
        rim_mm: float,
    ) -> None:
        super().__init__(prob)
        self.window_hu = window_hu
        self.thickness_mm = np.array(thickness_mm)
        self.fluid_hu = fluid_hu
        self.noise = noise
        self.rim_mm = rim_mm

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        depth_mm = sample["lung_depth_mm"][0]
        sides = [side for side in (-1, 1) if (side * depth_mm > 0).any()]
        if not (self._do_transform and sides):
            return sample
        depth_mm = self.R.choice(sides) * depth_mm
        box = box_of(depth_mm > 0)  # a fraction of the patch
        image, label = sample["image"].clone(), sample["label"].clone()
        spacing_mm = [float(mm) for mm in sample["spacing_mm"]]
        depth_mm = depth_mm[box].clamp(min=0)
        sd = noise_sd(image[0], self.window_hu) * self.R.uniform(*self.noise)
        image[0][box], share = self._poured(image[0][box], depth_mm, spacing_mm, sd)
        before = label[0][box]  # negative where it is unknown, as what is little of fluid stays
        known = share > torch.where(before < 0, KNOWN_SHARE, 0.0)
        label[0][box] = torch.where(known, torch.maximum(before, share), before)
        return {**sample, "image": image, "label": label}

    def _poured(
        self, image: Tensor, depth_mm: Tensor, spacing_mm: Sequence[float], sd: float
    ) -> tuple[Tensor, Tensor]:
        """The image with fluid, and the share of each voxel that is fluid."""
        thickness = np.exp(self.R.uniform(*np.log(self.thickness_mm)))
        inside_mm, extent = self._shape(depth_mm, spacing_mm, thickness)
        share = (inside_mm / spacing_mm[0] + 0.5).clamp(0, 1) * (depth_mm > 0)
        mean = value(self.R.normal(*self.fluid_hu), self.window_hu)
        fluid = mean + noise(self.R, image.shape, sd)
        if self.R.random() < COMPRESSED_SHARE:
            width_mm = self.R.uniform(0, self.rim_mm * (1 + thickness / DEEP_MM))
            beyond_mm = (inside_mm + width_mm * extent) * (depth_mm > 0)
            image = self._compressed(image, beyond_mm, width_mm, spacing_mm, sd)
        return torch.lerp(image, fluid, share), share

    def _shape(
        self, depth_mm: Tensor, spacing_mm: Sequence[float], thickness: float
    ) -> tuple[Tensor, Tensor]:
        """How far inside the fluid each voxel lies, and its extent, 1 where deepest.

        Over ``(X, Y, Z)``, of which axes may be left out where all along them is the same.
        """
        in_slice = (depth_mm > 0).any(dim=0)
        lowest = in_slice.float().argmax(dim=0)
        height_mm = (torch.arange(len(in_slice))[:, None] - lowest + 0.5) * spacing_mm[1]
        along = self._along(in_slice.any(dim=0), spacing_mm[2])
        if self.R.random() < LEVEL_SHARE:
            return thickness * along - height_mm, along
        top_mm = thickness + self.R.uniform(*HIGHER_MM)
        thinner = (1 - height_mm / top_mm).clamp(0, 1) ** self.R.uniform(*THINNING)
        waves = 1 + UNEVEN * uneven(self.R, in_slice.shape, UNEVEN_VOXELS)
        extent = (thinner * along * waves).clamp(min=0)
        return thickness * extent - depth_mm, extent

    def _along(self, slices: Tensor, slice_mm: float) -> Tensor:
        """``(Z,)``, 0 to 1: the slices that the fluid reaches, thinning out at both ends."""
        low, high = np.flatnonzero(slices.numpy())[[0, -1]] * slice_mm
        if self.R.random() < AT_BASE_SHARE:
            start, stop = low - ENDS_MM, low + self.R.uniform(*LENGTH_MM)
        else:
            start = self.R.uniform(low - ENDS_MM, high)
            stop = start + self.R.uniform(*LENGTH_MM)
        z_mm = torch.arange(len(slices)) * slice_mm
        return torch.minimum(z_mm - start, stop - z_mm).div(ENDS_MM).clamp(0, 1)

    def _compressed(
        self,
        image: Tensor,
        beyond_mm: Tensor,
        width_mm: float,
        spacing_mm: Sequence[float],
        sd: float,
    ) -> Tensor:
        """Denser lung, with its vessels, where ``beyond_mm`` is above 0."""
        blurred_mm = max(width_mm * self.R.uniform(*BLURRED), EDGE_MM)
        mean_hu = self.R.uniform(*COMPRESSED_HU)
        step = [MOTTLED_MM / mm for mm in spacing_mm]
        tissue = mottled(self.R, image.shape, mean_hu, sd, step, self.window_hu)
        return torch.lerp(image, image.maximum(tissue), (beyond_mm / blurred_mm).clamp(0, 1))
