"""NIfTI files: ``.nii`` and ``.nii.gz``."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from pleural.errors import InputError
from pleural.io.whole import write_whole
from pleural.volume import Volume


def read(path: str | Path) -> Volume:
    """One three-dimensional image; a slope and an intercept in the header are applied.

    Raises:
        InputError: the file is damaged, in colour, not three-dimensional, or does not say where
            it lies (neither sform nor qform).
    """
    try:
        image = nib.load(path)
        header = image.header
        stored = np.dtype(header.get_data_dtype())
        if stored.names or stored.kind not in "iuf":
            raise InputError(f"{path}: voxels of type {stored} are no HU values and no mask")
        scaled = header.get_slope_inter() != (None, None) and header.get_slope_inter() != (1, 0)
        # `get_fdata` would make everything float64: four times the memory of most scans.
        array = image.dataobj.get_scaled(np.float32) if scaled else np.asarray(image.dataobj)
    except InputError:
        raise
    except Exception as error:  # nibabel, zlib and the file system each have their own
        raise InputError(f"{path}: cannot be read as NIfTI ({_first_line(error)})") from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise InputError(
            f"{path}: neither sform nor qform is set: left and right are unknown"
        )
    try:
        return Volume(array, image.affine)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def write(volume: Volume, path: str | Path) -> None:
    """``.nii`` or ``.nii.gz``, whole or not there."""
    image = nib.Nifti1Image(volume.array, volume.affine)
    image.header.set_xyzt_units("mm")
    write_whole(Path(path), lambda partial: nib.save(image, partial))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
