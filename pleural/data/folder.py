"""A folder of scans, with or without masks, in one of the layouts that people already have."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path
from typing import ClassVar

from pleural.data.case import Case, natural, negatives
from pleural.errors import Findings, InputError
from pleural.io import find

IMAGE_STARTS = ("image", "ct", "scan")
MASK_STARTS = ("mask", "label", "effusion", "seg")
IMAGE_FOLDERS = ("images", "imagesTr", "imagesTs")
MASK_FOLDERS = ("masks", "labelsTr")
MANY = 5  # of what is wrong in the same way, the first few tell enough


@dataclass(frozen=True)
class Folder:
    """One case for each scan beneath ``root``, named after its file or its folder.

    A scan without a mask is unlabelled, not negative; a folder without any masks serves prediction.
    Scans are NIfTI files or folders with one CT series at any depth, where other modalities and
    scouts are passed over; masks are NIfTI files.

    Args:
        root: laid out in one of the ways of ``LAYOUT``; the first that fits is taken.
        negatives: a shell pattern, or several, of cases known to be free of effusion.
        patient_pattern: regular expression with one group, searched in the name of each case; what
            the group holds is the patient, so that several studies of one patient stay together.
            ``None``: each case is a patient of its own.
    """

    LAYOUT: ClassVar[str] = cleandoc("""
        DIR/images/NAME.nii.gz      or a folder DIR/images/NAME/ with one DICOM series
        DIR/masks/NAME.nii.gz       missing for unlabelled scans

        DIR/imagesTr/NAME.nii.gz    or NAME_0000.nii.gz; unlabelled ones also in DIR/imagesTs
        DIR/labelsTr/NAME.nii.gz

        DIR/NAME/image.nii.gz       or ct*, scan*, or one DICOM series
        DIR/NAME/mask.nii.gz        or label*, effusion*, seg*; missing for unlabelled scans

        DIR/NAME.nii.gz             scans only; or DIR is itself the folder of one DICOM series
    """)

    root: str | Path
    negatives: str | Sequence[str] = ()
    patient_pattern: str | None = None

    def cases(self) -> list[Case]:
        """The cases in natural order.

        Raises:
            InputError: there is no such folder, no layout fits, or ``patient_pattern`` is no
                regular expression with one group.
            Findings: cases without a scan or with several scans or masks, NIfTI files whose names
                say neither scan nor mask, or cases that ``patient_pattern`` does not fit.
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise InputError(f"{root}: there is no such folder; expected one of:\n\n{self.LAYOUT}")
        found = _found(root)
        findings = [f"{name}: {what}" for name in found for what in found[name].findings(root)]
        if not any(one.images for one in found.values()):
            title = f"{root}: no scan in it; expected one of:\n\n{self.LAYOUT}\n"
            raise Findings(title, findings[:MANY])
        patients = self._patients(found, findings)
        if findings:
            raise Findings(f"{root} cannot be used:", findings)
        cases = [
            Case(name, patients[name], one.images[0], mask=one.masks[0] if one.masks else None)
            for name, one in found.items()
        ]
        return negatives(cases, self.negatives)

    def _patients(self, names: Iterable[str], findings: list[str]) -> dict[str, str]:
        """The patient of each case; names that the pattern does not fit go to the findings."""
        if self.patient_pattern is None:
            return {name: name for name in names}
        patients = {}
        pattern = _one_group(self.patient_pattern)
        for name in names:
            if (match := pattern.search(name)) and match[1]:
                patients[name] = match[1]
            else:
                findings.append(f"{name}: data.patient_pattern finds no patient in this name")
        return patients


def _one_group(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"data.patient_pattern: {pattern!r} is no regular expression ({error})"
        ) from error
    if compiled.groups != 1:
        raise InputError(
            f"data.patient_pattern: {pattern!r} has {compiled.groups} groups, where one marks the"
            " patient, as in '(.+)_[0-9]+'"
        )
    return compiled


@dataclass
class _Found:
    """What lies where a case should be: one image and at most one mask is right."""

    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    unclear: list[Path] = field(default_factory=list)  # NIfTI, but image or mask?
    modalities: list[str] = field(default_factory=list)  # DICOM that is no CT scan

    def add_scan(self, entry: Path) -> None:
        """A NIfTI file, or a folder with a DICOM series or such a file, that can only be a scan."""
        for path, kind in find.contents(entry).items():
            if kind in find.SCANS:
                self.images.append(path)
            else:
                self.modalities.append(kind)

    def add_case(self, folder: Path) -> None:
        """A folder with a scan and perhaps a mask, where names of files tell which is which."""
        for path, kind in find.contents(folder).items():
            if kind == "CT" or (kind == "NIfTI" and path.name.lower().startswith(IMAGE_STARTS)):
                self.images.append(path)
            elif kind != "NIfTI":
                self.modalities.append(kind)
            elif path.name.lower().startswith(MASK_STARTS):
                self.masks.append(path)
            else:
                self.unclear.append(path)

    def findings(self, root: Path) -> Iterator[str]:
        if not self.images and self.masks:
            yield f"a mask without a scan: {_listed(self.masks, root)}"
        elif not self.images and not self.unclear:
            yield f"no scan ({', '.join(self.modalities) or 'neither NIfTI nor DICOM'})"
        for files, kind in ((self.images, "scans"), (self.masks, "masks")):
            if len(files) > 1:
                yield f"{len(files)} {kind} where there may be one: {_listed(files, root)}"
        if self.unclear:
            yield (
                f"scan or mask? {_listed(self.unclear, root)}; names of scans start with"
                f" {'/'.join(IMAGE_STARTS)}, of masks with {'/'.join(MASK_STARTS)}"
            )


def _found(root: Path) -> dict[str, _Found]:
    """What lies in ``root`` by case, in natural order, in the first layout that fits."""
    found: dict[str, _Found] = defaultdict(_Found)
    if any((root / folder).is_dir() for folder in IMAGE_FOLDERS):
        _find_pairs(root, found)
    elif any(find.dicom_kind(path) for path in find.entries(root) if path.is_file()):
        found[root.resolve().name].add_scan(root)
    else:
        for entry in find.entries(root):
            if entry.is_dir():
                found[entry.name].add_case(entry)
            elif find.is_nifti(entry):
                found[find.stem(entry)].add_scan(entry)
    return {name: found[name] for name in sorted(found, key=natural)}


def _find_pairs(root: Path, found: dict[str, _Found]) -> None:
    """Scans and masks that lie in folders of their own and bear the same names."""
    masks = [p for folder in MASK_FOLDERS for p in find.entries(root / folder) if find.is_nifti(p)]
    labelled = {find.stem(mask) for mask in masks}
    for entry in (p for folder in IMAGE_FOLDERS for p in find.entries(root / folder)):
        if entry.is_dir() or find.is_nifti(entry):
            found[_without_channel(find.stem(entry), labelled)].add_scan(entry)
    for mask in masks:
        found[find.stem(mask)].masks.append(mask)


def _without_channel(stem: str, labelled: set[str]) -> str:
    """The name of the case that an image belongs to: nnU-Net appends a channel, ``_0000``.

    Other data sets number their cases alike (``amos_0001``), so the names of the masks decide.
    """
    case = re.sub(r"_\d{4}$", "", stem)
    if case in labelled or (stem.endswith("_0000") and stem not in labelled):
        return case
    return stem


def _listed(paths: Sequence[Path], root: Path) -> str:
    names = [str(path.relative_to(root)) for path in paths]
    return ", ".join([*names[:MANY], f"and {len(names) - MANY} more"] if names[MANY:] else names)
