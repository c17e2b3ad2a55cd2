"""Another phase of contrast medium."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import RandomizableTransform

from pleural.prepared import Sample
from pleural.window import value


class RandEnhancement(RandomizableTransform):
    """Vessels and organs brighter or darker, fluid as it is.

    Contrast medium lifts what is perfused and leaves an effusion alone, so a scan without it, or
    in another phase, differs by about a factor on all that is denser than fluid.

    Args:
        prob: of changing a patch at all.
        window_hu: what -1 and 1 of the image stand for.
        above_hu: what is less dense stays.
        factors: least and greatest, of the HU beyond ``above_hu``; as likely halved as doubled.
    """

    def __init__(
        self, prob: float, window_hu: Sequence[float], above_hu: float, factors: Sequence[float]
    ) -> None:
        super().__init__(prob)
        self.above = value(above_hu, window_hu)
        self.log_factors = np.log(factors)

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        factor = float(np.exp(self.R.uniform(*self.log_factors)))
        beyond = (sample["image"] - self.above).clamp(min=0)
        return {**sample, "image": torch.add(sample["image"], beyond, alpha=factor - 1)}
