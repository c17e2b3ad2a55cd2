"""A study in, a mask on the study's own grid out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pleural.hardware import autocast
from pleural.hardware import precision as fastest_precision
from pleural.prepared import AIR, padded
from pleural.volume import Volume

Inferer = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]


class Segmenter:
    """A trained network with all that it needs around it.

    Args:
        net: logits from prepared patches.
        preprocess: the one it was trained with.
        inferer: runs ``net`` over a whole volume, such as MONAI's sliding window.
        patch_size: voxels in X, Y, Z; smaller volumes are padded with air.
        threshold: probability from which a voxel of the study is effusion.
        precision: Lightning's name of it; ``"auto"``: the fastest of the device.
    """

    def __init__(
        self,
        net: nn.Module,
        preprocess: Callable[[Volume], Volume],
        inferer: Inferer,
        patch_size: Sequence[int],
        threshold: float = 0.5,
        device: torch.device | str = "cpu",
        precision: str = "auto",
    ) -> None:
        self.device = torch.device(device)
        self.net = net.to(self.device).eval()
        self.preprocess = preprocess
        self.inferer = inferer
        self.patch_size = tuple(patch_size)
        self.threshold = threshold
        self.precision = fastest_precision(self.device.type) if precision == "auto" else precision

    @torch.inference_mode()
    def probability(self, scan: Volume) -> Volume:
        """Of effusion, 0 to 1, on the prepared grid; ``scan`` in HU."""
        prepared = self.preprocess(scan)
        image = padded(prepared.array, self.patch_size, AIR)
        with autocast(self.device, self.precision):
            batch = torch.from_numpy(image)[None, None].to(self.device)
            logits = self.inferer(batch, self.net)
        x, y, z = prepared.shape
        probability = logits[0, 0, :x, :y, :z].float().sigmoid()
        return prepared.with_array(probability.cpu().numpy())

    def segment(self, scan: Volume) -> Volume:
        """The effusion as 0 and 1 (uint8) on the grid of ``scan``."""
        probability = self.probability(scan).onto(scan)
        return scan.with_array((probability.array >= self.threshold).astype(np.uint8))
