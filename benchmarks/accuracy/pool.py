"""Prepared scans in one file, and pools of augmented patches that many trainings draw from."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from false_alarms import phantom
from folds import config
from hydra.utils import instantiate
from omegaconf import OmegaConf
from poured import poured
from torch import Tensor

from pleural.chance import seed_of
from pleural.data.case import Case
from pleural.dataset import Patches
from pleural.draws import Draw
from pleural.model import AIR
from pleural.prepared import Prepare, Sample, padded, places_of

# Integers, and what one of their steps stands for: finer than the noise of a scan, or than a voxel.
PACKED = {
    "image": (np.int16, 3e-3),  # 3 HU
    "label": (np.uint8, 5e-3),
    "lung_depth_mm": (np.int8, 1.0),
}
# Settings of what is packed, made or judged in one way for all, and those that need a pool of
# their own.
FIXED = ("preprocess", "experiment=", "data.", "companions.", "threshold=", "keep=")
OF_PATCHES = ("augmentation", "dataset.", "patch_size=", "poured_share=")
AT_LEAST = 150  # patches of every scan before any are drawn
COMPANIONS = "companions"  # the name of all together, as they are drawn
PHANTOM = "judging phantom"  # how the names of those without effusion begin
N_PHANTOMS = 4
POURED = [(depth_mm, hu) for depth_mm in (30, 100) for hu in (5, 20, 35)]  # which only judge, too
WITH = " with "  # between a scan's name and what was poured into it


def pack(root: str, out: Path) -> None:
    """Write PleThora's prepared scans, and what is poured into them, to a file of some 50 MB."""
    made = config([f"data.root={root}"])
    prepare = Prepare(instantiate(made.preprocess), made.patch_size)
    arrays: dict[str, Any] = {}
    for case in instantiate(made.data).cases():
        sample = prepare(case)
        arrays |= _packed(case.name, sample)
        arrays[f"{case.name}/distrusted"] = case.distrusted
        for depth_mm, hu in POURED:
            after = poured(sample, depth_mm, hu, seed=0)
            arrays |= _packed(f"{case.name}{WITH}{depth_mm} mm of {hu} HU", after, sample)
    np.savez_compressed(out, **arrays)


def _packed(name: str, sample: Sample, before: Sample | None = None) -> dict[str, Any]:
    """By key; only what differs from ``before``, if that is given, as nearly all is as it was."""
    arrays = {f"{name}/spacing_mm": sample["spacing_mm"]}
    for key, (kind, step) in PACKED.items():
        whole = _whole(sample[key], step)
        if before is not None:
            whole -= _whole(before[key], step)
        arrays[f"{name}/{key}"] = whole.astype(np.int16 if before is not None else kind)
    return arrays


def _whole(values: Any, step: float) -> np.ndarray:
    whole: np.ndarray = np.round(np.asarray(values, np.float32) / step)
    return whole


def unpacked(path: Path) -> tuple[list[Case], dict[str, Sample]]:
    """The cases, and of each and of what else judges what `Prepare` gives, by its name."""
    packed = dict(np.load(path, allow_pickle=False))
    samples: dict[str, Sample] = {}
    for name in sorted({key.split("/")[0] for key in packed}):
        scan, poured_into, _ = name.partition(WITH)
        arrays = {}
        for key, (_, step) in PACKED.items():
            whole = packed[f"{name}/{key}"].astype(np.float32)
            if poured_into:
                whole += packed[f"{scan}/{key}"]
            arrays[key] = (whole * np.float32(step)).astype(np.float16)
        spacing_mm = packed[f"{name}/spacing_mm"]
        places = {} if poured_into else places_of(arrays["label"])
        samples[name] = {"name": name, "spacing_mm": spacing_mm, **arrays, **places}
    cases = [
        Case(name, name, Path(), distrusted=bool(packed[f"{name}/distrusted"]))
        for name in samples
        if f"{name}/distrusted" in packed
    ]
    return cases, samples


def synthetic(n_workers: int) -> tuple[list[Case], dict[str, Sample]]:
    """Companions as cases, and of each and of the phantoms that judge what `Prepare` gives."""
    made = config([])
    prepare = Prepare(instantiate(made.preprocess), made.patch_size)
    companions = instantiate(made.companions).cases()
    with get_context("fork").Pool(n_workers) as together:
        prepared = together.map(prepare, companions)
        phantoms = together.map(_phantom, range(N_PHANTOMS))
    return companions, {
        **{sample["name"]: sample for sample in prepared},
        **{f"{PHANTOM} {number}": sample for number, sample in enumerate(phantoms)},
    }


