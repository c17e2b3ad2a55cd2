"""Organs as dense as fluid, which are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from torch import Tensor, from_numpy
from torch.nn.functional import avg_pool3d, max_pool3d

from pleural.augmentation.painting import RandTissue, between, box_of, cell_of, repeated
from pleural.prepared import Sample
from pleural.window import difference, value

ORGAN_HU = (10.0, 250.0)  # organs and muscle, with contrast medium or without
CELL_MM = 8.0  # what is at least three of these thick is an organ, or a large muscle
BLOOD_ABOVE_HU = 140.0  # with contrast medium
ALIKE_HU = 30.0  # as far as the density of one organ varies from cell to cell
DARKER_HU = 40.0  # a voxel this much darker than its organ is of another tissue
NEIGHBOURS = ((3, 3, 1), 1, (1, 1, 0))  # in plane: size, stride and padding of a pool


class Organs(NamedTuple):
    """Each ``(1, X, Y, Z)``, of cells of ``cell`` voxels."""

    cell: list[int]
    means: Tensor
    middles: Tensor  # those with soft ones all about


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
        image, label = sample["image"], sample["label"]
        room = self._room(image, _smooth(image), label)
        organ = repeated(organs.middles, organs.cell, room.shape)
        reach = repeated(_reach(organs.middles), organs.cell, room.shape)
        return organ & room, reach & room

    def _darkened(self, sample: Sample) -> Sample:
        organs = self._organs(sample)
        no_blood = organs.means[0] < value(BLOOD_ABOVE_HU, self.window_hu)
        middles = (organs.middles[0] & no_blood).numpy()
        if not middles.any():
            return sample
        start = np.unravel_index(self.R.choice(np.flatnonzero(middles)), middles.shape)
        before = float(organs.means[0][start])
        alike = (organs.means[0] - before).abs() < difference(ALIKE_HU, self.window_hu)
        parts, _ = ndimage.label(middles & alike.numpy())
        reach = _reach(from_numpy(parts == parts[start])[None])
        organ = repeated(reach, organs.cell, sample["image"].shape[1:])
        box = _box_about(organ)
        where = organ[box[1:]] & self._same_tissue(
            sample["image"][box], sample["label"][box], before
        )
        image = sample["image"].clone()
        image[box][0][where] += value(self.R.uniform(*self.tissue_hu), self.window_hu) - before
        return {**sample, "image": image}

    def _organs(self, sample: Sample) -> Organs:
        cell = cell_of(CELL_MM, sample["spacing_mm"])
        means = avg_pool3d(sample["image"], cell, ceil_mode=True)
        soft = between(means, ORGAN_HU, self.window_hu).float()
        return Organs(cell, means, -max_pool3d(-soft, 3, stride=1, padding=1) > 0)

    def _same_tissue(self, image: Tensor, label: Tensor, mean: float) -> Tensor:
        """``(X, Y, Z)``: what is not much darker than ``mean``, or beside such."""
        smooth = _smooth(image)
        same = smooth > mean - difference(DARKER_HU, self.window_hu)
        beside = max_pool3d(same.float(), *NEIGHBOURS)[0] > 0
        return self._room(image, smooth, label) & beside

    def _room(self, image: Tensor, smooth: Tensor, label: Tensor) -> Tensor:
        """``(X, Y, Z)``: what may be changed."""
        low, high = (value(hu, self.window_hu) for hu in ORGAN_HU)
        return (smooth[0] > low) & (image[0] < high) & (label[0] == 0)


def _smooth(image: Tensor) -> Tensor:
    """Mean of a voxel and its neighbours in plane."""
    return avg_pool3d(image, *NEIGHBOURS)


def _reach(middles: Tensor) -> Tensor:
    """And a cell more than there is soft about them: up to the organ's surface."""
    return max_pool3d(middles.float(), 5, stride=1, padding=2) > 0


def _box_about(organ: Tensor) -> tuple[slice, ...]:
    """Of ``(1, X, Y, Z)``: all of the organ and the two neighbours on each side that count."""
    x, y, z = box_of(organ)
    return (slice(None), *(slice(max(0, s.start - 2), s.stop + 2) for s in (x, y)), z)
