"""Cases to batches: cached, cut into patches, augmented.

Shapes: arrays are ``(1, X, Y, Z)``, batches ``(B, 1, X, Y, Z)``.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import monai
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import CastToTyped, Compose, RandCropByPosNegLabeld
from tqdm import tqdm

from pleural.data.case import Case
from pleural.draws import Drawn, Draws
from pleural.errors import InputError
from pleural.prepared import OnDisk, Prepare, Sample
from pleural.steps import Collected, Doubt, PatchPlace, cut_out, fed
from pleural.volume import Volume

CUT = ["image", "label", "lung_depth_mm"]

# Said at every crop of a case without effusion, where it is what we want.
warnings.filterwarnings("ignore", message="Num foregrounds 0")


class Patches:
    """The data side of an experiment.

    Args:
        patch_size: voxels in X, Y, Z; volumes are seen in windows of this size, or in slabs as wide
            as the body (``inference``).
        margin: voxels in X, Y, Z by which what is augmented is larger, where the volume is; the
            patch is cut from anywhere in it. So turned patches show what lay around them, and
            effusion is not always in the middle.
        crops_per_case: patches cut from a case each time it is drawn.
        positive_share: of the patches are centred on effusion, where a case has any.
        cases_per_batch: drawn for a batch of ``cases_per_batch * crops_per_case`` patches.
        steps_per_epoch: batches in an epoch; ``None`` draws each case, and one of the companions,
            once an epoch.
        doubt_mm: around the masks of distrusted cases, within which nothing is learnt; ``None``
            learns from them as from all others.
        cache: ``memory`` keeps prepared cases in memory; ``disk`` maps the files of ``cache_dir``,
            for more cases than fit; ``none`` prepares them at every draw.
        cache_dir: prepared cases are kept here for the next training; may be shared by runs.
            ``None`` keeps none.
        cache_workers: threads that prepare cases before the training starts.
        num_workers: processes that cut and augment; 0 does it in the training process.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        margin: Sequence[int],
        crops_per_case: int,
        positive_share: float,
        cases_per_batch: int,
        steps_per_epoch: int | None,
        doubt_mm: float | None,
        cache: str,
        cache_dir: str | Path | None,
        cache_workers: int,
        num_workers: int,
    ) -> None:
        if cache not in ("memory", "disk", "none"):
            raise InputError(f"dataset.cache is memory, disk or none; got {cache!r}")
        if cache == "disk" and cache_dir is None:
            raise InputError("dataset.cache=disk needs a folder: dataset.cache_dir=...")
        if np.shape(patch_size) != (3,) or min(patch_size) < 1:
            raise InputError(f"patch_size is three positive sizes (X, Y, Z); got {patch_size}")
        if doubt_mm is not None and doubt_mm < 0:
            raise InputError(f"dataset.doubt_mm is 0 or more, or null; got {doubt_mm}")
        if not 0 <= positive_share <= 1:
            raise InputError(f"dataset.positive_share is a share, 0 to 1; got {positive_share}")
        if np.shape(margin) != (3,) or min(margin) < 0:
            raise InputError(f"dataset.margin is three sizes (X, Y, Z), 0 or more; got {margin}")
        for name, number, least in (
            ("crops_per_case", crops_per_case, 1),
            ("cases_per_batch", cases_per_batch, 1),
            ("steps_per_epoch", steps_per_epoch, 1),
            ("cache_workers", cache_workers, 1),
            ("num_workers", num_workers, 0),
        ):
            if number is not None and number < least:
                raise InputError(f"dataset.{name} is {least} or more; got {number}")
        self.patch_size = tuple(patch_size)
        self.margin = tuple(margin)
        self.crops_per_case = crops_per_case
        self.positive_share = positive_share
        self.cases_per_batch = cases_per_batch
        self.steps_per_epoch = steps_per_epoch
        self.doubt_mm = doubt_mm
        self.cache = cache
        self.cache_dir = cache_dir
        self.cache_workers = cache_workers
        self.num_workers = num_workers

    @property
    def patches_per_batch(self) -> int:
        return self.cases_per_batch * self.crops_per_case

    def loaders(
        self,
        training: Sequence[Case],
        validation: Sequence[Case],
        preprocess: Callable[[Volume], Volume],
        augmentation: Callable[[Sample], Sample],
        companions: Sequence[Case] = (),
    ) -> tuple[DataLoader, DataLoader]:
        """Batches of patches to train on, and whole volumes, one at a time, to validate on.

        Every case is prepared here, before anything is trained. Companions train too, all together
        as often as one of the others.

        Raises:
            Findings: with what is wrong, over all cases.
        """
        # Plain tensors: MONAI's MetaTensor costs a hundred microseconds at every operation.
        monai.data.set_track_meta(False)
        prepare = Collected(self._prepare(preprocess))
        crop = RandCropByPosNegLabeld(
            keys=CUT,
            label_key="label",
            spatial_size=[n + more for n, more in zip(self.patch_size, self.margin, strict=True)],
            allow_smaller=True,  # no volume is smaller than a patch
            pos=self.positive_share,
            neg=1 - self.positive_share,
            num_samples=self.crops_per_case,
            fg_indices_key="foreground",
            bg_indices_key="background",
        )
        as_float = CastToTyped(keys=CUT, dtype=torch.float32)
        doubt = [] if self.doubt_mm is None else [Doubt(training, self.doubt_mm)]
        place = PatchPlace(self.patch_size)
        steps = [prepare, *doubt, crop, as_float, place, augmentation, cut_out, self._of_patch_size]
        patches = self._dataset([*training, *companions], Compose(steps))
        volumes = self._dataset(validation, Compose([prepare, fed]))
        prepare.raise_findings(len(training) + len(companions) + len(validation))
        loader = self._training_loader(patches, len(companions))
        return loader, DataLoader(volumes, num_workers=0, batch_size=1)

    def _prepare(self, preprocess: Callable[[Volume], Volume]) -> Prepare | OnDisk:
        prepare = Prepare(preprocess, self.patch_size)
        if self.cache == "none" or self.cache_dir is None:
            return prepare
        return OnDisk(prepare, self.cache_dir, mapped=self.cache == "disk")

    def _dataset(self, cases: Sequence[Case], transform: Compose) -> Dataset:
        if self.cache == "memory":
            # Not copied at every draw: `CastToTyped` copies just what was cut.
            return CacheDataset(cases, transform, num_workers=self.cache_workers, copy_cache=False)
        with ThreadPool(self.cache_workers) as pool:
            checked = pool.imap_unordered(transform.transforms[0], cases)
            for _ in tqdm(checked, "Preparing", total=len(cases), disable=not cases):
                pass
        return Dataset(cases, transform)

    def _training_loader(self, patches: Dataset, n_companions: int) -> DataLoader:
        n_cases = len(patches) - n_companions
        n_draws = n_cases + bool(n_companions)
        if self.steps_per_epoch is not None:
            n_draws = self.steps_per_epoch * self.cases_per_batch
        return DataLoader(
            Drawn(patches),
            num_workers=self.num_workers,
            batch_size=self.cases_per_batch,
            sampler=Draws(n_cases, n_draws, torch.initial_seed(), n_companions),
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )

    def _of_patch_size(self, sample: Sample) -> Sample:
        size = tuple(sample["image"].shape[1:])
        if size != self.patch_size:
            raise InputError(
                f"the augmentation made a patch of {[*size]} of one of {[*self.patch_size]}: "
                "right-angle turns need a patch_size that is equal in the axes they turn"
            )
        return sample


def _start_worker(_: int) -> None:
    """Plain tensors, where the process was not forked; Ctrl-C is for the training to answer."""
    monai.data.set_track_meta(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
