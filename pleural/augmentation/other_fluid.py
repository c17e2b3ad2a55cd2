"""Fluid outside the pleural space: dense as an effusion, and none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn.functional import max_pool3d

from pleural.augmentation.painting import RandTissue, cell_of, repeated, value
from pleural.prepared import Sample

FAT_HU = (-200.0, -20.0)
DENSE_HU = 250.0  # bone, and vessels full of contrast medium
CLEAR_MM = 8.0  # from lung and effusion, at least: fat there may border on fluid
ABOUT_CLEARS = 6  # as many times that: where a cyst may be taken for effusion


class RandOtherFluid(RandTissue):
    """Soaks some of the fat away from the lungs: ascites, oedema, or tissue of a breast.

    Muscle, organs and walls stay, and so does the label. Beside few bodies, a network learns that
    what has the density of fluid is effusion, wherever it lies.
    """

    blur_mm = (4.0, 30.0)

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        (near,) = _near_pleura(sample, 1)
        fat = _between(FAT_HU, sample, self.window_hu) & ~near
        return fat, fat


class RandCyst(RandTissue):
    """Puts a bag of fluid among fat, muscle and organs: a full stomach, a cyst, a gall bladder.

    Air and dense bone stay, and so does the label. Beside few bodies, a network takes a stomach
    full of water for effusion.
    """

    blur_mm = (1.0, 6.0)

    def places(self, sample: Sample) -> tuple[Tensor, Tensor]:
        near, about = _near_pleura(sample, 1, ABOUT_CLEARS)
        soft = _between((FAT_HU[0], DENSE_HU), sample, self.window_hu) & ~near
        return soft & about, soft


def _between(hu: Sequence[float], sample: Sample, window_hu: Sequence[float]) -> Tensor:
    """``(X, Y, Z)``: where the image is."""
    low, high = (value(end, window_hu) for end in hu)
    image = sample["image"][0]
    return (image > low) & (image < high)


def _near_pleura(sample: Sample, *clears: int) -> Iterator[Tensor]:
    """Each ``(X, Y, Z)``: so many ``CLEAR_MM`` from lung, recess and what may be effusion, about.

    Never nearer than that.
    """
    pleural = (sample["lung_depth_mm"] != 0) | (sample["label"] != 0)
    cell = cell_of(CLEAR_MM, sample["spacing_mm"])
    cells = max_pool3d(pleural.float(), cell, ceil_mode=True)
    for n in clears:
        yield repeated(_widened(cells, n) > 0, cell, pleural.shape[1:])


def _widened(cells: Tensor, n: int) -> Tensor:
    """The greatest within ``n`` cells on each axis: of one axis after another, which is as good."""
    for size in ([2 * n + 1, 1, 1], [1, 2 * n + 1, 1], [1, 1, 2 * n + 1]):
        cells = max_pool3d(cells, size, stride=1, padding=[width // 2 for width in size])
    return cells
