"""One scan with its reference mask, and what must hold before anyone trains on it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np

from pleural import io
from pleural.errors import Findings, InputError
from pleural.io import find
from pleural.io.archive import unpacked
from pleural.volume import Volume
from pleural.words import listed

AIR_BELOW_HU = -500
PLAUSIBLE_HU = (-10_000, 35_000)  # metal and reconstruction artefacts reach far beyond tissue
LEAST_OVERLAP = 0.5  # share of the mask's voxels that must lie on the scan
EMPTY_MASK = (
    "the mask is empty; if the scan is free of effusion, list the case under data.negatives"
)
SHOWN_VALUES = 5
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Case:
    """A study of one patient.

    Args:
        name: unique within a source; names files and log entries.
        patient: cases of one patient never lie on both sides of a split.
        image: NIfTI file, folder of a DICOM series, or zip of either, in HU.
        mask: the reference effusion; ``None`` for an unlabelled case, which is not a negative one.
        readers: masks of further readers by name, for comparison with the reference.
        negative: known to be free of effusion, so that an empty (or no) mask is right.
        distrusted: its mask is too poor to learn from, and teaches nothing; what is predicted is
            still held against it.
    """

    name: str
    patient: str
    image: Path
    mask: Path | None = None
    readers: Mapping[str, Path] = field(default_factory=dict)
    negative: bool = False
    distrusted: bool = False

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
        return io.read(self.mask).nonzero_ml

    @cached_property
    def image_hash(self) -> str:
        """SHA-256 of the bytes of the image: the same scan, the same hash, labelled or not.

        Where the files lie and what they are called plays no part: slices know their place by their
        headers. Of a DICOM folder, the files that :func:`pleural.io.read` looks at count: those
        that lie flat in it, without hidden ones. Of a zip, what it holds.

        Raises:
            InputError: a file is missing or may not be read.
        """
        with unpacked(self.image) as image:
            return _digest(image).hex()

    @cached_property
    def content_hash(self) -> str:
        """As :attr:`image_hash`, of image and mask together. Readers' masks do not count."""
        mask = b"" if self.mask is None else _digest(self.mask)
        return hashlib.sha256(bytes.fromhex(self.image_hash) + mask).hexdigest()

    def load(self) -> tuple[Volume, Volume | None]:
        """The scan in HU, and the reference mask (uint8, 0 and 1) brought onto the scan's grid.

        The mask is ``None`` for an unlabelled case and empty for a negative one without a file.

        Raises:
            Findings: with everything that is wrong with this case.
        """
        findings: list[str] = []
        placed = None
        scan = _read_or_note(self.image, findings)
        if scan is not None:
            findings += [f"{self.image}: {finding}" for finding in scan_findings(scan)]
        mask = _read_or_note(self.mask, findings) if self.mask else None
        if mask is not None:
            found = mask_findings(mask, self.negative)
            if scan is not None and not found:
                placed = placed_on(scan, mask)
                found = overlap_findings(mask, placed)
            findings += [f"{self.mask}: {finding}" for finding in found]
        if findings or scan is None:
            raise Findings(f"{self.name} cannot be used:", findings)
        if self.negative:
            placed = scan.with_array(np.zeros(scan.shape, np.uint8))
        return scan, placed

    def reading(self, reader: str, scan: Volume) -> Volume:
        """The mask of one of ``readers`` (uint8, 0 and 1) on the grid of ``scan``; may be empty.

        Raises:
            Findings: it cannot be read, or is no mask of this scan.
        """
        path = self.readers[reader]
        mask = io.read(path)
        found = mask_findings(mask) if mask.array.any() else []
        placed = placed_on(scan, mask)
        if found := found or overlap_findings(mask, placed):
            raise Findings(f"{path} cannot be used:", [f"{path}: {finding}" for finding in found])
        return placed


