"""A mask of pleural effusion as a DICOM Segmentation (SEG), for the PACS that holds the scan.

highdicom puts the object together and tells where its frames lie, here and there: no axis is
flipped or swapped by hand. What was written is read again from the file alone and compared with the
mask in mm before it gets its name, for a mirrored mask looks as sound as a true one.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from pleural import __version__
from pleural.errors import InputError, one_line
from pleural.io.dicom import headed_slices
from pleural.io.dicom_geometry import affine_of
from pleural.io.whole import write_whole
from pleural.volume import Volume

# What a segment is, in SNOMED CT. Category: DICOM PS3.16, CID 7150. Type and region: as for
# pleural_effusion in TotalSegmentator's table (totalsegmentator_snomed_mapping.csv), which 3D
# Slicer shows too; "Effusion" is also in CID 12280. "Pleural effusion" (60046008) is the disorder
# that a patient has, no structure that has a shape.
CATEGORY = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TYPE = Code("41699000", "SCT", "Effusion")
REGION = Code("91381003", "SCT", "Pleural cavity")
LABEL = "Pleural effusion"

FIRST_SERIES_NUMBER = 1000  # added to the scan's own, so that the two lie apart in the study
LONGEST_WORDS = 64  # characters in a DICOM "long string"
PLACE_TOLERANCE_MM = 0.01  # rounding on the way to the file and back
SLANT_TOLERANCE_MM = 0.25  # between the axes of a scan and the right angles of a SEG
MATCH_TOLERANCE = 0.05  # of a voxel, once the corners are known to meet

# highdicom asks for all of them and refuses odd ones (a sex other than M, F, O; a date that is
# none), but a SEG must say of the patient and the study what the scan says.
COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)


def write(mask: Volume, series: Path, path: Path, *, algorithm: str, version: str) -> None:
    """One binary segment that refers, frame by frame, to the slices of the scan.

    Frames reach from the first slice with effusion to the last, without gaps, so that a reader
    needs no hint to tell their distance. An empty mask is written as all slices, empty: looked at,
    nothing found. Each call makes a new series in the study of the scan.

    Args:
        mask: uint8 or bool, 0 and 1, on the grid that :func:`pleural.io.dicom.read` gives for
            ``series``, in any order and direction of its axes.
        series: the folder of the scan; its pixels are not read.
        algorithm, version: name and version of what found the effusion.

    Raises:
        InputError: the folder holds no CT volume, or a series on another grid than the mask, with
            axes too far from right angles, or without the references that a SEG needs.
        ValueError: the mask is no mask, or ``algorithm`` or ``version`` is no short text.
        RuntimeError: read back, the mask lay elsewhere; nothing is left at ``path``.
    """
    series, path = Path(series), Path(path)
    if mask.array.dtype.kind not in "bu" or mask.array.max() > 1:
        raise ValueError(f"a mask is uint8, 0 and 1; got {mask.array.dtype}")
    for words in (algorithm, version):
        if not 0 < len(words) <= LONGEST_WORDS or "\\" in words:
            raise ValueError(f"{words!r} is no text of 1 to {LONGEST_WORDS} characters without \\")
    headers, grid = _source(series)
    mask = _at_right_angles(mask, series)
    frames = _frames(mask, grid, series)
    seg = _segmentation(headers, frames, grid, series, algorithm, version)

    def save(partial: Path) -> None:
        seg.save_as(partial)
        _check_place(read(partial), mask, path)

    write_whole(path, save)


def read(path: Path) -> Volume:
    """The first segment as uint8, 0 and 1, placed by the file alone.

    The array is ``(X, Y, Z)``: columns, rows, slices ascending along their normal. It ends where
    the frames end: ``read(path).onto(scan)`` is the mask on a scan's grid.

    Raises:
        InputError: the file is no segmentation, damaged, or its frames make no even volume.
    """
    try:
        seg = hd.seg.segread(path)
        volume = seg.get_volume(
            segment_numbers=seg.segment_numbers[:1], combine_segments=True, relabel=True
        )
        volume = volume.permute_spatial_axes([2, 1, 0])  # from slices, rows, columns
        volume = volume.ensure_handedness("RIGHT_HANDED", flip_axis=2)  # slices ascend
    except Exception as error:  # whatever a damaged file makes a parser stumble over
        raise InputError(f"{path}: cannot be read as a DICOM SEG ({one_line(error)})") from error
    return Volume(volume.array, volume.get_affine("RAS"))


def _source(series: Path) -> tuple[list[Dataset], hd.VolumeGeometry]:
    """The headers of a series in the order of its slices, and the grid that these make."""
    found = headed_slices(series)
    slices, headers = [one for one, _ in found], [header for _, header in found]
    _check_references(series, headers)
    shape = (*slices[0].size.tolist(), len(slices))
    blank = Volume(np.broadcast_to(np.uint8(0), shape), affine_of(slices))
    return headers, _highdicom(_at_right_angles(blank, series)).get_geometry()


def _check_references(series: Path, headers: list[Dataset]) -> None:
    """One study, one frame of reference, and for each slice a reference of its own."""
    wanted = {"StudyInstanceUID": 1, "FrameOfReferenceUID": 1, "SOPInstanceUID": len(headers)}
    for keyword, count in wanted.items():
        found = {header.get(keyword) or "" for header in headers}
        if "" in found or len(found) != count:
            what = "is missing" if "" in found else f"has {len(found)} values, not {count}"
            raise InputError(
                f"{series}: {keyword} {what} in its {len(headers)} slices, so that a DICOM SEG"
                " could not refer to them; export the series again from its PACS"
            )


def _at_right_angles(volume: Volume, series: Path) -> Volume:
    """The same voxels, their axes turned about the middle to exact right angles.

    A SEG, like highdicom, knows no others; headers round theirs, and a trace of tilt may be left.
    The nearest rotation is that of the polar decomposition.
    """
    left, _, right = np.linalg.svd(volume.affine[:3, :3] / volume.spacing_mm)
    affine = volume.affine.copy()
    affine[:3, :3] = left @ right * volume.spacing_mm
    middle = (np.array(volume.shape) - 1) / 2
    affine[:3, 3] += (volume.affine - affine)[:3, :3] @ middle
    off_mm = np.linalg.norm((volume.affine - affine) @ _corners(volume.shape), axis=0).max()
    if off_mm > SLANT_TOLERANCE_MM:
        raise InputError(
            f"{series}: its axes are not at right angles, so that a DICOM SEG would be up to"
            f" {off_mm:.2f} mm off; use the NIfTI mask"
        )
    return Volume(volume.array, affine)


def _highdicom(volume: Volume) -> hd.Volume:
    """Slices, rows, columns from ``(X, Y, Z)``; a view, not a copy."""
    own = hd.Volume(volume.array, volume.affine, "PATIENT", from_reference_convention="RAS")
    return own.permute_spatial_axes([2, 1, 0])


def _frames(mask: Volume, grid: hd.VolumeGeometry, series: Path) -> hd.Volume:
    """The mask in the order of the series, from the first slice with effusion to the last."""
    own = _highdicom(mask)
    here, there = (v.affine @ _corners(v.spatial_shape) for v in (own, grid))
    apart_mm = np.linalg.norm(here[:, :, None] - there[:, None, :], axis=0).min(axis=1)
    try:
        if apart_mm.max() > PLACE_TOLERANCE_MM or own.array.size != np.prod(grid.spatial_shape):
            raise RuntimeError("another box")  # highdicom would crop or pad
        frames = own.match_geometry(grid, tol=MATCH_TOLERANCE)
    except RuntimeError as error:
        raise InputError(
            f"{series}: its grid of {_listed(grid)} voxels is not that of the mask, {_listed(own)};"
            " name the series that the mask was made from"
        ) from error
    filled = np.flatnonzero(frames.array.any(axis=(1, 2)))
    return frames[filled[0] : filled[-1] + 1] if filled.size else frames


def _segmentation(
    headers: list[Dataset],
    frames: hd.Volume,
    grid: hd.VolumeGeometry,
    series: Path,
    algorithm: str,
    version: str,
) -> hd.seg.Segmentation:
    try:
        stated = _prepare(headers, grid)
        seg = hd.seg.Segmentation(
            source_images=headers,
            pixel_array=frames,
            segmentation_type="BINARY",
            segment_descriptions=[_description(algorithm, version)],
            series_instance_uid=generate_uid(),
            series_number=FIRST_SERIES_NUMBER + max(0, headers[0].get("SeriesNumber") or 0),
            series_description=f"{LABEL} ({algorithm})"[:LONGEST_WORDS],
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="pleural",
            manufacturer_model_name=algorithm,
            software_versions=__version__,
            device_serial_number=version,
            content_label="PLEURAL_EFFUSION",  # 16 characters of upper case at most
            content_description=f"{LABEL}, segmented automatically",
            content_creator_name="",  # must be there, may be empty
            specific_character_set="ISO_IR 192",  # UTF-8 holds the names of every other
            omit_empty_frames=False,
        )
        for _ in seg.iterall():  # or text within sequences stays in the character set of the scan
            pass
    except Exception as error:  # whatever odd headers make highdicom and pydicom stumble over
        raise InputError(
            f"{series}: no DICOM SEG can be made of its headers ({one_line(error)}); export the"
            " series again or use the NIfTI mask"
        ) from error
    seg.update(stated)
    return seg


def _description(algorithm: str, version: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=LABEL,
        segmented_property_category=CATEGORY,
        segmented_property_type=TYPE,
        anatomic_regions=[REGION],
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm, family=codes.cid7162.ArtificialIntelligence, version=version
        ),
    )


def _prepare(headers: list[Dataset], grid: hd.VolumeGeometry) -> Dataset:
    """Make headers that highdicom takes; returns what they said of patient and study.

    It copies the geometry of the slices into the frames, where noise in orientations, a wrong or
    missing distance between slices, or none in a mask of one slice would put them elsewhere; so
    slices state the even grid that they make together.
    """
    stated = Dataset()
    for keyword in COPIED:
        if keyword in headers[0]:
            stated.add(headers[0][keyword])
            del headers[0][keyword]
        setattr(headers[0], keyword, None)
    step_mm, *_ = _decimals(grid.spacing)
    for z, header in enumerate(headers):
        header.SOPClassUID = CTImageStorage
        header.ImagePositionPatient = _decimals((grid.affine @ [z, 0, 0, 1])[:3])
        header.ImageOrientationPatient = _decimals(grid.direction_cosines)
        header.SliceThickness = header.SpacingBetweenSlices = step_mm
    return stated


def _check_place(found: Volume, mask: Volume, path: Path) -> None:
    """Whether ``found`` marks, in mm, the voxels of ``mask``; only the two affines are asked."""
    to_mask = np.linalg.inv(mask.affine) @ found.affine
    steps = np.rint(to_mask).astype(int)  # axes swapped and flipped, and a shift by whole voxels
    off_mm = np.linalg.norm(
        mask.affine @ (to_mask - steps) @ _corners(found.shape, beyond=0.5), axis=0
    ).max()
    ends = (steps @ _corners(found.shape))[:3]
    if not np.array_equal(steps[:3, :3] @ steps[:3, :3].T, np.eye(3)):
        finding = "its voxels have another size"
    elif off_mm > PLACE_TOLERANCE_MM:
        finding = f"its grid is up to {off_mm:.3g} mm off"
    elif ends.min() < 0 or (ends.max(axis=1) >= mask.shape).any():
        finding = "it reaches beyond the scan"
    elif not _same_voxels(found, mask, steps):
        finding = "other voxels are marked"
    else:
        return
    raise RuntimeError(f"{path}: not written, for read back from the file, {finding}")


def _same_voxels(found: Volume, mask: Volume, steps: np.ndarray) -> bool:
    """``steps``: index in ``found`` to index in ``mask``. Slice by slice, to spare memory."""
    same = np.count_nonzero(found.array) == np.count_nonzero(mask.array)
    for z in range(found.shape[2]):
        x, y = np.nonzero(found.array[:, :, z])
        there = steps @ [x, y, np.full_like(x, z), np.ones_like(x)]
        same = same and bool(mask.array[tuple(there[:3])].all())
    return same


def _corners(shape: tuple[int, ...], beyond: float = 0.0) -> np.ndarray:
    """``(4, 8)`` indices of the corner voxels' centres, or of points half a voxel ``beyond``."""
    ends = product(*((-beyond, size - 1 + beyond) for size in shape))
    return np.array([[*end, 1.0] for end in ends]).T


def _decimals(numbers: np.ndarray | tuple[float, ...]) -> list[str]:
    """As DICOM's decimal strings, to a millionth of a micron and without negative zeros."""
    return [format_number_as_ds(round(float(number), 9) + 0.0) for number in numbers]


def _listed(grid: hd.Volume | hd.VolumeGeometry) -> str:
    sizes = zip(grid.spatial_shape, grid.spacing, strict=True)
    return " x ".join(f"{size} ({spacing:.4g} mm)" for size, spacing in sizes)
