"""A study in, a mask on the study's own grid out.

In three lines of Python, without Hydra or a command line::

    from pleural.segmenter import Segmenter
    mask = Segmenter.load("outputs/train/RUN").predict("study/")
    print(f"{mask.nonzero_ml:.0f} mL")
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pleural.data.case import read_scan
from pleural.errors import InputError, first_line
from pleural.hardware import autocast, fastest_device, fastest_precision
from pleural.model import AIR
from pleural.parts import Shares, unsure, without
from pleural.prepared import padded
from pleural.trained import Trained, runs_in
from pleural.tuned import tuned
from pleural.volume import Volume

AXES = "xyz"  # of prepared volumes, so x is left-right whatever the study's own order
SLAB_VOXELS = 16 * 2**20  # brought back to the study's grid at once: 64 MiB in float32
CERTAIN = 255  # a stored probability of 1


class Segmentation(NamedTuple):
    """On a study's own grid: 0 and 1, and the probability of effusion from 0 to 255.

    ``unsure_ml`` reaches the threshold and is not in the mask, as the members are unsure of its
    inside (see :mod:`pleural.parts`).
    """

    mask: Volume
    probability: Volume
    unsure_ml: float


class Segmenter:
    """One trained network, or several whose probabilities are averaged.

    Args:
        members: must agree on what becomes a mask; each has its own preprocessing.
        mirror: axes of the patient (``x`` left-right, ``y`` front-back, ``z`` head-foot) along
            which the study is also predicted mirrored, in every combination; probabilities are
            averaged. ``"x"`` doubles the time, ``"xyz"`` takes eight times as long.
        device: ``"auto"``: the GPU if there is one.
        precision: Lightning's name of it; ``"auto"``: the fastest of the device.

    Raises:
        InputError: no member, members that do not agree, no such axis or device.
    """

    def __init__(
        self,
        members: Sequence[Trained],
        *,
        mirror: str | Sequence[str] = (),
        device: torch.device | str = "auto",
        precision: str = "auto",
    ) -> None:
        self.threshold, self.sure_inside = _agreed(members)
        if device == "auto":
            device = fastest_device()
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            raise InputError(
                f"device={device}: {first_line(error)}; cpu, or a GPU that is here"
            ) from error
        self.precision = fastest_precision(self.device.type) if precision == "auto" else precision
        self.members = members
        for member in members:
            tuned(member.net).to(self.device).eval()
        self._flips = flips(mirror)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        mirror: str | Sequence[str] = (),
        device: torch.device | str = "auto",
        precision: str = "auto",
    ) -> Segmenter:
        """From a run folder, or from a folder of them (a sweep's), which makes an ensemble.

        Raises:
            InputError: the folder holds no run, or one that is not whole or not to be trusted.
        """
        members = [run.load() for run in runs_in(folder)]
        return cls(members, mirror=mirror, device=device, precision=precision)

    def predict(self, path: str | Path) -> Volume:
        """The effusion in a study, as 0 and 1 (uint8) on the study's own grid.

        Args:
            path: a NIfTI file, a folder with one DICOM series, or a ``.zip`` of either; in HU.

        Raises:
            InputError: the study cannot be read, is not in HU, or shows no body.
        """
        return self.segment(read_scan(path)).mask

    def segment(self, scan: Volume) -> Segmentation:
        """Mask and probability on the grid of ``scan``, which is in HU.

        The only place where a probability becomes a mask, and where it comes back from the
        prepared grid: a slab at a time, so that beside ``scan`` a study of any size needs two
        bytes a voxel here.
        """
        maps = [self.probability(member, scan) for member in self.members]
        mask, stored = (np.zeros(scan.shape, np.uint8, order="F") for _ in range(2))
        unsure_of, n_unsure = self._unsure_of(maps), 0
        x, y, within = _reach(maps, scan, min(self.threshold, 0.5 / CERTAIN))
        for slab in _slabs(scan.shape, within):
            part = scan.cropped((x, y, slab))
            probability = _mean(maps, part)
            found = probability >= self.threshold
            sure = without(found, unsure_of, part)
            n_unsure += int(found.sum() - sure.sum())
            mask[x, y, slab] = sure
            stored[x, y, slab] = np.rint(probability * CERTAIN).astype(np.uint8)
        volumes = scan.with_array(mask), scan.with_array(stored)
        return Segmentation(*volumes, unsure_ml=n_unsure * scan.voxel_ml)

    def _unsure_of(self, maps: Sequence[Volume]) -> Volume | None:
        """On the first member's grid, which is coarser than most studies'."""
        if self.sure_inside is None:
            return None
        first = maps[0]
        return unsure(first.with_array(_mean(maps, first)), self.threshold, self.sure_inside)

    @torch.inference_mode()
    def probability(self, member: Trained, scan: Volume) -> Volume:
        """Of effusion as one member sees it, 0 to 1, on the grid of its preprocessing.

        Raises:
            InputError: what the network gives is no number, in single precision either.
        """
        prepared = member.preprocess(scan)
        image = torch.from_numpy(padded(prepared.array, member.patch_size, AIR))[None, None]
        image = image.to(self.device)
        x, y, z = prepared.shape
        # Half precision may overflow where single does not; what is no number would be no effusion.
        for precision in dict.fromkeys([self.precision, "32-true"]):
            mean = self._seen(member, image, precision)[0, 0, :x, :y, :z]
            if mean.isfinite().all():
                return prepared.with_array(mean.cpu().numpy())
        raise InputError("the network gives no numbers for this scan: its training went astray")

    def _seen(self, member: Trained, image: Tensor, precision: str) -> Tensor:
        """Mean probability over the flips."""
        total: Tensor | None = None
        for flip in self._flips:
            with autocast(self.device, precision):
                logits = member.inferer(image.flip(flip), member.net)
            seen = logits[:, :1].float().sigmoid_().flip(flip)
            total = seen if total is None else total.add_(seen)
        assert total is not None, "the first flip is none"
        return total / len(self._flips)


def flips(mirror: str | Sequence[str]) -> list[tuple[int, ...]]:
    """Axes of a batch ``(B, C, X, Y, Z)`` to flip together: first none, then every combination.

    Raises:
        InputError: ``mirror`` names something else than x, y and z.

    >>> flips("xy")
    [(), (2,), (3,), (2, 3)]
    """
    if unknown := set(mirror) - set(AXES):
        raise InputError(f"mirror names axes among x, y and z; got {', '.join(sorted(unknown))}")
    axes = [2 + AXES.index(axis) for axis in sorted(set(mirror))]
    return [flip for n in range(len(axes) + 1) for flip in combinations(axes, n)]


def _agreed(members: Sequence[Trained]) -> tuple[float, Shares | None]:
    """The threshold and ``sure_inside`` of all members.

    Raises:
        InputError: there is no member, or they differ.
    """
    asked = {(member.threshold, member.sure_inside) for member in members}
    if len(asked) != 1:
        found = ", ".join(sorted(f"{threshold:g} and {sure}" for threshold, sure in asked))
        raise InputError(
            "an ensemble needs one threshold and one sure_inside; its runs have "
            f"{found or 'none at all'}"
        )
    return asked.pop()


def _mean(maps: Sequence[Volume], grid: Volume) -> np.ndarray:
    """Probability on ``grid``, 0 to 1."""
    total = sum(found.onto(grid).array for found in maps)
    return np.asarray(total / len(maps))


def _reach(maps: Sequence[Volume], scan: Volume, least: float) -> tuple[slice, slice, slice]:
    """The box of ``scan`` outside of which every one of ``maps`` is below ``least``."""
    corners = []
    for found in maps:
        (box,) = ndimage.find_objects(found.array >= least, max_label=1)
        if box is not None:
            # A voxel further, as far as interpolation carries.
            sides = [(part.start - 1, part.stop) for part in box]
            places = found.affine @ np.array([[*corner, 1] for corner in product(*sides)]).T
            corners.append((np.linalg.inv(scan.affine) @ places)[:3])
    if not corners:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    low, high = (f(np.hstack(corners), axis=1) for f in (np.min, np.max))
    x, y, z = (
        slice(max(0, math.floor(start)), min(size, math.ceil(stop) + 1))
        for start, stop, size in zip(low, high, scan.shape, strict=True)
    )
    return x, y, z


def _slabs(shape: Sequence[int], within: slice) -> Iterator[slice]:
    """Runs of slices along the last axis, of no more than ``SLAB_VOXELS`` where they can."""
    x, y, _ = shape
    step = max(1, SLAB_VOXELS // (x * y))
    for start in range(within.start, within.stop, step):
        yield slice(start, min(start + step, within.stop))
