"""Fluid outside the pleural space: dense as an effusion, and none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from pleural.augmentation.painting import Blob, RandTissue, between, cell_of, repeated
from pleural.prepared import Sample
from pleural.window import value

FAT_HU = (-200.0, -20.0)
ROOM_HU = (-200.0, 250.0)  # fat and organs; no dense bone, nor what is full of contrast medium
CLEAR_MM = 8.0  # from lung and effusion, at least: fat there may border on fluid
DIAPHRAGM_MM = 3.0  # the least between lung and what lies below it
GAS_HU = -980.0
FILLED = (0.2, 0.9)  # level of the fluid, as a share of a stomach's height


class RandOtherFluid(RandTissue):
    """Soaks some of the fat away from the lungs: ascites, oedema, or tissue of a breast.

    Muscle, organs and walls stay, and so does the label. Beside few bodies, a network learns that
    what has the density of fluid is effusion, wherever it lies.
    """

    blur_mm = (4.0, 30.0)

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        near = _near(_pleural(sample), CLEAR_MM, sample["spacing_mm"])
        fat = between(sample["image"][0], FAT_HU, self.window_hu) & ~near
        return fat, fat


class RandCyst(RandTissue):
    """Puts a bag of fluid below a lung's base: a stomach, or a cyst of liver or spleen.

    Its middle has lung or recess straight above it and lies below the slice that shows most of the
    lungs, which leaves out the heart. It keeps a diaphragm's thickness from them; to the side of
    them, as far as :class:`RandOtherFluid`. Air and dense bone stay, and so does the label. The
    patient is taken to lie on the back, so a stomach's gas gathers in front, above a level. Beside
    few bodies, a network takes fluid below gas for an effusion below a lung.

    Args:
        gas: share of them that hold some, as stomachs do.
    """

    blur_mm = (1.0, 6.0)

    def __init__(
        self,
        prob: float,
        window_hu: Sequence[float],
        radius_mm: Sequence[float],
        tissue_hu: Sequence[float],
        noise: Sequence[float],
        gas: float,
    ) -> None:
        super().__init__(prob, window_hu, radius_mm, tissue_hu, noise)
        self.gas = gas

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        pleural, spacing_mm = _pleural(sample), sample["spacing_mm"]
        lung, effusion = sample["lung_depth_mm"][0] != 0, sample["label"][0] > 0
        below = (lung | effusion).flip(2).cumsum(2).flip(2) > 0
        below[..., int(lung.sum(dim=(0, 1)).argmax()) :] = False
        below &= ~_near(pleural, DIAPHRAGM_MM, spacing_mm)
        soft = between(sample["image"][0], ROOM_HU, self.window_hu)
        return soft & below, soft & (below | ~_near(pleural, CLEAR_MM, spacing_mm))

    def tissue(self, painted: Blob, own_sd: float) -> Tensor:
        fluid = super().tissue(painted, own_sd)
        held = (painted.inside > 0).any(dim=2).any(dim=0).nonzero().flatten()
        if self.R.random() >= self.gas or not len(held):
            return fluid
        back, front = float(held[0]), float(held[-1])
        level = back + (front - back) * self.R.uniform(*FILLED)
        above = (torch.arange(len(fluid[0])) - level + 0.5).clamp(0, 1)[:, None]
        # Torch's own mean depends on the number of threads, which is another in worker processes.
        mean = float(fluid.numpy().mean(dtype=np.float64))
        gas = (fluid - mean + value(GAS_HU, self.window_hu)).clamp(min=-1)
        return torch.lerp(fluid, gas, above)


def _pleural(sample: Sample) -> Tensor:
    """``(X, Y, Z)``: lung, recess, effusion, and where that is unknown."""
    return (sample["lung_depth_mm"][0] != 0) | (sample["label"][0] != 0)


def _near(where: Tensor, mm: float, spacing_mm: Iterable[float]) -> Tensor:
    """Within ``mm`` of ``where``, ``(X, Y, Z)``, or a bit off, by cells of that size."""
    cell = cell_of(mm, spacing_mm)
    cells = max_pool3d(where[None].float(), cell, ceil_mode=True)
    near = max_pool3d(cells, 3, stride=1, padding=1) > 0
    return repeated(near, cell, where.shape)
