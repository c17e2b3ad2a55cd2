"""What lies in a folder: which NIfTI files, DICOM series and zips, told without reading any voxel.

Hidden files and folders are passed over everywhere (a Mac leaves ``._scan.nii.gz`` beside a scan).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path, PurePath

from pleural.errors import InputError, one_line
from pleural.io.plausible import check_inflated

NIFTI_SUFFIXES = (".nii", ".nii.gz")
SCANS = ("CT", "NIfTI", "zip")  # the kinds that may be a CT scan
MODALITY = 0x0008_0060
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # PS3.4 B.5: screenshots, of dose reports say


def is_nifti(path: PurePath) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_archive(path: PurePath) -> bool:
    return path.name.lower().endswith(".zip")


def may_hold_scan(entry: Path) -> bool:
    """A folder, a NIfTI file or a zip."""
    return entry.is_dir() or is_nifti(entry) or is_archive(entry)


def stem(path: PurePath) -> str:
    """The name without ``.nii``, ``.nii.gz`` and ``.zip``."""
    return re.sub(r"(\.nii(\.gz)?)?(\.zip)?$", "", path.name, flags=re.IGNORECASE)


def entries(folder: Path) -> list[Path]:
    """Files and folders that lie flat in ``folder``, by name; none where it does not exist."""
    return [folder / name for name in sorted(glob("*", root_dir=folder))]


def slice_files(folder: Path) -> list[Path]:
    """The files that may be slices of the DICOM series that lies flat in ``folder``."""
    return [p for p in entries(folder) if p.is_file() and p.name.upper() != "DICOMDIR"]


def files(entry: Path) -> Iterator[Path]:
    """``entry`` if it is a file, else the files at any depth beneath it.

    Links are followed, but to no folder twice and to none that holds ``entry``: circles end.
    """
    yield from _files(entry, {parent.resolve() for parent in entry.absolute().parents})


def _files(entry: Path, seen: set[Path]) -> Iterator[Path]:
    if not entry.is_dir():
        yield entry
    elif (folder := entry.resolve()) not in seen:
        seen.add(folder)
        for path in entries(entry):
            yield from _files(path, seen)


def contents(entry: Path) -> dict[Path, str]:
    """The NIfTI files, zips and folders with DICOM files at and beneath ``entry``, with their kind.

    The kind is ``"NIfTI"``, ``"zip"`` whatever is in it, or that of the DICOM files of the folder:
    ``"CT"`` where any of them is a CT slice, else :func:`dicom_kind` of one that has a kind. A
    damaged file counts as a CT slice: who reads the folder as a scan is told what is wrong.
    """
    kinds: dict[Path, str] = {}
    for path in files(entry):
        if is_nifti(path):
            kinds[path] = "NIfTI"
        elif is_archive(path):
            kinds[path] = "zip"
        elif kinds.get(path.parent) != "CT" and (kind := _kind_or_ct(path)):
            kinds[path.parent] = kind if kind == "CT" else kinds.get(path.parent, kind)
    return kinds


def _kind_or_ct(path: Path) -> str | None:
    try:
        return dicom_kind(path)
    except InputError:
        return "CT"


def dicom_kind(path: Path) -> str | None:
    """The modality that a DICOM file states, or ``"scout"``, or ``"secondary capture"``.

    ``None`` for a file that is not DICOM, or does not say of what modality it is.

    Raises:
        InputError: the file is DICOM, but damaged.
    """
    from pydicom.errors import InvalidDicomError  # pydicom is only loaded for who needs it
    from pydicom.filereader import read_partial

    try:
        with path.open("rb") as file:
            check_inflated(file)
            # Stops early: parsing a whole SEG takes half a second.
            header = read_partial(file, stop_when=lambda tag, *_: tag > MODALITY)
        if "LOCALIZER" in (header.get("ImageType") or ()):
            return "scout"
        if header.get("SOPClassUID") == SECONDARY_CAPTURE:
            return "secondary capture"
        return header.get("Modality") or None
    except InvalidDicomError:
        return None
    except Exception as error:  # whatever a damaged file makes a parser stumble over
        raise InputError(f"{path}: cannot be read as DICOM ({one_line(error)})") from error
