"""A volume in HU as an uncompressed DICOM CT series, one file a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from pleural.errors import InputError
from pleural.io.plausible import COSINE_TOLERANCE
from pleural.io.whole import write_folder
from pleural.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
EMPTY_BUT_REQUIRED = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    *("PatientBirthDate", "PatientSex", "PatientPosition", "PositionReferenceIndicator"),
    *("Manufacturer", "KVP", "AcquisitionNumber"),
)


def write_series(
    volume: Volume, folder: str | Path, *, patient_id: str, description: str = "CT"
) -> None:
    """Array X becomes the columns, Y the rows and Z the slices, wherever the affine points them.

    Values are rounded to whole HU. UIDs follow from ``patient_id`` and ``description``: the same
    two give the same series again. Of the patient nothing but ``patient_id`` is written. The
    folder is written beside its place and renamed, so that one with this name is always whole.

    Raises:
        InputError: ``folder`` exists already.
        ValueError: values that are not finite or do not fit int16, or axes that are not at right
            angles, which DICOM slices cannot express.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: exists already; name a new folder")
    hu = _whole_hu(volume.array)
    lps = LPS_TO_RAS @ volume.affine
    series = _series(lps, patient_id, description)

    def write(whole: Path) -> None:
        for z in range(volume.shape[2]):
            _add_slice(series, hu[:, :, z], lps, z)
            series.save_as(whole / f"{z + 1:04d}.dcm", enforce_file_format=True)

    write_folder(folder, write)


def _whole_hu(array: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int16)
    low, high = array.min(), array.max()
    if not (limits.min <= low and high <= limits.max):  # also true of NaN
        raise ValueError(f"values from {low} to {high} do not fit 16 bits as HU")
    return np.rint(array).astype("<i2")


def _series(lps: np.ndarray, patient_id: str, description: str) -> Dataset:
    """What all slices share. ``lps``: voxel to LPS+ mm."""
    spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / spacing_mm
    if np.abs(axes.T @ axes - np.eye(3)).max() > COSINE_TOLERANCE:
        raise ValueError("the axes are not at right angles, as DICOM slices are; resample first")
    series = Dataset()
    for keyword in EMPTY_BUT_REQUIRED:
        setattr(series, keyword, None)
    series.SOPClassUID = CTImageStorage
    series.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    series.Modality = "CT"
    series.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    series.PatientID = patient_id
    series.PatientName = "ANONYMOUS"
    series.SeriesDescription = description
    series.SeriesNumber = 1
    series.StudyInstanceUID = _uid("study", patient_id)
    series.FrameOfReferenceUID = _uid("frame of reference", patient_id)
    series.SeriesInstanceUID = _uid("series", patient_id, description)
    series.PixelSpacing = _decimals(spacing_mm[[1, 0]])  # DICOM puts rows' (Y) first
    series.SliceThickness = _decimals(spacing_mm[[2]])[0]
    series.ImageOrientationPatient = _decimals(axes[:, :2].T.ravel())
    series.RescaleSlope, series.RescaleIntercept, series.RescaleType = 1, 0, "HU"
    series.WindowCenter, series.WindowWidth = 40, 400
    series.SamplesPerPixel, series.PhotometricInterpretation = 1, "MONOCHROME2"
    series.BitsAllocated, series.BitsStored, series.HighBit = 16, 16, 15
    series.PixelRepresentation = 1
    series.file_meta = FileMetaDataset()
    series.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return series


def _add_slice(series: Dataset, hu: np.ndarray, lps: np.ndarray, z: int) -> None:
    """Turn ``series`` into its slice ``z``; ``hu`` is ``(X, Y)``."""
    series.InstanceNumber = z + 1
    series.SOPInstanceUID = _uid("slice", series.SeriesInstanceUID, str(z))
    series.ImagePositionPatient = _decimals((lps @ [0, 0, z, 1])[:3])
    series.Columns, series.Rows = hu.shape
    series.PixelData = hu.T.tobytes()
    series["PixelData"].VR = "OW"


def _uid(*sources: str) -> str:
    return generate_uid(entropy_srcs=list(sources))


def _decimals(numbers: np.ndarray) -> list[str]:
    """As DICOM's decimal strings, which hold 16 characters."""
    return [format_number_as_ds(float(number)) for number in numbers]
