"""A folder with one DICOM CT series, read as a volume in HU; refused where it is no even volume.

Headers come first, so that a refusal costs no decoding. Words used here, all in DICOM's LPS+ mm:
``across`` is the direction in which a slice's columns follow one another (array X), ``down`` that
of its rows (array Y), and their cross product the ``normal``, along which slices are stacked
(array Z, ascending). Voxels are never flipped; the affine says how they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage

from pleural.errors import InputError
from pleural.io.dicom_write import LPS_TO_RAS, write_series
from pleural.volume import Volume

__all__ = ["read", "write_series"]

AIR_HU = -1024
NEVER_STORED = 1e9
MIN_SLICES = 3  # with fewer there is no second step between slices to check the first against
SPACING_RANGE_MM = (0.05, 20.0)
PIXEL_SPACING_TOLERANCE_MM = 1e-4
COSINE_TOLERANCE = 0.005  # 0.3 degrees; what is left of a tilt stays in the affine
POSITION_TOLERANCE_MM = 0.1  # scanners round positions, some to one decimal
SAME_PLACE_MM = 0.01

WHY_NEEDED = {
    "Rows": "its size is unknown",
    "Columns": "its size is unknown",
    "PixelSpacing": "its size in mm is unknown",
    "ImageOrientationPatient": "left and right are unknown",
    "ImagePositionPatient": "its place in the patient is unknown",
    "RescaleSlope": "its values cannot be turned into HU",
    "RescaleIntercept": "its values cannot be turned into HU",
}


@dataclass(frozen=True)
class _Slice:
    """What the header of one file says, checked; lengths in mm, directions and places in LPS+."""

    path: Path
    size: np.ndarray  # (2,) voxels across and down
    spacing_mm: np.ndarray  # (2,) across and down
    axes: np.ndarray  # (2, 3) unit vectors: across, down
    position_mm: np.ndarray  # (3,) centre of the first voxel
    slope: float
    intercept: float
    padding: float  # the stored value that means "not scanned"

    @property
    def normal(self) -> np.ndarray:
        return np.cross(*self.axes)


def read(folder: str | Path) -> Volume:
    """The one CT series that lies flat in ``folder``, in HU; other files are passed over.

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
    folder = Path(folder)
    headers = _headers(folder)
    _check_kind(folder, headers)
    slices = [_slice(path, header) for path, header in headers.items()]
    _check_alike(folder, slices)
    slices = sorted(slices, key=lambda s: float(s.position_mm @ slices[0].normal))
    _check_places(folder, slices)
    return Volume(_hounsfield(slices), _affine(slices))


def _headers(folder: Path) -> dict[Path, pydicom.Dataset]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    found = {path: _header(path) for path in files if path.name.upper() != "DICOMDIR"}
    headers = {path: header for path, header in found.items() if header is not None}
    if not headers:
        raise InputError(
            f"{folder}: none of its {len(files)} files is DICOM; name the folder in which the"
            " slices themselves lie (sub-folders are not searched)"
        )
    return headers


