"""PleThora: effusion masks drawn on the CT scans of NSCLC-Radiomics, both downloaded from TCIA."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import ClassVar

from pleural.data.case import Case, marked, natural
from pleural.errors import Findings, InputError
from pleural.io import find

REFERENCE = "first"  # the reviewer whose mask is the reference
EFFUSION_MASK = re.compile(r"(.+)_effusion_([^_]+)_reviewer\.nii(?:\.gz)?")
IMAGES = ("subset", "NSCLC-Radiomics")  # a choice of them first, then all, as TCIA calls them
MASKS = ("subset_masks", "Effusions")
ANY_MASK = "_reviewer.nii"  # of a thoracic cavity as well
# 21.9 of 128.5 mL, as PleThora's own table has it; and one half outside the densities of fluid.
POOR_MASKS = ("LUNG1-005", "LUNG1-013")


@dataclass(frozen=True)
class Plethora:
    """One case for each patient who has a scan, named after the patient.

    The first reviewer's mask is the reference; those of the others become ``Case.readers``. A
    patient without a mask by the first reviewer is unlabelled: no file is no proof of no effusion.

    Args:
        root: holds the two folders that follow.
        images: a folder (or NIfTI file) for each patient, with one CT series at any depth; other
            modalities and scouts are passed over. May be the same folder as ``masks``. ``None``:
            the first of ``IMAGES`` that is there.
        masks: searched at any depth for the masks of effusions; ``None``: as ``images``, of
            ``MASKS``.
        negatives: a shell pattern, or several, of patients known to be free of effusion.
        distrusted: the same, of patients whose masks are too poor to learn from; ``None``: those
            of ``POOR_MASKS`` that are there.
    """

    LAYOUT: ClassVar[str] = cleandoc("""
        DIR/NSCLC-Radiomics/LUNG1-001/.../*.dcm    (one CT series at any depth, or one NIfTI file)
        DIR/Effusions/LUNG1-001/LUNG1-001_effusion_first_reviewer.nii.gz

        as they come from TCIA; or DIR/subset and DIR/subset_masks, or what data.images and
        data.masks name.
    """)

    root: str | Path
    images: str | None = None
    masks: str | None = None
    negatives: str | Sequence[str] | None = ()
    distrusted: str | Sequence[str] | None = None

    def cases(self) -> list[Case]:
        """The cases in natural order.

        Raises:
            InputError: a folder is missing, or holds no patient or no mask.
            Findings: patients without a CT series or with several, masks without a scan, or two
                masks by one reviewer.
        """
        images, masks = self._folder(self.images, IMAGES), self._folder(self.masks, MASKS)
        patients, reviewed = _patients(images), _reviewed(masks)
        if not patients:
            raise InputError(f"{images}: no patient in it; expected:\n\n{self.LAYOUT}")
        if not reviewed:
            raise InputError(f"{masks}: no mask of an effusion in it; expected:\n\n{self.LAYOUT}")
        if findings := [*_scan_findings(patients), *_mask_findings(reviewed, patients)]:
            raise Findings(f"{self.root} cannot be used:", sorted(findings, key=natural))
        cases = [_case(name, patients[name], reviewed.get(name, {})) for name in patients]
        distrusted = self.distrusted
        if distrusted is None:
            distrusted = [name for name in POOR_MASKS if name in patients]
        return marked(cases, self.negatives, distrusted)

    def _folder(self, asked: str | None, known: Sequence[str]) -> Path:
        root, names = Path(self.root).expanduser(), known if asked is None else [asked]
        for name in names:
            if (root / name).is_dir():
                return root / name
        told = f"{root}: there is no folder {' or '.join(names)} in it"
        raise InputError(f"{told}; expected:\n\n{self.LAYOUT}")


def _case(name: str, contents: Mapping[Path, str], masks: Mapping[str, list[Path]]) -> Case:
    readers = {reviewer: paths[0] for reviewer, paths in masks.items()}
    reference = readers.pop(REFERENCE, None)
    return Case(name, patient=name, image=_scans(contents)[0], mask=reference, readers=readers)


def _patients(images: Path) -> dict[str, dict[Path, str]]:
    """What each patient's folder (or file) holds, in natural order of the patients."""
    patients: dict[str, dict[Path, str]] = defaultdict(dict)
    for entry in sorted(find.entries(images), key=lambda entry: natural(entry.name)):
        if find.may_hold_scan(entry) and ANY_MASK not in entry.name:
            found = find.contents(entry).items()
            patients[find.stem(entry)] |= {p: kind for p, kind in found if ANY_MASK not in p.name}
    return patients


def _reviewed(masks: Path) -> dict[str, dict[str, list[Path]]]:
    """The masks of effusions by patient and reviewer, of which one each is right."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in find.files(masks):
        if match := EFFUSION_MASK.fullmatch(path.name):
            patient, reviewer = match.groups()
            found[patient][reviewer].append(path)
    return found


def _scan_findings(patients: Mapping[str, Mapping[Path, str]]) -> Iterator[str]:
    for patient, contents in patients.items():
        scans = _scans(contents)
        if not scans:
            kinds = ", ".join(sorted(set(contents.values()))) or "no DICOM files"
            yield f"{patient}: no CT series ({kinds})"
        elif len(scans) > 1:
            yield f"{patient}: {len(scans)} scans, keep one of {', '.join(map(str, scans))}"


def _mask_findings(
    reviewed: Mapping[str, Mapping[str, list[Path]]], patients: Mapping[str, object]
) -> Iterator[str]:
    for patient, masks in reviewed.items():
        if patient not in patients:
            yield f"{patient}: a mask without a scan; fetch the scan or take the mask out"
        for reviewer, paths in masks.items():
            if len(paths) > 1:
                several = ", ".join(map(str, paths))
                yield f"{patient}: masks by the {reviewer} reviewer, keep one of {several}"


def _scans(contents: Mapping[Path, str]) -> list[Path]:
    return [path for path, kind in contents.items() if kind in find.SCANS]
