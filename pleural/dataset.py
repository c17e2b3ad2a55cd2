"""Cases to batches: prepared once, cached, cut into patches, augmented.

Shapes: arrays are ``(1, X, Y, Z)``, batches ``(B, 1, X, Y, Z)``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import CastToTyped, Compose, RandCropByPosNegLabeld, Transform
from torch.utils.data import RandomSampler

from pleural.data.case import Case
from pleural.errors import Findings, InputError
from pleural.volume import Volume

IMAGE_AND_LABEL = ["image", "label"]
AIR = -1.0  # the lowest value of a prepared image
N_BACKGROUND = 100_000  # places to centre a patch on; a sample of them serves as well as all
PREPARED_VERSION = 1  # part of a disk cache's key: raise it when `Prepare` changes

# Said at every crop of a case without effusion, where it is what we want.
warnings.filterwarnings("ignore", message="Num foregrounds 0")

Sample = dict[str, Any]


class Prepare(Transform):
    """A case to arrays, ready to be cut.

    The label is occupancy: the share of each prepared voxel that is effusion, 0 to 1. Volumes
    smaller than a patch are padded with air at their far end, which leaves the affine as it is.
    """

    def __init__(self, preprocess: Callable[[Volume], Volume], patch_size: Sequence[int]) -> None:
        self.preprocess = preprocess
        self.patch_size = tuple(patch_size)

    def __call__(self, case: Case) -> Sample:
        """``name``; float16 ``image``, ``label``; flat int32 ``foreground``, ``background``.

        Raises:
            Findings: the case cannot be used.
        """
        scan, mask = case.load()
        if mask is None:
            raise Findings(f"{case.name} cannot be used:", [f"{case.name}: has no mask"])
        image = self.preprocess(scan)
        label = padded(mask.onto(image).array, self.patch_size, 0.0)
        return {
            "name": case.name,
            "image": padded(image.array, self.patch_size, AIR)[None].astype(np.float16),
            "label": label[None].astype(np.float16),
            "foreground": np.flatnonzero(label >= 0.5).astype(np.int32),
            "background": _sampled(np.flatnonzero(label == 0), N_BACKGROUND),
        }


class OnDisk(Transform):
    """Keeps what ``prepare`` makes as files that are mapped, not read: a crop costs its own bytes.

    An entry's key is the content of the case's files and the settings of the preprocessing; it is
    written beside its place and renamed, so an entry that is there is whole.
    """

    def __init__(self, prepare: Prepare, folder: str | Path) -> None:
        self.prepare = prepare
        self.folder = Path(folder)

    def __call__(self, case: Case) -> Sample:
        entry = self.folder / self._key(case)
        if not entry.is_dir():
            self._write(entry, self.prepare(case))
        # Copy-on-write: torch warns of arrays that cannot be written to.
        arrays = {file.stem: np.load(file, mmap_mode="c") for file in entry.glob("*.npy")}
        return {"name": case.name, **arrays}

    def _key(self, case: Case) -> str:
        preprocess = self.prepare.preprocess
        settings = (type(preprocess).__name__, sorted(vars(preprocess).items()))
        text = repr((PREPARED_VERSION, case.content_hash(), settings, self.prepare.patch_size))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _write(self, entry: Path, sample: Sample) -> None:
        partial = entry.with_name(f".{entry.name}.{os.getpid()}")
        partial.mkdir(parents=True, exist_ok=True)
        for key, value in sample.items():
            if isinstance(value, np.ndarray):
                np.save(partial / f"{key}.npy", value)
        try:
            partial.rename(entry)
        except OSError:  # another process was first with the same entry
            shutil.rmtree(partial)
            if not entry.is_dir():
                raise


class Patches:
    """The data side of an experiment.

    Args:
        patch_size: voxels in X, Y, Z; inference uses windows of the same size.
        crops_per_case: patches cut from a case each time it is drawn.
        positive_share: of the patches are centred on effusion, where a case has any.
        cases_per_batch: drawn for a batch, which so has ``cases_per_batch * crops_per_case``
            patches.
        steps_per_epoch: batches in an epoch; ``None`` draws each case once an epoch.
        cache: ``memory`` keeps prepared cases in memory; ``disk`` under ``cache_dir``, memory
            mapped, for more cases than fit; ``none`` prepares them at every draw.
        cache_dir: of ``cache="disk"``; may be shared by runs.
        cache_workers: threads that prepare cases before the training starts.
        num_workers: processes that cut and augment; 0 does it in the training process.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        crops_per_case: int,
        positive_share: float,
        cases_per_batch: int,
        steps_per_epoch: int | None,
        cache: str,
        cache_dir: str | Path,
        cache_workers: int,
        num_workers: int,
    ) -> None:
        if cache not in ("memory", "disk", "none"):
            raise InputError(f"dataset.cache is memory, disk or none; got {cache!r}")
        if len(patch_size) != 3 or min(patch_size) < 1:
            raise InputError(f"patch_size is three positive sizes (X, Y, Z); got {[*patch_size]}")
        self.patch_size = tuple(patch_size)
        self.crops_per_case = crops_per_case
        self.positive_share = positive_share
        self.cases_per_batch = cases_per_batch
        self.steps_per_epoch = steps_per_epoch
        self.cache = cache
        self.cache_dir = cache_dir
        self.cache_workers = cache_workers
        self.num_workers = num_workers

    def loaders(
        self,
        training: Sequence[Case],
        validation: Sequence[Case],
        preprocess: Callable[[Volume], Volume],
        augmentation: Callable[[Sample], Sample],
    ) -> tuple[DataLoader, DataLoader]:
        """Batches of patches to train on, and whole volumes, one at a time, to validate on.

        Every case is prepared here, before anything is trained.

        Raises:
            Findings: with what is wrong, over all cases.
        """
        # Plain tensors: MONAI's MetaTensor costs a hundred microseconds at every operation.
        monai.data.set_track_meta(False)
        prepare = _Collected(self._prepare(preprocess))
        crop = RandCropByPosNegLabeld(
            keys=IMAGE_AND_LABEL,
            label_key="label",
            spatial_size=self.patch_size,
            pos=self.positive_share,
            neg=1 - self.positive_share,
            num_samples=self.crops_per_case,
            fg_indices_key="foreground",
            bg_indices_key="background",
        )
        as_float = CastToTyped(keys=IMAGE_AND_LABEL, dtype=torch.float32)
        patches = self._dataset(training, Compose([prepare, crop, as_float, augmentation]))
        volumes = self._dataset(validation, Compose([prepare, _without_indices]))
        prepare.raise_findings(len(training) + len(validation))
        return self._training_loader(patches), DataLoader(volumes, num_workers=0, batch_size=1)

    def _prepare(self, preprocess: Callable[[Volume], Volume]) -> Prepare | OnDisk:
        prepare = Prepare(preprocess, self.patch_size)
        return OnDisk(prepare, self.cache_dir) if self.cache == "disk" else prepare

    def _dataset(self, cases: Sequence[Case], transform: Compose) -> Dataset:
        if self.cache == "memory":
            # Not copied at every draw: `CastToTyped` copies just what was cut.
            return CacheDataset(cases, transform, num_workers=self.cache_workers, copy_cache=False)
        for case in cases:
            transform.transforms[0](case)
        return Dataset(cases, transform)

    def _training_loader(self, patches: Dataset) -> DataLoader:
        n_cases = len(patches)
        if self.steps_per_epoch is not None:
            n_cases = self.steps_per_epoch * self.cases_per_batch
        return DataLoader(
            patches,
            num_workers=self.num_workers,
            batch_size=min(self.cases_per_batch, n_cases),
            sampler=RandomSampler(patches, num_samples=n_cases),
            drop_last=True,
            persistent_workers=self.num_workers > 0,
        )


