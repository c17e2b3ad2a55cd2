"""What no CT has, whatever its format: refused before it costs anything."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pleural.errors import InputError

SPACING_RANGE_MM = (0.05, 20.0)
COSINE_TOLERANCE = 0.005  # 0.3 degrees; what is left of a tilt stays in the affine
SHEAR_TOLERANCE = 0.02  # 1.1 degrees: an affine rounded to two decimals has up to half of it
POSITION_TOLERANCE_MM = 0.1  # scanners round positions, some to one decimal
MOST_VOXELS = 4096 * 1024**2  # 4096 slices of 1024²
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax of a file whose tags are packed, too
MOST_INFLATED = 512 << 20  # bytes; a slice of 4096 x 4096 voxels has 32 MB


def check_size(path: str | Path, shape: Sequence[int]) -> None:
    """To be asked before memory is: a damaged header may claim terabytes.

    Raises:
        InputError: more voxels than ``MOST_VOXELS``.
    """
    if math.prod(shape) > MOST_VOXELS:
        size = " x ".join(str(n) for n in shape)
        raise InputError(f"{path}: claims {size} voxels, larger than any CT scan (damaged?)")


def check_spacing(path: str | Path, what: str, spacing_mm: Iterable[float]) -> None:
    """``what`` names in the message what is so many mm apart.

    Raises:
        InputError: one of them lies outside ``SPACING_RANGE_MM``.
    """
    low, high = SPACING_RANGE_MM
    spacing_mm = [*spacing_mm]
    if min(spacing_mm) < low or max(spacing_mm) > high:
        found = " x ".join(f"{mm:g}" for mm in spacing_mm)
        raise InputError(f"{path}: {what} of {found} mm; a CT has {low:g} to {high:g} mm")


def check_right_angles(path: str | Path, affine: np.ndarray, shape: Sequence[int]) -> None:
    """To more than what is left of rounding, over the whole of ``shape``.

    Raises:
        InputError: axes of ``affine`` are not at right angles, so that neither distances along them
            nor resampling would be right.
    """
    lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)
    extent_mm = lengths_mm * (np.array(shape[:3]) - 1)
    axes = affine[:3, :3] / lengths_mm
    for one, other in ((0, 1), (0, 2), (1, 2)):
        cosine = abs(float(axes[:, one] @ axes[:, other]))
        slid_mm = cosine * min(extent_mm[one], extent_mm[other])
        if cosine > SHEAR_TOLERANCE and slid_mm > POSITION_TOLERANCE_MM:
            degrees = math.degrees(math.asin(min(1.0, cosine)))
            raise InputError(
                f"{path}: is sheared by {degrees:.1f} degrees (gantry tilt?): resample it to axes"
                " at right angles"
            )


def check_inflated(file: BinaryIO) -> None:
    """Of a packed file pydicom unpacks everything, however little of it is asked for.

    ``file`` is read from its start, and left there.

    Raises:
        ValueError: it unpacks to more than any slice.
        OSError, zlib.error: it cannot be read, or is damaged.
    """
    n_bytes = 0
    head = file.read(2048)
    if DEFLATED in head:
        file.seek(144 + int.from_bytes(head[140:144], "little"))  # beyond preamble and file meta
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        while packed := file.read(1 << 16):
            while packed and not inflating.eof and n_bytes <= MOST_INFLATED:
                n_bytes += len(inflating.decompress(packed, 1 << 20))
                packed = inflating.unconsumed_tail
    if n_bytes > MOST_INFLATED:
        raise ValueError(f"unpacks to more than {MOST_INFLATED >> 20} MiB, which is no slice")
    file.seek(0)
