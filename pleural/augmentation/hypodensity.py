"""Organs as dense as fluid, which are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from torch import Tensor, from_numpy
from torch.nn.functional import avg_pool3d, max_pool3d

from pleural.augmentation.painting import RandTissue, cell_of, difference, repeated, value
from pleural.prepared import Sample

SOFT_HU = (10.0, 250.0)  # organs and muscle, with contrast medium or without
CELL_MM = 8.0  # what is at least three of these thick is an organ, or a large muscle
BLOOD_ABOVE_HU = 140.0  # with contrast medium
ALIKE_HU = 30.0  # as far as the density of one organ varies from cell to cell
DARKER_HU = 40.0  # than its organ a voxel is another tissue's


class Organs(NamedTuple):
    """Each ``(1, X, Y, Z)``, of cells; but ``smooth`` and ``room``, of voxels, ``(X, Y, Z)``."""

    cells: Tensor  # mean of their voxels
    middles: Tensor  # those with soft ones all about
    smooth: Tensor  # mean of a voxel and its neighbours in plane
    room: Tensor  # what may be changed


class RandHypodensity(RandTissue):
    """Gives an organ, or a part of it, the density of fluid: a fatty liver, a cyst, a dead tumour.

    One liver in sixteen has 40 HU or less without contrast medium (Boyce et al. 2010, doi
    10.2214/AJR.09.2590), and so may have fluid. Air, fat, dense bone and effusion stay, and so does
    the label. Beside few bodies, a network takes such a liver for a litre of effusion.

    Args:
        diffuse: share of them that take the whole organ, with its own texture, vessels and noise.
    """

    blur_mm = (2.0, 20.0)

    def __init__(
        self,
        prob: float,
        window_hu: Sequence[float],
        radius_mm: Sequence[float],
        tissue_hu: Sequence[float],
        noise: Sequence[float],
        diffuse: float,
    ) -> None:
        super().__init__(prob, window_hu, radius_mm, tissue_hu, noise)
        self.diffuse = diffuse

    def __call__(self, sample: Sample) -> Sample:
        if self.R.random() >= self.diffuse:
            return super().__call__(sample)
        self.randomize(None)
        return self._darkened(sample) if self._do_transform else sample

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        organs = self._organs(sample)
        cell = cell_of(CELL_MM, sample["spacing_mm"])
        organ = repeated(organs.middles, cell, organs.room.shape)
        reach = repeated(_reach(organs.middles), cell, organs.room.shape)
        return organ & organs.room, reach & organs.room

    def _darkened(self, sample: Sample) -> Sample:
        organs = self._organs(sample)
        no_blood = organs.cells[0] < value(BLOOD_ABOVE_HU, self.window_hu)
        middles = (organs.middles[0] & no_blood).numpy()
        if not middles.any():
            return sample
        start = np.unravel_index(self.R.choice(np.flatnonzero(middles)), middles.shape)
        before = float(organs.cells[0][start])
        alike = (organs.cells[0] - before).abs() < difference(ALIKE_HU, self.window_hu)
        parts, _ = ndimage.label(middles & alike.numpy())
        of_organ = from_numpy(parts == parts[start])[None]
        cell = cell_of(CELL_MM, sample["spacing_mm"])
        reach = repeated(_reach(of_organ), cell, organs.room.shape)
        same = organs.smooth > before - difference(DARKER_HU, self.window_hu)
        same = max_pool3d(same[None].float(), (3, 3, 1), stride=1, padding=(1, 1, 0))[0] > 0
        where = reach & organs.room & same
        image = sample["image"].clone()
        image[0][where] += value(self.R.uniform(*self.tissue_hu), self.window_hu) - before
        return {**sample, "image": image}

    def _organs(self, sample: Sample) -> Organs:
        low, high = (value(hu, self.window_hu) for hu in SOFT_HU)
        image = sample["image"]
        cells = avg_pool3d(image, cell_of(CELL_MM, sample["spacing_mm"]), ceil_mode=True)
        soft = ((cells > low) & (cells < high)).float()
        middles = -max_pool3d(-soft, 3, stride=1, padding=1) > 0
        smooth = avg_pool3d(image, (3, 3, 1), stride=1, padding=(1, 1, 0))[0]
        room = (smooth > low) & (image[0] < high) & (sample["label"][0] == 0)
        return Organs(cells, middles, smooth, room)


def _reach(middles: Tensor) -> Tensor:
    """And a cell more than there is soft about them: up to the organ's surface."""
    return max_pool3d(middles.float(), 5, stride=1, padding=2) > 0
