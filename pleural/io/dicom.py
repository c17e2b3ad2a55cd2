"""A folder with one DICOM CT series, read as a volume in HU; refused where it is no even volume.

Headers come first, so that a refusal costs no decoding. Voxels are never flipped; the affine says
how they lie.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID, CTImageStorage, JPEGLSLossless, JPEGLSNearLossless

from pleural.errors import InputError, one_line
from pleural.io.dicom_geometry import (
    Slice,
    affine_of,
    check_alike,
    check_places,
    in_brackets,
)
from pleural.io.dicom_header import IDENTIFIERS, no_dicom, number, numbers, read_header, word
from pleural.io.dicom_write import write_series
from pleural.io.find import slice_files
from pleural.io.plausible import COSINE_TOLERANCE, check_size, check_spacing
from pleural.volume import Volume
from pleural.words import brief

__all__ = ["identifiers", "read", "write_series"]

AIR_HU = -1024
NEVER_STORED = 1e9

# Where pydicom would take one that needs twice the time.
FASTEST_DECODER = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}


def read(folder: str | Path) -> Volume:
    """The one CT series that lies flat in ``folder``, in HU; what is no DICOM is passed over.

    But for a file that is named like the slices: it is refused, as one that was not wholly copied.

    The array is ``(X, Y, Z)``: columns, rows, slices ascending along their normal. It is int16
    where all values are whole and fit, else float32. Each slice has its own slope and intercept.
    Voxels that hold the padding value (outside the circle that was scanned) become -1024 HU, air,
    where they would be darker than that; a padding value within the range of tissue is left alone,
    and so is darkness that the header does not call padding (some scanners' -3024 HU).

    Raises:
        InputError: the folder holds no series, more than one, or one that is no CT volume: other
            modalities, localizers, colour, multi-frame files, missing tags, slices that differ in
            size, spacing or orientation, lie twice at one place, are too few, missing, unevenly
            spaced or tilted; or a file that is damaged or packed in a way that no decoder knows.
    """
    slices = [one for one, _ in headed_slices(Path(folder))]
    return Volume(_hounsfield(slices), affine_of(slices))


def identifiers(folder: str | Path) -> dict[str, str]:
    """Who and when, as the series in ``folder`` has it; empty where its header does not say.

    Raises:
        InputError: as :func:`read`, but for what is wrong with the pixels.
    """
    header = headed_slices(Path(folder))[0][1]
    return {name: word(header, keyword) for name, keyword in IDENTIFIERS.items()}


def headed_slices(folder: Path) -> list[tuple[Slice, pydicom.Dataset]]:
    """The slices of the one CT series in ``folder``, ascending, with their headers.

    Raises:
        InputError: as :func:`read`, but for what is wrong with the pixels.
    """
    headers = _headers(folder)
    _check_kind(folder, headers)
    slices = [_slice(path, header) for path, header in headers.items()]
    check_alike(folder, slices)
    slices = sorted(slices, key=lambda s: float(s.position_mm @ slices[0].normal))
    check_places(folder, slices)
    return [(one, headers[one.path]) for one in slices]


def _headers(folder: Path) -> dict[Path, pydicom.Dataset]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    files = slice_files(folder)
    found = {path: read_header(path) for path in files}
    headers = {path: header for path, header in found.items() if header is not None}
    if not headers:
        raise InputError(
            f"{folder}: none of its {len(files)} files is DICOM; name the folder in which the"
            " slices themselves lie (sub-folders are not searched)"
        )
    alike = {_but_for_numbers(path) for path in headers}
    for path in files:
        if path not in headers and _but_for_numbers(path) in alike:
            raise no_dicom(path, "named like the slices beside it")
    return headers


def _but_for_numbers(path: Path) -> str:
    """What the names of slices have in common: ``IM0001`` and ``IM0002``, or UIDs."""
    return re.sub(r"\d+", "#", path.name.lower())


def _check_kind(folder: Path, headers: dict[Path, pydicom.Dataset]) -> None:
    findings = {path: _why_no_ct_slice(path, header) for path, header in headers.items()}
    wrong = {path: finding for path, finding in findings.items() if finding}
    if wrong:
        path, finding = next(iter(wrong.items()))
        raise InputError(
            f"{folder}: {path.name} {finding} ({list(wrong.values()).count(finding)} of"
            f" {len(headers)} DICOM files); give a folder with the slices of one CT series only"
        )
    series: dict[str, list[str]] = {}
    for path, header in headers.items():
        series.setdefault(word(header, "SeriesInstanceUID"), []).append(path.name)
    if len(series) > 1:
        found = ", ".join(f"{len(names)} file(s) like {names[0]}" for names in series.values())
        raise InputError(
            f"{folder}: holds {len(series)} series ({found}); give each its own folder"
        )


def _why_no_ct_slice(path: Path, header: pydicom.Dataset) -> str | None:
    modality = word(header, "Modality") or "unknown (damaged?)"
    sop_class = UID(word(header, "SOPClassUID")) or CTImageStorage  # some old archives drop it
    samples = number(path, header, "SamplesPerPixel", default=1)
    frames = number(path, header, "NumberOfFrames", default=1)
    rescaled = word(header, "RescaleType")
    if modality != "CT":
        return f"is of modality {brief(modality)}, not CT"
    if "LOCALIZER" in word(header, "ImageType").split("\\"):
        return "is a localizer (scout), no slice of a volume"
    if sop_class != CTImageStorage:
        name = brief(sop_class.name)
        return f"is of SOP class {name}, not CT Image Storage with one slice a file"
    if samples != 1:
        return f"is in colour ({samples:g} samples per pixel)"
    if frames != 1:
        return f"holds {frames:g} frames, not one slice"
    if rescaled not in ("", "HU", "US"):  # US: "unspecified"
        return f"holds values of type {brief(rescaled)}, not HU"
    if not word(header, "SeriesInstanceUID"):
        return "does not say to which series it belongs (damaged?)"
    return None


def _slice(path: Path, header: pydicom.Dataset) -> Slice:
    cosines = numbers(path, header, "ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > COSINE_TOLERANCE:
        raise InputError(
            f"{path}: ImageOrientationPatient {in_brackets(cosines)} is not two unit vectors at a"
            " right angle"
        )
    one = Slice(
        path=path,
        size=np.array([number(path, header, name) for name in ("Columns", "Rows")], dtype=int),
        spacing_mm=numbers(path, header, "PixelSpacing", 2)[::-1],  # DICOM puts rows' (Y) first
        axes=cosines / np.linalg.norm(cosines, axis=1, keepdims=True),
        position_mm=numbers(path, header, "ImagePositionPatient", 3),
        slope=number(path, header, "RescaleSlope"),
        intercept=number(path, header, "RescaleIntercept"),
        padding=_padding(path, header),
    )
    if one.slope <= 0:
        raise InputError(f"{path}: RescaleSlope is {one.slope:g}, so its values are no HU")
    check_spacing(path, "PixelSpacing", one.spacing_mm)
    return one


def _padding(path: Path, header: pydicom.Dataset) -> float:
    value = number(path, header, "PixelPaddingValue", default=NEVER_STORED)
    signed = number(path, header, "PixelRepresentation", default=0) == 1
    return value - 65536 if signed and value > 32767 else value  # some forget the sign


def _hounsfield(slices: list[Slice]) -> np.ndarray:
    """``(X, Y, Z)`` in HU, int16 until a slice needs float32."""
    shape = *(int(n) for n in slices[0].size), len(slices)
    check_size(slices[0].path.parent, shape)
    volume = np.empty(shape, dtype=np.int16, order="F")
    for z, one in enumerate(slices):
        hu = _slice_hu(_stored(one.path), one)
        if hu.dtype.kind == "f":
            volume = volume.astype(np.float32, copy=False)
        volume[:, :, z] = hu.T
    return volume


def _stored(path: Path) -> np.ndarray:
    """The pixels of one file as stored, ``(Y, X)``."""
    syntax = "unknown"
    try:
        dataset = pydicom.dcmread(path)
        uid = dataset.file_meta.TransferSyntaxUID
        syntax = uid.name
        dataset.pixel_array_options(decoding_plugin=FASTEST_DECODER.get(uid, ""))
        return dataset.pixel_array
    except Exception as error:  # each plugin of pydicom has its own, as have damaged pixels
        raise InputError(
            f"{path}: the pixels cannot be decoded from transfer syntax {syntax}"
            f" ({one_line(error)}); export the file again, whole and uncompressed"
        ) from error


def _slice_hu(stored: np.ndarray, one: Slice) -> np.ndarray:
    hu = stored * np.float32(one.slope) + np.float32(one.intercept)
    hu[(stored == one.padding) & (hu < AIR_HU)] = AIR_HU
    limits = np.iinfo(np.int16)
    if hu.min() < limits.min or hu.max() > limits.max:
        return hu
    whole = hu.astype(np.int16)
    return whole if np.array_equal(whole, hu) else hu
