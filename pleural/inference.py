"""The windows in which a network sees a whole volume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from pleural.errors import InputError
from pleural.model import cut_back, filled_up

# What they make of a voxel depends on all of the window.
BY_WINDOW = (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)
SLAB_MULTIPLE = 16
SIGMA_OF_WINDOW = 0.125  # of the Gaussian that blends windows


class Windows:
    """MONAI's sliding window with as few and as large windows as the network allows.

    A network that takes any size gets slabs as wide as the volume, which is a third of the work:
    no voxel is seen twice but where slabs overlap. It says so by ``multiples`` (see
    :class:`pleural.model.UNet`). A network whose norms look at the whole window (instance, group)
    would not know again what it was trained on; it, and any other, gets windows like its patches.

    Args:
        patch_size: voxels in X, Y, Z that the network was trained on.
        overlap: share of a window like a patch that the next one covers as well, 0 up to 1;
            weights fall off from its middle to its borders (Gaussian).
        slab: slices (Z) of a slab at most, a multiple of 16; memory grows with it.
        slab_overlap: as ``overlap``, of slabs.

    Raises:
        InputError: a slab or an overlap that cannot be.
    """

    def __init__(
        self, patch_size: Sequence[int], overlap: float, slab: int, slab_overlap: float
    ) -> None:
        if slab < 1 or slab % SLAB_MULTIPLE:
            raise InputError(f"inference.slab is a multiple of {SLAB_MULTIPLE}; got {slab}")
        for name, share in (("overlap", overlap), ("slab_overlap", slab_overlap)):
            if not 0 <= share < 1:
                raise InputError(f"inference.{name} is from 0 up to 1; got {share}")
        self.patch_size = tuple(patch_size)
        self.overlap = overlap
        self.slab = slab
        self.slab_overlap = slab_overlap

    def __call__(self, image: Tensor, net: Callable[[Tensor], Tensor]) -> Tensor:
        """``image``: ``(1, 1, X, Y, Z)`` in [-1, 1]. Returns logits of the same shape."""
        shape = image.shape[2:]
        window, overlap = self.patch_size, self.overlap
        if self.follow(net):
            window, overlap = self.slab_for(shape), self.slab_overlap
        logits = sliding_window_inference(
            filled_up(image, window),
            window,
            sw_batch_size=1,
            predictor=net,
            overlap=overlap,
            mode="gaussian",
            sigma_scale=SIGMA_OF_WINDOW,
        )
        assert isinstance(logits, Tensor)
        return cut_back(logits, image.shape[2:])

    def follow(self, net: Callable[[Tensor], Tensor]) -> bool:
        """Whether the windows of ``net`` follow the size of the volume."""
        if not isinstance(net, nn.Module) or not hasattr(net, "multiples"):
            return False
        return not any(isinstance(module, BY_WINDOW) for module in net.modules())

    def slab_for(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """The size, X, Y, Z, of the slabs for a volume of ``shape``: as even as can be."""
        x, y, z = shape
        further = 1 - self.slab_overlap  # of a slab, is what each one after the first adds
        n_slabs = 1 + max(0, math.ceil((z - self.slab) / (self.slab * further)))
        even = z / (1 + (n_slabs - 1) * further)
        return x, y, math.ceil(even / SLAB_MULTIPLE) * SLAB_MULTIPLE
