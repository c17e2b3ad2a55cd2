"""What lies in a folder: which NIfTI files and DICOM series, told without reading any voxel.

Hidden files and folders are passed over everywhere (a Mac leaves ``._scan.nii.gz`` beside a scan).
"""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path

from pleural.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
SCANS = ("CT", "NIfTI")  # the kinds that may be a CT scan
MODALITY = 0x0008_0060


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def stem(path: Path) -> str:
    """The name without ``.nii`` or ``.nii.gz``."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def entries(folder: Path) -> list[Path]:
    """Files and folders that lie flat in ``folder``, by name; none where it does not exist."""
    return [folder / name for name in sorted(glob("*", root_dir=folder))]


def slice_files(folder: Path) -> list[Path]:
    """The files that may be slices of the DICOM series that lies flat in ``folder``."""
    return [p for p in entries(folder) if p.is_file() and p.name.upper() != "DICOMDIR"]


def contents(entry: Path) -> dict[Path, str]:
    """The NIfTI files and the folders with DICOM files at and beneath ``entry``, with their kind.

    The kind is ``"NIfTI"``, ``"scout"``, or the modality that one DICOM file of the folder states.

    Raises:
        InputError: a DICOM file is damaged.
    """
    kinds: dict[Path, str] = {}
    for name in ["", *sorted(glob("**", root_dir=entry, recursive=True))]:
        path = entry / name
        if path.is_dir():
            continue
        if is_nifti(path):
            kinds[path] = "NIfTI"
        elif path.parent not in kinds and (kind := dicom_kind(path)):
            kinds[path.parent] = kind
    return kinds


def dicom_kind(path: Path) -> str | None:
    """The modality that a DICOM file states, or ``"scout"``.

    ``None`` for a file that is not DICOM, or does not say of what modality it is.

    Raises:
        InputError: the file is DICOM, but damaged.
    """
    from pydicom.errors import InvalidDicomError  # pydicom is only loaded for who needs it
    from pydicom.filereader import read_partial

    try:
        with path.open("rb") as file:  # stops early: parsing a whole SEG takes half a second
            header = read_partial(file, stop_when=lambda tag, *_: tag > MODALITY)
        scout = "LOCALIZER" in (header.get("ImageType") or ())
        return "scout" if scout else header.get("Modality") or None
    except InvalidDicomError:
        return None
    except Exception as error:  # whatever a damaged file makes a parser stumble over
        raise InputError(f"{path}: cannot be read as DICOM ({error})") from error
