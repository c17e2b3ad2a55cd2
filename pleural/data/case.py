"""One scan with its reference mask, and what must hold before anyone trains on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import numpy as np

from pleural import io
from pleural.errors import Findings, InputError
from pleural.volume import Volume

AIR_BELOW_HU = -500
PLAUSIBLE_HU = (-10_000, 35_000)  # metal and reconstruction artefacts reach far beyond tissue
LEAST_OVERLAP = 0.5  # share of the mask's voxels that must lie on the scan
EMPTY_MASK = (
    "the mask is empty; if the scan is free of effusion, list the case under data.negatives"
)


@dataclass(frozen=True)
class Case:
    """A study of one patient.

    Args:
        name: unique within a source; names files and log entries.
        patient: cases of one patient never lie on both sides of a split.
        image: NIfTI file or folder of a DICOM series, in HU.
        mask: the reference effusion; ``None`` for an unlabelled case, which is not a negative one.
        readers: masks of further readers by name, for comparison with the reference.
        negative: known to be free of effusion, so that an empty (or no) mask is right.
    """

    name: str
    patient: str
    image: Path
    mask: Path | None = None
    readers: Mapping[str, Path] = field(default_factory=dict)
    negative: bool = False

    @property
    def labelled(self) -> bool:
        return self.mask is not None or self.negative

    @cached_property
    def volume_ml(self) -> float:
        """Volume of the reference mask on its own grid; 0 for a negative case without a mask file.

        Raises:
            InputError: the mask cannot be read, or the case is unlabelled.
        """
        if self.mask is None:
            if self.negative:
                return 0.0
            raise InputError(f"{self.name}: unlabelled, so its volume is unknown")
        mask = io.read(self.mask)
        return float(np.count_nonzero(mask.array) * mask.voxel_ml)

    def content_hash(self) -> str:
        """SHA-256 over the bytes of the image and the mask: the same content, the same hash."""
        digest = hashlib.sha256()
        for path in (self.image, self.mask):
            for file in _files(path):
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def load(self) -> tuple[Volume, Volume | None]:
        """The scan in HU, and the reference mask (uint8, 0 and 1) brought onto the scan's grid.

        The mask is ``None`` for an unlabelled case and empty for a negative one without a file.

        Raises:
            Findings: with everything that is wrong with this case.
        """
        findings: list[str] = []
        scan = _read_or_note(self.image, findings)
        mask = _read_or_note(self.mask, findings) if self.mask else None
        if scan is not None:
            findings += [f"{self.image}: {finding}" for finding in scan_findings(scan)]
        if mask is not None:
            found = mask_findings(mask, empty_is_right=self.negative)
            placed = _placed(mask, scan) if scan is not None and not found else None
            if placed is not None:
                found = overlap_findings(mask, placed)
            findings += [f"{self.mask}: {finding}" for finding in found]
        if findings or scan is None:
            raise Findings(f"{self.name} cannot be used:", findings)
        if mask is not None:
            return scan, placed
        return scan, scan.with_array(np.zeros(scan.shape, np.uint8)) if self.negative else None


def negatives(cases: Iterable[Case], patterns: Sequence[str]) -> list[Case]:
    """The cases again, with those whose name or patient fits one of ``patterns`` marked negative.

    Patterns are shell patterns such as ``"healthy_*"``.

    Raises:
        InputError: a pattern fits no case.
    """
    cases = list(cases)
    for pattern in patterns:
        if not any(fnmatch(case.name, pattern) or fnmatch(case.patient, pattern) for case in cases):
            raise InputError(f"data.negatives: {pattern!r} fits none of the {len(cases)} cases")
    return [
        replace(case, negative=True)
        if any(fnmatch(case.name, p) or fnmatch(case.patient, p) for p in patterns)
        else case
        for case in cases
    ]


def scan_findings(scan: Volume) -> list[str]:
    """What shows that the voxels are no chest CT in HU."""
    array = scan.array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        share = 1 - np.isfinite(array).mean()
        return [f"{share:.2%} of the voxels are NaN or infinite"]
    low, high = float(array.min()), float(array.max())
    if low > AIR_BELOW_HU:
        return [f"no voxel below {AIR_BELOW_HU} (lowest {low:g}): not in HU, or no chest CT"]
    if low < PLAUSIBLE_HU[0] or high > PLAUSIBLE_HU[1]:
        return [f"values from {low:g} to {high:g} are no HU"]
    if high < 0:
        return [f"no voxel above 0 HU (highest {high:g}): no tissue in the scan"]
    return []


def mask_findings(mask: Volume, empty_is_right: bool = False) -> list[str]:
    """What makes the values of a mask unfit as a reference: it holds 0 and one other value."""
    array = mask.array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return ["the mask has NaN or infinite values"]
    inside = np.count_nonzero(array)
    if not inside:
        return [] if empty_is_right else [EMPTY_MASK]
    if array.min() < 0 or np.count_nonzero(array == array.max()) != inside:
        return [f"not binary: values {np.unique(array)[:5].tolist()} …"]
    return []


def overlap_findings(mask: Volume, placed: Volume) -> list[str]:
    """Whether a mask lies on its scan; ``placed`` is the mask on the scan's grid."""
    own_ml = np.count_nonzero(mask.array) * mask.voxel_ml
    share = np.count_nonzero(placed.array) * placed.voxel_ml / own_ml if own_ml else 1.0
    if share < LEAST_OVERLAP:
        return [f"only {share:.0%} of the mask lies on its scan: another's mask, or a wrong affine"]
    return []


def _placed(mask: Volume, scan: Volume) -> Volume:
    """The mask on the scan's grid, 0 and 1."""
    share = mask.onto(scan).array
    return Volume((share > 0.5 * mask.array.max()).astype(np.uint8), scan.affine)


def _read_or_note(path: Path, findings: list[str]) -> Volume | None:
    try:
        return io.read(path)
    except InputError as error:
        findings.append(str(error))
        return None


def _files(path: Path | None) -> list[Path]:
    if path is None:
        return []
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