def _phantom(number: int) -> Sample:
    made = config([])
    scan = instantiate(made.preprocess)(phantom(number))
    image = padded(scan.array, made.patch_size, AIR)[None].astype(np.float16)
    return {"image": image, "label": np.zeros_like(image), "spacing_mm": np.array(scan.spacing_mm)}


class Packed(Patches):
    """Patches of cases that are prepared already."""

    samples: Mapping[str, Sample]

    def _prepare(self, _: Any) -> Any:
        return lambda case: dict(self.samples[case.name])


class Pool:
    """Augmented patches of every case, filled by other processes, drawn from on one device.

    Args:
        settings: those of ``OF_PATCHES``.
        companions: count as one case, the last.
        size: patches of every case.
    """

    def __init__(
        self,
        settings: Sequence[str],
        cases: list[Case],
        companions: list[Case],
        samples: dict[str, Sample],
        size: int,
    ) -> None:
        made = config(settings)
        options: Any = OmegaConf.to_container(made.dataset, resolve=True)
        del options["_target_"]
        dataset = Packed(**{**options, "crops_per_case": 1})
        dataset.samples = samples
        augmentation = instantiate(made.augmentation)
        loader, _ = dataset.loaders(cases, [], lambda scan: scan, augmentation, companions)
        self.drawn: Any = loader.dataset
        self.names = [*(case.name for case in cases), COMPANIONS]
        self.n_companions = len(companions)
        shape = (len(self.names), size, *made.patch_size)
        self.image, self.label = _shared(shape, np.float16), _shared(shape, np.float16)
        self.ready = _shared(shape[:2], np.uint8)
        self.images, self.labels = torch.empty(0), torch.empty(0)  # the same, on the device
        self.uploaded = 0

    def fill(self, worker: int, n_workers: int) -> None:
        """The share of one of ``n_workers`` processes."""
        for slot in range(worker, self.ready.size, n_workers):
            number, case = divmod(slot, len(self.names))
            which = case + number % self.n_companions if self.names[case] == COMPANIONS else case
            (sample,) = self.drawn[Draw(which, seed_of(number, case))]
            self.image[case, number] = sample["image"][0].numpy()
            self.label[case, number] = sample["label"][0].numpy()
            self.ready[case, number] = 1

    def upload(self, device: torch.device) -> int:
        """Bring what is new to the device; waits for the first ones. How many of each case it has.

        Raises:
            TimeoutError: none come, as when the processes that fill the pool have died.
        """
        n_before, began = self.uploaded, time.monotonic()
        while (n_now := self._available()) < min(AT_LEAST, self.ready.shape[1]):
            if time.monotonic() - began > 300:
                raise TimeoutError(f"{n_now} patches of each scan after five minutes")
            time.sleep(0.2)
        if not n_before:
            self.images = torch.empty(self.image.shape, dtype=torch.float16, device=device)
            self.labels = torch.empty_like(self.images)
        new = slice(n_before, n_now)
        self.images[:, new] = torch.from_numpy(self.image[:, new]).to(device)
        self.labels[:, new] = torch.from_numpy(self.label[:, new]).to(device)
        if device.type == "cuda":
            torch.cuda.synchronize()  # before other streams read them
        self.uploaded = n_now
        return n_now

    def free(self) -> None:
        """Leave the device's memory to others."""
        self.images, self.labels, self.uploaded = torch.empty(0), torch.empty(0), 0

    def patch(self, case: int, number: int) -> tuple[Tensor, Tensor]:
        """Image and label, each ``(X, Y, Z)``, float16, on the device."""
        return self.images[case, number], self.labels[case, number]

    def _available(self) -> int:
        missing = np.flatnonzero(~self.ready.all(axis=0))
        return int(missing[0]) if missing.size else self.ready.shape[1]


def filling(pools: Sequence[Pool], n_workers: int) -> list[BaseProcess]:
    """Processes that fill the pools, one after the other, from now on."""
    forks = get_context("fork")
    workers: list[BaseProcess] = [
        forks.Process(target=_fill_all, args=(pools, number, n_workers), daemon=True)
        for number in range(n_workers)
    ]
    for worker in workers:
        worker.start()
    return workers


def _fill_all(pools: Sequence[Pool], worker: int, n_workers: int) -> None:
    torch.set_num_threads(1)
    os.nice(5)
    for pool in pools:
        pool.fill(worker, n_workers)


def _shared(shape: Sequence[int], kind: type) -> np.ndarray:
    """Memory that forked processes share, whatever the size of /dev/shm."""
    n_bytes = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer(mmap.mmap(-1, n_bytes), kind).reshape(shape)
