"""What happens to a case on its way to a patch, beside preparation, cropping and augmentation.

Shapes: arrays are ``(1, X, Y, Z)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from monai.transforms import Randomizable, Transform
from scipy import ndimage

from pleural.data.case import Case
from pleural.errors import Findings, InputError
from pleural.loss import UNKNOWN
from pleural.prepared import Sample
from pleural.volume import box_around
from pleural.words import counted

FED = ("name", "image", "label")  # to the network and to who judges it; the rest helps before


class Collected(Transform):
    """At first notes what is wrong with a case and goes on, so that all is told at once."""

    def __init__(self, prepare: Callable[[Case], Sample]) -> None:
        self.prepare = prepare
        self.collects = True
        self.findings: list[str] = []

    def __call__(self, case: Case) -> Sample:
        try:
            return self.prepare(case)
        except InputError as error:
            own = error.findings if isinstance(error, Findings) else [f"{case.name}: {error}"]
            if not self.collects:
                raise InputError("\n".join(own)) from error
            self.findings += own
        return {}

    def raise_findings(self, n_cases: int) -> None:
        """From here on, what is wrong with a case is raised as it is met."""
        self.collects = False
        if self.findings:
            findings = [*dict.fromkeys(self.findings)]  # what is the same for all cases, once
            told = counted(len(findings), "finding")
            raise Findings(f"{told} in {n_cases} cases; nothing was trained:", findings)


class PatchPlace(Randomizable, Transform):
    """Draws where in what is augmented the patch lies, so that turns need to make no more of it."""

    def __init__(self, patch_size: Sequence[int]) -> None:
        self.patch_size = patch_size

    def __call__(self, sample: Sample) -> Sample:
        starts = [
            self.R.randint(max(0, n - size) + 1)
            for n, size in zip(sample["image"].shape[1:], self.patch_size, strict=True)
        ]
        patch = (slice(s, s + n) for s, n in zip(starts, self.patch_size, strict=True))
        return {**sample, "patch": (*patch,)}


class Doubt(Transform):
    """What lies about distrusted masks is unknown, and no patch is centred on them.

    So a scan with a poor mask still shows what a chest looks like, and has fluid poured into it.
    """

    def __init__(self, cases: Sequence[Case], within_mm: float) -> None:
        self.names = {case.name for case in cases if case.distrusted}
        self.within_mm = within_mm
        self.unknown: dict[str, tuple[tuple[slice, ...], np.ndarray]] = {}  # of each, found once

    def __call__(self, sample: Sample) -> Sample:
        name = sample.get("name")
        if name not in self.names or not sample["label"].any():
            return sample
        label = sample["label"].copy()
        if name not in self.unknown:
            self.unknown[name] = self._unknown(label[0], [float(mm) for mm in sample["spacing_mm"]])
        box, unknown = self.unknown[name]
        label[0][box][unknown] = UNKNOWN
        return {**sample, "label": label, "foreground": sample["foreground"][:0]}

    def _unknown(
        self, label: np.ndarray, spacing_mm: Sequence[float]
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """What lies near enough, within a box: a fourth of the time of the whole."""
        margins = [math.ceil(self.within_mm / mm) for mm in spacing_mm]
        box = box_around(label > 0, margins)
        away_mm = ndimage.distance_transform_edt(label[box] == 0, sampling=spacing_mm)
        return box, away_mm <= self.within_mm


def cut_out(sample: Sample) -> Sample:
    """The patch, of all that is fed to the network."""
    inside = map(_inside, sample["patch"], sample["image"].shape[1:])
    patch = (slice(None), *inside)
    return {key: value if key == "name" else value[patch] for key, value in fed(sample).items()}


def _inside(part: slice, n: int) -> slice:
    """``part`` of ``n`` voxels, moved where a turn has made them fewer than they were."""
    if part.stop is None or part.stop <= n:
        return part
    return slice(max(0, part.start - (part.stop - n)), n)


def fed(sample: Sample) -> Sample:
    """What the network and who judges it need."""
    return {key: sample[key] for key in FED}
