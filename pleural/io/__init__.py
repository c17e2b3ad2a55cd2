"""Files to volumes and back: a format a file."""

from __future__ import annotations

from pathlib import Path

from pleural.errors import InputError
from pleural.io.find import is_nifti
from pleural.volume import Volume


def read(path: str | Path) -> Volume:
    """A NIfTI file, or a folder that holds one DICOM series, as a volume (HU for CT).

    Raises:
        InputError: nothing is at ``path``, it is neither of the two, or its reader refuses it.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    if path.is_dir():
        from pleural.io import dicom  # pydicom is only loaded for who needs it

        return dicom.read(path)
    if is_nifti(path):
        from pleural.io import nifti

        return nifti.read(path)
    raise InputError(f"{path}: neither NIfTI (.nii, .nii.gz) nor a folder with a DICOM series")
