"""Files to volumes and back: a format a file."""

from __future__ import annotations

from pathlib import Path

from pleural.errors import InputError
from pleural.io.archive import unpacked
from pleural.io.find import is_nifti
from pleural.volume import Volume


def read(path: str | Path) -> Volume:
    """A NIfTI file, a folder that holds one DICOM series, or a zip of one of them, as a volume.

    In HU for CT. A folder is looked at flat, a zip at any depth.

    Raises:
        InputError: nothing is at ``path``, it is none of the three, or its reader refuses it.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    with unpacked(path) as scan:
        return _read(scan)


def _read(scan: Path) -> Volume:
    if scan.is_dir():
        from pleural.io import dicom  # pydicom is only loaded for who needs it

        return dicom.read(scan)
    if is_nifti(scan):
        from pleural.io import nifti

        return nifti.read(scan)
    raise InputError(
        f"{scan}: neither NIfTI (.nii, .nii.gz), nor a folder with a DICOM series, nor a .zip"
    )
