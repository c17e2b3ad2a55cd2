"""NIfTI files: ``.nii`` and ``.nii.gz``."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from pleural.errors import InputError, first_line
from pleural.io.plausible import check_right_angles, check_size, check_spacing
from pleural.io.whole import write_whole
from pleural.volume import Volume

MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by NIfTI's code: unknown, metre, mm, micron
PLACE_FIELDS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)
UNIT_BITS = 0b111  # of xyzt_units; the others tell the unit of time


def read(path: str | Path) -> Volume:
    """One three-dimensional image, of the type that is stored.

    A slope and an intercept in the header are applied, which makes it float32. Axes beyond the
    third are dropped where they have one entry. An affine in metres or microns is turned to mm;
    where the header names no unit, it is mm.

    Raises:
        InputError: the file is damaged, in colour, not three-dimensional, larger or coarser than
            any CT, sheared, in a unit that NIfTI does not know, or does not say where it lies
            (neither sform nor qform).
    """
    try:
        image = nib.load(path)
        stored = np.dtype(image.header.get_data_dtype())
        if stored.names or stored.kind not in "iuf":
            raise InputError(f"{path}: voxels of type {stored} are no HU values and no mask")
        check_size(path, image.shape)
        array = _scaled(image.dataobj)
    except InputError:
        raise
    except Exception as error:  # nibabel, zlib and the file system each have their own
        # Of a file that goes while it is read, nibabel says whatever it was about to do.
        why = first_line(error) if os.path.exists(path) else "no such file, or no access"
        raise InputError(f"{path}: cannot be read as NIfTI ({why})") from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    affine = _affine_mm(path, image)
    try:
        volume = Volume(array, affine)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    check_spacing(path, "voxels", volume.spacing_mm)
    check_right_angles(path, affine, volume.shape)
    return volume


def write(
    volume: Volume, path: str | Path, like: str | Path | None = None, slope: float | None = None
) -> None:
    """``.nii`` or ``.nii.gz``, whole or not there.

    Args:
        like: a NIfTI file on whose grid ``volume`` lies, as :func:`read` gave it. What its header
            says of the place (sform, qform, spacing, unit) is kept to the last bit; an affine
            alone would be rounded to the header's 32 bits.
        slope: what a stored 1 means to who reads the file; the values are stored as they are.

    Raises:
        ValueError: ``volume`` is not on the grid of ``like``.
    """
    image = nib.Nifti1Image(volume.array, volume.affine)
    image.header.set_xyzt_units("mm")
    if like is not None:
        image = _placed_like(volume, path=like)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    write_whole(Path(path), lambda partial: nib.save(image, partial))


def _placed_like(volume: Volume, path: str | Path) -> nib.Nifti1Image:
    source = nib.load(path)
    if source.shape[:3] != volume.shape or not np.allclose(_affine_mm(path, source), volume.affine):
        raise ValueError(f"{path}: the volume to write does not lie on the grid of this file")
    header = type(source.header)()
    header.set_data_dtype(volume.array.dtype)
    header.set_data_shape(volume.shape)
    header["pixdim"][:4] = source.header["pixdim"][:4]
    header["xyzt_units"] = int(source.header["xyzt_units"]) & UNIT_BITS
    for field in PLACE_FIELDS:
        header[field] = source.header[field]
    return type(source)(volume.array, None, header)


def _scaled(stored: nib.arrayproxy.ArrayProxy) -> np.ndarray:
    """Scaled in float32: by itself nibabel takes float64, four times the memory of most scans."""
    array = np.asarray(stored.get_unscaled())
    if (stored.slope, stored.inter) == (1, 0):
        return array.astype(array.dtype.newbyteorder("="), copy=False)  # torch knows no other order
    array = array.astype(np.float32)
    array *= stored.slope
    array += stored.inter
    return array


def _affine_mm(path: str | Path, image: nib.Nifti1Image) -> np.ndarray:
    header = image.header
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise InputError(f"{path}: neither sform nor qform is set: left and right are unknown")
    unit = int(header["xyzt_units"]) & UNIT_BITS
    if unit not in MM_PER_UNIT:
        raise InputError(f"{path}: its unit of length is {unit}, a code that NIfTI does not have")
    return np.diag([*[MM_PER_UNIT[unit]] * 3, 1.0]) @ image.affine
