"""Organs as dense as fluid, which are none."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool3d

from pleural.augmentation.painting import RandTissue, cell_of, repeated, value
from pleural.prepared import Sample

SOFT_HU = (10.0, 250.0)  # organs and muscle, with contrast medium or without
CELL_MM = 8.0  # what is at least three of these thick is an organ, or a large muscle


class RandHypodensity(RandTissue):
    """Gives a part of an organ the density of fluid: a fatty liver, a cyst, a dead tumour.

    One liver in sixteen has 40 HU or less without contrast medium (Boyce et al. 2010, doi
    10.2214/AJR.09.2590), and so may have fluid. Air, fat, dense bone and effusion stay, and so does
    the label. Beside few bodies, a network takes such a liver for a litre of effusion.
    """

    blur_mm = (2.0, 20.0)

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        low, high = (value(hu, self.window_hu) for hu in SOFT_HU)
        image = sample["image"]
        cell = cell_of(CELL_MM, sample["spacing_mm"])
        cells = avg_pool3d(image, cell, ceil_mode=True)
        soft = ((cells > low) & (cells < high)).float()
        middles = -max_pool3d(-soft, 3, stride=1, padding=1)  # with soft ones all about
        around = max_pool3d(middles, 5, stride=1, padding=2)  # and a cell more than they hold
        smooth = avg_pool3d(image, (3, 3, 1), stride=1, padding=(1, 1, 0))[0]
        room = (smooth > low) & (image[0] < high) & (sample["label"][0] == 0)
        organ, reach = (repeated(n > 0, cell, room.shape) for n in (middles, around))
        return organ & room, reach & room
