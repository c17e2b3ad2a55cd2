"""A folder of scans, with or without masks, in one of the layouts that people already have."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path
from typing import ClassVar
from unicodedata import normalize

from pleural.data.case import Case, marked, natural
from pleural.errors import Findings, InputError
from pleural.io import find
from pleural.words import listed

IMAGE_STARTS = ("image", "ct", "scan")
MASK_STARTS = ("mask", "label", "effusion", "seg")
IMAGE_FOLDERS = ("images", "imagesTr", "imagesTs")
MASK_FOLDERS = ("masks", "labelsTr")
MANY = 5  # of what is wrong in the same way, the first few tell enough
MOST_NAME_BYTES = 160  # two DICOM UIDs and some more; a file's name ends at 255, suffixes included


@dataclass(frozen=True)
class Folder:
    """One case for each scan beneath ``root``, named after its file or its folder.

    A scan without a mask is unlabelled, not negative; a folder without any masks serves prediction.
    Scans are NIfTI files, folders with one CT series, or zips of either, at any depth, where other
    modalities and scouts are passed over. Masks are NIfTI files.

    With masks, an entry holds one scan. Without any, each of its scans is a case: PatientA/2021/ct
    and PatientA/2022/ct become PatientA_2021 and PatientA_2022, both of the patient PatientA. Such
    a name is made of the entry and of the folders (or files) at which the ways to its scans part,
    joined with ``_``, which also replaces all but letters, digits and ``._-``. A name longer than
    ``MOST_NAME_BYTES`` is cut and ends in a hash of it. Scans that would share one are refused.

    Args:
        root: laid out in one of the ways of ``LAYOUT``; the first that fits is taken.
        negatives: a shell pattern, or several, of cases known to be free of effusion.
        distrusted: the same, of cases whose masks are too poor to learn from.
        patient_pattern: regular expression with one group, searched in the name of each case; what
            the group holds is the patient, so that several studies of one patient stay together.
            ``None``: each entry is a patient of its own.
    """

    LAYOUT: ClassVar[str] = cleandoc("""
        DIR/images/NAME.nii.gz      or a folder DIR/images/NAME/ with one DICOM series
        DIR/masks/NAME.nii.gz       missing for unlabelled scans

        DIR/imagesTr/NAME.nii.gz    or NAME_0000.nii.gz; unlabelled ones also in DIR/imagesTs
        DIR/labelsTr/NAME.nii.gz

        DIR/NAME/image.nii.gz       or ct*, scan*, or one DICOM series
        DIR/NAME/mask.nii.gz        or label*, effusion*, seg*; missing for unlabelled scans

        DIR/NAME.nii.gz             scans only; or DIR is itself the folder of one DICOM series

        A .zip may stand for a scan. Without any masks, folders may hold several, at any depth.
    """)

    root: str | Path
    negatives: str | Sequence[str] | None = ()
    distrusted: str | Sequence[str] | None = ()
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
        if not any(one.masks for one in found.values()):
            _pass_over(found)
        findings = [f"{name}: {what}" for name in found for what in found[name].findings(root)]
        if not any(one.images for one in found.values()):
            title = f"{root}: no scan in it; expected one of:\n\n{self.LAYOUT}\n"
            raise Findings(title, findings[:MANY])
        patients = self._patients(found, findings)
        if findings:
            raise Findings(f"{root} cannot be used:", findings)
        cases = [
            Case(name, patients[name], one.images[0], mask=next(iter(one.masks), None))
            for name, one in found.items()
        ]
        return marked(cases, self.negatives, self.distrusted)

    def _patients(self, found: Mapping[str, _Found], findings: list[str]) -> dict[str, str]:
        """The patient of each case; names that the pattern does not fit go to the findings."""
        if self.patient_pattern is None:
            return {name: one.patient or name for name, one in found.items()}
        patients = {}
        pattern = _one_group(self.patient_pattern)
        for name in found:
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
    patient: str | None = None  # where it is not called as the case

    def add_scan(self, entry: Path) -> None:
        """A file that can only be a scan, or what lies in a folder of such files."""
        for path, kind in find.contents(entry).items():
            if kind in find.SCANS:
                self.images.append(path)
            else:
                self.modalities.append(kind)

    def add_case(self, folder: Path) -> None:
        """A folder with a scan and perhaps a mask, where names of files tell which is which."""
        for path, kind in find.contents(folder).items():
            if kind == "NIfTI":
                self._called_like(path).append(path)
            elif kind in find.SCANS:
                self.images.append(path)
            else:
                self.modalities.append(kind)

    def _called_like(self, path: Path) -> list[Path]:
        name = path.name.lower()
        if name.startswith(IMAGE_STARTS):
            return self.images
        return self.masks if name.startswith(MASK_STARTS) else self.unclear

    def take_unclear_for_images(self) -> None:
        """Where there are no masks, unless another file is clearly the scan or a name says mask."""
        said = any(word in path.name.lower() for path in self.unclear for word in MASK_STARTS)
        if not self.images and not said:
            self.images, self.unclear = self.unclear, []

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
        found[root.resolve().name].add_case(root)
    else:
        for entry in filter(find.may_hold_scan, find.entries(root)):
            one = found[find.stem(entry)]
            (one.add_case if entry.is_dir() else one.add_scan)(entry)
    if not any(one.masks for one in found.values()):
        _part_scans(root, found)
    return {name: found[name] for name in sorted(found, key=natural)}


def _pass_over(found: dict[str, _Found]) -> None:
    """Leaves out what holds no scan, as exported archives do beside their scans, and says so."""
    without = [name for name, one in found.items() if not one.images and not one.unclear]
    if len(without) == len(found):
        return  # then it is all that there is to tell
    for name in without:
        kinds = ", ".join(sorted(set(found.pop(name).modalities))) or "neither NIfTI nor DICOM"
        print(f"passed over: {name} (no CT scan: {kinds})")


def _find_pairs(root: Path, found: dict[str, _Found]) -> None:
    """Scans and masks that lie in folders of their own and bear the same names."""
    masks = [p for folder in MASK_FOLDERS for p in find.entries(root / folder) if find.is_nifti(p)]
    labelled = {find.stem(mask) for mask in masks}
    for entry in (p for folder in IMAGE_FOLDERS for p in find.entries(root / folder)):
        if find.may_hold_scan(entry):
            found[_without_channel(find.stem(entry), labelled)].add_scan(entry)
    for mask in masks:
        found[find.stem(mask)].masks.append(mask)


def _part_scans(root: Path, found: dict[str, _Found]) -> None:
    """Makes each of several scans of an entry a case; those called the same stay together."""
    for one in found.values():
        one.take_unclear_for_images()
    several = {name: one for name, one in found.items() if one.images[1:] and not one.unclear}
    for entry in several:
        del found[entry]
    for entry, one in several.items():
        for name, image in zip(_names(entry, one.images, root), one.images, strict=True):
            found[name].images.append(image)
            found[name].patient = entry


def _names(entry: str, images: Sequence[Path], root: Path) -> Iterator[str]:
    """The entry's name and, of the path of each image, the parts where others go another way."""
    paths = [tuple(find.stem(Path(part)) for part in i.relative_to(root).parts) for i in images]
    ways: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for path in paths:
        for depth in range(len(path) + 1):
            ways[path[:depth]].add(path[depth : depth + 1])  # () where a path ends
    for path in paths:
        own = [part for depth, part in enumerate(path) if len(ways[path[:depth]]) > 1]
        yield _file_name("_".join([entry, *own]))


def _file_name(name: str) -> str:
    safe = re.sub(r"(_|[^\w.-])+", "_", normalize("NFC", name))  # a Mac takes letters apart
    if len(safe.encode()) <= MOST_NAME_BYTES:
        return safe
    end = f"-{hashlib.sha256(safe.encode()).hexdigest()[:8]}"
    return safe.encode()[: MOST_NAME_BYTES - len(end)].decode(errors="ignore") + end


def _without_channel(stem: str, labelled: set[str]) -> str:
    """The name of the case that an image belongs to: nnU-Net appends a channel, ``_0000``.

    Other data sets number their cases alike (``amos_0001``), so the names of the masks decide.
    """
    case = re.sub(r"_\d{4}$", "", stem)
    if case in labelled or (stem.endswith("_0000") and stem not in labelled):
        return case
    return stem


def _listed(paths: Sequence[Path], root: Path) -> str:
    return listed([str(path.relative_to(root)) for path in paths], MANY)
