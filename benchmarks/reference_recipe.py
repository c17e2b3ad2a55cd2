"""The original task's recipe, written plainly with MONAI and torch: what ours is measured against.

Every epoch reads each DICOM series anew, brings HU to 0 to 1, halves it in plane (512 x 512 to
256 x 256), drops the background, cuts 16 patches of 48 x 96 x 96 (slices first) from a scan and
trains an 8-16-32 UNet on them with Dice + 0.3 BCE(pos_weight=3), in fp32. A validation slides a
window over the whole scan at an overlap of 0.75. Nothing is cached, nothing is tuned.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.data import list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    CropForegroundd,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandRotate90d,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    Zoomd,
)
from torch import Tensor, nn

KEYS = ["image", "label"]
PATCH = (48, 96, 96)
CROPS_PER_CASE = 16
CASES_PER_BATCH = 2

read = Compose(
    [
        LoadImaged(KEYS, ensure_channel_first=True),
        Orientationd(KEYS, axcodes="SRA", labels=None),  # slices first
    ]
)
preprocess = Compose(
    [
        ScaleIntensityRanged("image", -1024, 3071, 0, 1, clip=True),
        Zoomd(KEYS, (1, 0.5, 0.5), mode=["area", "nearest"], keep_size=False),
        CropForegroundd(KEYS, source_key="image"),
    ]
)
crop = RandCropByPosNegLabeld(KEYS, "label", PATCH, pos=1, neg=2, num_samples=CROPS_PER_CASE)
augment = Compose(
    [
        *(RandFlipd(KEYS, prob=0.1, spatial_axis=axis) for axis in range(3)),
        RandRotate90d(KEYS, prob=0.1, max_k=3, spatial_axes=(1, 2)),
        RandShiftIntensityd("image", offsets=0.1, prob=0.5),
    ]
)


class Stages:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


class Recipe:
    """The network with what trains it."""

    def __init__(self) -> None:
        self.net = network()
        self.dice = DiceLoss(sigmoid=True)
        self.bce = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-2, weight_decay=1e-3)

    def step(self, patches: Tensor, labels: Tensor, stage: Stages) -> None:
        with stage("forward"):
            logits = self.net(patches)
            loss = self.dice(logits, labels) + 0.3 * self.bce(logits, labels)
        with stage("backward"):
            loss.backward()
        with stage("optimiser"):
            self.optimizer.step()
            self.optimizer.zero_grad()

    def epoch(self, cases: Sequence[dict[str, Path]], stage: Stages) -> int:
        """Every case once; the number of patches that were trained on."""
        n_patches = 0
        for start in range(0, len(cases), CASES_PER_BATCH):
            patches: list[Any] = []
            for case in cases[start : start + CASES_PER_BATCH]:
                sample = prepared(case, stage)
                with stage("crop"):
                    cut = crop(sample)
                with stage("augment"):
                    patches += [augment(patch) for patch in cut]
            with stage("crop"):
                batch = list_data_collate(patches)
            self.step(batch["image"], batch["label"].float(), stage)
            n_patches += len(patches)
        return n_patches

    @torch.no_grad()
    def validate(self, case: dict[str, Path], stage: Stages) -> float:
        """Dice of one case on the grid it is validated on."""
        sample = prepared(case, stage)
        with stage("validation"):
            logits = slide(sample["image"][None], self.net)
            predicted, label = logits[0] >= 0, sample["label"] > 0
            overlap = 2 * (predicted & label).sum() / (predicted.sum() + label.sum()).clamp(min=1)
        return float(overlap)


def network() -> UNet:
    return UNet(3, 1, 1, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)


def slide(image: Tensor, net: nn.Module) -> Tensor:
    """Logits of ``(1, 1, Z, X, Y)``."""
    logits = sliding_window_inference(image, PATCH, 4, net, overlap=0.75)
    assert isinstance(logits, Tensor)
    return logits


def prepared(case: dict[str, Path], stage: Stages) -> dict[str, Any]:
    """``case`` holds the folder of a DICOM series and the file of its mask."""
    with stage("read"):
        sample = read({key: str(path) for key, path in case.items()})
    with stage("preprocess"):
        result: dict[str, Any] = preprocess(sample)
    return result
