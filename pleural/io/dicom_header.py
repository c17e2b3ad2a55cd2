"""The header of one DICOM file: its tags as words and numbers, or a refusal that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from pleural.errors import InputError, one_line
from pleural.io.plausible import check_inflated
from pleural.words import brief

WHY_NEEDED = {
    "Rows": "its size is unknown",
    "Columns": "its size is unknown",
    "PixelSpacing": "its size in mm is unknown",
    "ImageOrientationPatient": "left and right are unknown",
    "ImagePositionPatient": "its place in the patient is unknown",
    "RescaleSlope": "its values cannot be turned into HU",
    "RescaleIntercept": "its values cannot be turned into HU",
}


IDENTIFIERS = {
    **{"patient_name": "PatientName", "patient_id": "PatientID", "birth_date": "PatientBirthDate"},
    **{"study_date": "StudyDate", "accession_number": "AccessionNumber"},
}
LOOKED_AT = (
    *WHY_NEEDED,
    *IDENTIFIERS.values(),
    *("Modality", "SOPClassUID", "ImageType", "SamplesPerPixel", "NumberOfFrames", "RescaleType"),
    *("SeriesInstanceUID", "PixelPaddingValue", "PixelRepresentation"),
)


def read_header(path: Path) -> pydicom.Dataset | None:
    """``None`` where the file does not claim to be DICOM."""
    try:
        with path.open("rb") as file:
            check_inflated(file)
            header = pydicom.dcmread(file, stop_before_pixels=True)
        for keyword in LOOKED_AT:
            header.get(keyword)  # which parses it: what is wrong with it comes up here
        return header
    except InvalidDicomError as error:
        if path.suffix.lower() != ".dcm":
            return None
        raise no_dicom(path, "called .dcm") from error
    except Exception as error:  # whatever a damaged file makes a parser stumble over
        raise InputError(f"{path}: cannot be read as DICOM ({one_line(error)})") from error


def no_dicom(path: Path, but: str) -> InputError:
    """Of a file that may be a slice: to pass over it might drop one unseen."""
    return InputError(
        f"{path}: {but}, but it lacks the mark of a DICOM file (its {path.stat().st_size} bytes are"
        " cut short, damaged or something else)"
    )


def word(header: pydicom.Dataset, keyword: str) -> str:
    """Value of a tag as DICOM writes it: several parted by backslashes, none as nothing."""
    value = header.get(keyword)
    parts = value if isinstance(value, MultiValue) else [] if value is None else [value]
    return "\\".join(str(part) for part in parts)


def number(
    path: Path, header: pydicom.Dataset, keyword: str, default: float | None = None
) -> float:
    return float(numbers(path, header, keyword, 1, default)[0])


def numbers(
    path: Path, header: pydicom.Dataset, keyword: str, count: int, default: float | None = None
) -> np.ndarray:
    """Value of a tag as ``(count,)`` finite floats; ``default`` where it is absent or empty."""
    try:
        value = header.get(keyword)
        if value in (None, ""):
            value = default
        found = np.array(value, dtype=np.float64, ndmin=1)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: {keyword} is unreadable ({one_line(error)})") from error
    if value is None:
        raise InputError(f"{path}: the header has no {keyword}, so {WHY_NEEDED[keyword]}")
    if found.shape != (count,) or not np.isfinite(found).all():
        raise InputError(f"{path}: {keyword} is {brief(value)}, not {count} finite number(s)")
    return found