def _header(path: Path) -> pydicom.Dataset | None:
    """``None`` where the file does not claim to be DICOM."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError as error:
        if path.suffix.lower() != ".dcm":
            return None
        raise InputError(  # to pass over it might drop a slice unseen
            f"{path}: called .dcm, but it lacks the mark of a DICOM file (its"
            f" {path.stat().st_size} bytes are cut short, damaged or something else)"
        ) from error
    except Exception as error:  # whatever a damaged file makes a parser stumble over
        raise InputError(f"{path}: cannot be read as DICOM ({_one_line(error)})") from error


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
        series.setdefault(header.SeriesInstanceUID, []).append(path.name)
    if len(series) > 1:
        found = ", ".join(f"{len(names)} file(s) like {names[0]}" for names in series.values())
        raise InputError(
            f"{folder}: holds {len(series)} series ({found}); give each its own folder"
        )


def _why_no_ct_slice(path: Path, header: pydicom.Dataset) -> str | None:
    modality = header.get("Modality") or "unknown (damaged?)"
    sop_class = header.get("SOPClassUID") or CTImageStorage  # some old archives drop it
    samples = _number(path, header, "SamplesPerPixel", default=1)
    frames = _number(path, header, "NumberOfFrames", default=1)
    if modality != "CT":
        return f"is of modality {modality}, not CT"
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return "is a localizer (scout), no slice of a volume"
    if sop_class != CTImageStorage:
        return f"is of SOP class {sop_class.name}, not CT Image Storage with one slice a file"
    if samples != 1:
        return f"is in colour ({samples:g} samples per pixel)"
    if frames != 1:
        return f"holds {frames:g} frames, not one slice"
    if header.get("RescaleType") not in (None, "", "HU", "US"):  # US: "unspecified"
        return f"holds values of type {header.RescaleType}, not HU"
    if not header.get("SeriesInstanceUID"):
        return "does not say to which series it belongs (damaged?)"
    return None


def _slice(path: Path, header: pydicom.Dataset) -> _Slice:
    cosines = _numbers(path, header, "ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > COSINE_TOLERANCE:
        raise InputError(
            f"{path}: ImageOrientationPatient {_listed(cosines)} is not two unit vectors at a"
            " right angle"
        )
    one = _Slice(
        path=path,
        size=np.array([_number(path, header, name) for name in ("Columns", "Rows")], dtype=int),
        spacing_mm=_numbers(path, header, "PixelSpacing", 2)[::-1],  # DICOM puts rows' (Y) first
        axes=cosines / np.linalg.norm(cosines, axis=1, keepdims=True),
        position_mm=_numbers(path, header, "ImagePositionPatient", 3),
        slope=_number(path, header, "RescaleSlope"),
        intercept=_number(path, header, "RescaleIntercept"),
        padding=_padding(path, header),
    )
    if one.slope <= 0:
        raise InputError(f"{path}: RescaleSlope is {one.slope:g}, so its values are no HU")
    _check_spacing(path, "PixelSpacing", one.spacing_mm)
    return one


def _number(
    path: Path, header: pydicom.Dataset, keyword: str, default: float | None = None
) -> float:
    return float(_numbers(path, header, keyword, 1, default)[0])


def _numbers(
    path: Path, header: pydicom.Dataset, keyword: str, count: int, default: float | None = None
) -> np.ndarray:
    """Value of a tag as ``(count,)`` finite floats; ``default`` where it is absent or empty."""
    try:
        value = header.get(keyword)
        if value in (None, ""):
            value = default
        numbers = np.array(value, dtype=np.float64, ndmin=1)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: {keyword} is unreadable ({_one_line(error)})") from error
    if value is None:
        raise InputError(f"{path}: the header has no {keyword}, so {WHY_NEEDED[keyword]}")
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise InputError(f"{path}: {keyword} is {value}, not {count} finite number(s)")
    return numbers


def _padding(path: Path, header: pydicom.Dataset) -> float:
    value = _number(path, header, "PixelPaddingValue", default=NEVER_STORED)
    signed = _number(path, header, "PixelRepresentation", default=0) == 1
    return value - 65536 if signed and value > 32767 else value  # some forget the sign


def _check_spacing(path: Path, name: str, spacing_mm: np.ndarray) -> None:
    low, high = SPACING_RANGE_MM
    if spacing_mm.min() < low or spacing_mm.max() > high:
        found = " x ".join(f"{s:g}" for s in spacing_mm)
        raise InputError(f"{path}: {name} of {found} mm; a CT has {low:g} to {high:g} mm")


def _check_alike(folder: Path, slices: list[_Slice]) -> None:
    first = slices[0]
    for one in slices[1:]:
        for name, here, there, tolerance in (
            ("Columns x Rows", first.size, one.size, 0),
            ("PixelSpacing", first.spacing_mm, one.spacing_mm, PIXEL_SPACING_TOLERANCE_MM),
            ("orientation", first.axes, one.axes, COSINE_TOLERANCE),
        ):
            if np.abs(here - there).max() > tolerance:
                raise InputError(
                    f"{folder}: slices that are no volume, mixed in {name}: {first.path.name} has"
                    f" {_listed(here)}, {one.path.name} has {_listed(there)}; keep those of one"
                    " acquisition"
                )


def _check_places(folder: Path, slices: list[_Slice]) -> None:
    if len(slices) < MIN_SLICES:
        raise InputError(
            f"{folder}: {len(slices)} slice(s) are too few for a volume; a CT needs {MIN_SLICES}"
        )
    positions = np.array([s.position_mm for s in slices])
    along = positions @ slices[0].normal
    twice = np.flatnonzero(np.diff(along) < SAME_PLACE_MM)
    if twice.size:
        one, other = slices[twice[0]], slices[twice[0] + 1]
        raise InputError(
            f"{folder}: {twice.size} of {len(slices)} slices lie where another lies already, as"
            f" {one.path.name} and {other.path.name} at {along[twice[0]]:.6g} mm; keep one for each"
            " place (a repeated scan, phase or reconstruction gets its own folder)"
        )
    findings = [_tilt(positions, slices), _gap(along, slices)]
    if any(findings):
        what = " and ".join(finding for finding in findings if finding)
        raise InputError(f"{folder}: {what}; export the series again, whole, even and untilted")
    _check_spacing(folder, "distance between slices", np.diff(along[[0, -1]]) / (len(along) - 1))


def _tilt(positions: np.ndarray, slices: list[_Slice]) -> str | None:
    """How the slices slide sideways from one to the next, if they do."""
    normal = slices[0].normal
    offsets = positions - positions[0]
    along = offsets @ normal
    drift = offsets[-1] / along[-1]  # mm for each mm along the normal
    degrees = np.degrees(np.arctan(np.linalg.norm(drift - normal)))
    slid_mm = np.linalg.norm(offsets[-1] - along[-1] * normal)
    if np.radians(degrees) > COSINE_TOLERANCE and slid_mm > POSITION_TOLERANCE_MM:
        return f"the slices are sheared by {degrees:.1f} degrees against their normal (gantry tilt)"
    strays_mm = np.linalg.norm(offsets - along[:, None] * drift, axis=1)
    worst = int(np.argmax(strays_mm))
    if strays_mm[worst] > POSITION_TOLERANCE_MM:
        name = slices[worst].path.name
        return f"{name} lies {strays_mm[worst]:.2f} mm sideways of the line through the others"
    return None


def _gap(along: np.ndarray, slices: list[_Slice]) -> str | None:
    """Which slices are missing, or how uneven the steps are, if they are not all the same."""
    steps = np.diff(along)
    usual = np.sort(steps)[(len(steps) - 1) // 2]
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() <= min(POSITION_TOLERANCE_MM, usual / 4):
        return None
    whole = np.rint(steps / usual)
    if whole.min() < 1 or np.abs(steps / usual - whole).max() > 0.1 or whole.max() < 2:
        return f"the slices are spaced unevenly, {steps.min():.4g} to {steps.max():.4g} mm"
    gap = int(np.argmax(whole > 1))
    return (
        f"{whole.sum() - len(steps):.0f} slice(s) missing, the first after {slices[gap].path.name}:"
        f" from {along[gap]:.6g} to {along[gap + 1]:.6g} mm there is none (elsewhere one each"
        f" {usual:.4g} mm)"
    )


def _hounsfield(slices: list[_Slice]) -> np.ndarray:
    """``(X, Y, Z)`` in HU, int16 until a slice needs float32."""
    volume = np.empty((*slices[0].size, len(slices)), dtype=np.int16, order="F")
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
        syntax = dataset.file_meta.TransferSyntaxUID.name
        return dataset.pixel_array
    except Exception as error:  # each plugin of pydicom has its own, as have damaged pixels
        raise InputError(
            f"{path}: the pixels cannot be decoded from transfer syntax {syntax}"
            f" ({_one_line(error)}); export the file again, whole and uncompressed"
        ) from error


def _slice_hu(stored: np.ndarray, one: _Slice) -> np.ndarray:
    hu = stored * np.float32(one.slope) + np.float32(one.intercept)
    hu[(stored == one.padding) & (hu < AIR_HU)] = AIR_HU
    limits = np.iinfo(np.int16)
    if hu.min() < limits.min or hu.max() > limits.max:
        return hu
    whole = hu.astype(np.int16)
    return whole if np.array_equal(whole, hu) else hu


def _affine(slices: list[_Slice]) -> np.ndarray:
    """Voxel to RAS+ mm of slices in order."""
    first, last = slices[0], slices[-1]
    lps = np.eye(4)
    lps[:3, :2] = first.axes.T * first.spacing_mm
    lps[:3, 2] = (last.position_mm - first.position_mm) / (len(slices) - 1)
    lps[:3, 3] = first.position_mm
    return LPS_TO_RAS @ lps


def _listed(numbers: np.ndarray) -> str:
    return "(" + ", ".join(f"{n:.6g}" for n in numbers.flat) + ")"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