class _Collected(Transform):
    """Notes what is wrong with a case and goes on, so that all is told at once."""

    def __init__(self, prepare: Callable[[Case], Sample]) -> None:
        self.prepare = prepare
        self.findings: list[str] = []

    def __call__(self, case: Case) -> Sample:
        try:
            return self.prepare(case)
        except Findings as found:
            self.findings += found.findings
        except InputError as error:
            self.findings.append(f"{case.name}: {error}")
        return {}

    def raise_findings(self, n_cases: int) -> None:
        if self.findings:
            raise Findings(
                f"{len(self.findings)} findings in {n_cases} cases; nothing was trained:",
                self.findings,
            )


def _without_indices(sample: Sample) -> Sample:
    return {k: v for k, v in sample.items() if k not in ("foreground", "background")}


def padded(array: np.ndarray, at_least: Iterable[int], value: float) -> np.ndarray:
    """``array`` with ``value`` added at the far end of the axes that are too short."""
    missing = [(0, max(0, need - size)) for need, size in zip(at_least, array.shape, strict=True)]
    return np.pad(array, missing, constant_values=value)


def _sampled(indices: np.ndarray, at_most: int) -> np.ndarray:
    if len(indices) > at_most:
        indices = np.random.default_rng(0).choice(indices, at_most, replace=False)
    return indices.astype(np.int32)
