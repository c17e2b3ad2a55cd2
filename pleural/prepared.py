"""Cases to arrays that can be cut into patches: made once, in memory or as files.

Shapes: arrays are ``(1, X, Y, Z)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import numpy as np
from monai.transforms import Transform

from pleural.data.case import Case
from pleural.errors import Findings, InputError, first_line
from pleural.io.whole import write_folder
from pleural.lungs import lung_depth_mm
from pleural.model import AIR
from pleural.volume import Volume

N_BACKGROUND = 100_000  # places to centre a patch on; a sample of them serves as well as all
PREPARED_VERSION = 6  # part of a disk cache's key: raise it when `Prepare` changes
ARRAYS = ("image", "label", "lung_depth_mm", "foreground", "background", "spacing_mm")

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
        """A case's ``name`` and arrays.

        float16 ``image``, ``label`` and ``lung_depth_mm`` (see :mod:`pleural.lungs`), flat int32
        ``foreground`` and ``background``, and ``spacing_mm`` of X, Y, Z.

        Raises:
            Findings: the case cannot be used.
        """
        scan, mask = case.load()
        if mask is None:
            raise Findings(f"{case.name} cannot be used:", [f"{case.name}: has no mask"])
        image = self.preprocess(scan)
        label = mask.onto(image).array
        depth = padded(lung_depth_mm(scan, image, label), self.patch_size, 0.0)
        label = padded(label, self.patch_size, 0.0)
        return {
            "name": case.name,
            "image": padded(image.array, self.patch_size, AIR)[None].astype(np.float16),
            "label": label[None].astype(np.float16),
            "lung_depth_mm": depth[None].astype(np.float16),
            "spacing_mm": np.array(image.spacing_mm, np.float32),
            **places_of(label),
        }


class OnDisk(Transform):
    """Keeps what ``prepare`` makes as files.

    An entry's key is the content of the case's files, whether it is listed as negative, and the
    settings of the preprocessing; it is written beside its place and renamed, so an entry that is
    there is whole.

    Args:
        mapped: arrays are mapped, not read: a crop costs its own bytes.

    Raises:
        InputError: the preprocessing is a function, not an object with attributes.
    """

    def __init__(self, prepare: Prepare, folder: str | Path, mapped: bool) -> None:
        if isinstance(prepare.preprocess, partial | FunctionType):
            raise InputError(
                "preprocess is a function, whose settings no key of dataset.cache_dir can hold: "
                "make it a class with its arguments as attributes, or dataset.cache_dir=null"
            )
        self.prepare = prepare
        self.folder = Path(folder)
        # Copy-on-write: torch warns of arrays that cannot be written to.
        self.mmap_mode: Literal["c"] | None = "c" if mapped else None

    def __call__(self, case: Case) -> Sample:
        entry = self.folder / self._key(case)
        if not entry.is_dir():
            sample = self.prepare(case)
            try:
                write_folder(entry, lambda folder: _save(folder, sample))
            except OSError as error:
                told = (
                    f"{self.folder}: prepared cases cannot be kept here ({first_line(error)}): "
                    "choose another dataset.cache_dir, or null to keep none"
                )
                raise Findings(f"{case.name} is prepared in vain:", [told]) from error
        return {"name": case.name, **self._read(entry)}

    def _read(self, entry: Path) -> Sample:
        try:
            return {
                key: np.load(entry / f"{key}.npy", mmap_mode=self.mmap_mode, allow_pickle=False)
                for key in ARRAYS
            }
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"{entry}: this prepared case cannot be read ({first_line(error)}): delete it, and "
                "it is made anew"
            ) from error

    def _key(self, case: Case) -> str:
        preprocess = self.prepare.preprocess
        settings = (type(preprocess).__name__, sorted(vars(preprocess).items()))
        of_case = case.content_hash, case.negative  # which empty mask is refused hangs on it
        text = repr((PREPARED_VERSION, of_case, settings, self.prepare.patch_size))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _save(folder: Path, sample: Sample) -> None:
    for key in ARRAYS:
        np.save(folder / f"{key}.npy", sample[key])


def padded(array: np.ndarray, at_least: Iterable[int], value: float) -> np.ndarray:
    """``array`` with ``value`` added at the far end of the axes that are too short."""
    missing = [(0, max(0, need - size)) for need, size in zip(at_least, array.shape, strict=True)]
    return np.pad(array, missing, constant_values=value)


def places_of(label: np.ndarray) -> dict[str, np.ndarray]:
    """Flat int32 indices that a patch may be centred on: ``foreground`` and ``background``."""
    return {
        "foreground": np.flatnonzero(label >= 0.5).astype(np.int32),
        "background": _sampled(np.flatnonzero(label == 0), N_BACKGROUND),
    }


def _sampled(indices: np.ndarray, at_most: int) -> np.ndarray:
    if len(indices) > at_most:
        indices = np.random.default_rng(0).choice(indices, at_most, replace=False)
    return indices.astype(np.int32)