def marked(
    cases: Sequence[Case],
    negatives: str | Sequence[str] | None,
    distrusted: str | Sequence[str] | None,
) -> list[Case]:
    """The cases again, those that fit a pattern marked as negative or distrusted.

    Patterns are shell patterns such as ``"healthy_*"``, of names or patients; upper and lower case
    differ.

    Raises:
        InputError: a pattern fits no case.
    """
    negative = _fitting(cases, negatives, "negatives")
    doubted = _fitting(cases, distrusted, "distrusted")
    return [
        replace(case, negative=case.name in negative, distrusted=case.name in doubted)
        for case in cases
    ]


def _fitting(cases: Sequence[Case], patterns: str | Sequence[str] | None, key: str) -> set[str]:
    """The names of the cases that fit one of the patterns of ``data.<key>``; each must fit some."""
    fitting: set[str] = set()
    for pattern in as_names(patterns):
        found = {
            case.name
            for case in cases
            if fnmatchcase(case.name, pattern) or fnmatchcase(case.patient, pattern)
        }
        if not found:
            raise InputError(f"data.{key}: {pattern!r} fits none of the {len(cases)} cases")
        fitting |= found
    return fitting


def as_names(given: str | int | Sequence[str | int] | None) -> list[str]:
    """What was typed as one name or a list of names, of which some may look like numbers.

    >>> as_names("healthy_*"), as_names(["A", 12]), as_names(None)
    (['healthy_*'], ['A', '12'], [])
    """
    return [str(name) for name in ([given] if isinstance(given, str | int) else given or [])]


def natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """Sort key that puts ``scan_2`` before ``scan_10``; no two names share one.

    >>> sorted(["scan_10", "scan_2"], key=natural)
    ['scan_2', 'scan_10']
    """
    parts = re.findall(r"(\D*)(\d*)", name)
    return [(text, int(digits or 0)) for text, digits in parts], name


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


def mask_findings(mask: Volume, negative: bool = False) -> list[str]:
    """What makes the values of a mask unfit as a reference: it holds 0 and one positive value.

    The mask of a ``negative`` case holds 0 alone.
    """
    array = mask.array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return ["the mask has NaN or infinite values"]
    inside = np.count_nonzero(array)
    if negative and inside:
        return [f"listed as negative, but its mask holds {inside * mask.voxel_ml:.4g} mL"]
    if not inside:
        return [] if negative else [EMPTY_MASK]
    if array.min() != 0 or np.count_nonzero(array == array.max()) != inside:
        values = listed(np.unique(array), SHOWN_VALUES, form="g")
        return [f"a mask holds 0 and one positive value; this one holds {values}"]
    return []


def overlap_findings(mask: Volume, placed: Volume) -> list[str]:
    """Whether a mask lies on its scan; ``placed`` is the mask on the scan's grid."""
    own_ml = mask.nonzero_ml
    share = placed.nonzero_ml / own_ml if own_ml else 1.0
    if share < LEAST_OVERLAP:
        return [f"only {share:.0%} of the mask lies on its scan: another's mask, or a wrong affine"]
    return []


def read_scan(path: str | Path) -> Volume:
    """A study to predict: a NIfTI file, a folder with one DICOM series, or a ``.zip`` of either.

    Raises:
        InputError: it cannot be read, or is no scan in HU.
    """
    scan = io.read(path)
    if findings := scan_findings(scan):
        raise Findings(f"{path} cannot be predicted:", [f"{path}: {each}" for each in findings])
    return scan


def placed_on(scan: Volume, mask: Volume) -> Volume:
    """The mask on the scan's grid, 0 and 1 (uint8): what fills more than half of a voxel."""
    share = mask.onto(scan).array
    return Volume((share > 0.5 * mask.array.max()).astype(np.uint8), scan.affine)


def _read_or_note(path: Path, findings: list[str]) -> Volume | None:
    try:
        return io.read(path)
    except InputError as error:
        findings.append(str(error))
        return None


def _digest(path: Path) -> bytes:
    """Of a file, or of the files of a DICOM series whatever their order."""
    if path.is_dir():
        return hashlib.sha256(b"".join(sorted(map(_digest, find.slice_files(path))))).digest()
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.digest()
