"""The plane that divides a patient into right and left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pleural.body import BODY_ABOVE_HU, largest
from pleural.errors import InputError
from pleural.volume import Volume

SYMMETRY_GRID_MM = (6.0, 6.0, 15.0)
SYMMETRY_HU = (-150, 350)  # air nothing, fat little, muscle more, bone most
ROLLS_DEG = range(-16, 17, 4)  # about the long axis: one shoulder higher
TILTS_DEG = range(-8, 9, 2)  # about the front-to-back axis: leaning to a side
MISMATCH = 2.0  # weighs as much as so many matches
CUT_OFF = 0.1  # of the mean over X is in the first or last plane of a body that goes on beyond
IN_VIEW_MM = 90.0  # of a side that is cut off, or the plane may be anywhere (benchmarks/midline.py)


@dataclass(frozen=True)
class Midline:
    """Where a patient's right begins.

    Args:
        plane: ``(4,)``; its product with a voxel's ``(i, j, k, 1)`` is the distance in mm,
            positive on the patient's right.
        sure: the field of view shows both flanks, or 9 cm of the one that it cuts off. With less
            the plane is mostly right, but may be centimetres off.
    """

    plane: np.ndarray
    sure: bool


def midline(scan: Volume) -> Midline:
    """The plane about which the body in ``scan`` (RAS+, HU) is most symmetrical.

    The body is compared with its mirror image for every position of the plane, turned about the
    long axis by up to 16 degrees and leaning by up to 8. Skin, ribs, spine and breastbone have
    their say together, so that a lung full of fluid or an off-centre patient does not shift it
    much. Where the field of view cuts a flank off, what lies opposite to it counts neither way: 4
    cm of the other side are mostly enough (``benchmarks/midline.py``); with less, as where one
    lung alone is in view, the plane may be anywhere, which ``sure`` tells.

    Raises:
        InputError: nothing in the scan is dense enough to be a body.
    """
    steps = [max(1, round(mm / s)) for mm, s in zip(SYMMETRY_GRID_MM, scan.spacing_mm, strict=True)]
    spacing_mm = np.multiply(steps, scan.spacing_mm)
    body = _body(scan.array[tuple(slice(None, None, step) for step in steps)])
    middle = (np.array(body.shape) - 1) / 2
    height_mm = (np.arange(body.shape[2]) - middle[2]) * spacing_mm[2]
    cut_off = _cut_off(body)
    most = -np.inf
    for roll in np.radians(ROLLS_DEG):
        match = _mirror_match(_rolled(body, spacing_mm, roll), cut_off)
        for tilt in np.tan(np.radians(TILTS_DEG)):
            shift = np.rint(2 * tilt * height_mm / spacing_mm[0]).astype(int)
            place = (np.arange(len(match))[:, None] + shift) % len(match)
            score = np.take_along_axis(match, place, axis=0).sum(axis=1)
            if score.max() > most:
                most = score.max()
                at = score.argmax() / 2
                normal = np.array([np.cos(roll), np.sin(roll), -tilt])
    scale = normal * spacing_mm
    plane = np.array([*(scale / steps), (middle[0] - at) * spacing_mm[0] - scale @ middle])
    in_view_mm = np.array([at, len(body) - 1 - at]) * spacing_mm[0]
    return Midline(plane, sure=not np.any(in_view_mm[cut_off] < IN_VIEW_MM))


def _body(hu: np.ndarray) -> np.ndarray:
    """The largest dense part of a coarse scan, weighed by its density; 0 elsewhere."""
    parts, n_parts = ndimage.label(hu > BODY_ABOVE_HU)
    if not n_parts:
        raise InputError(f"no body in the scan: nothing is above {BODY_ABOVE_HU} HU")
    low, high = SYMMETRY_HU
    weight = hu.clip(low, high).astype(np.float32) - low
    return weight * largest(parts)


def _rolled(body: np.ndarray, spacing_mm: np.ndarray, roll: float) -> np.ndarray:
    """``body`` turned about its long axis by ``roll`` radians."""
    cosine, sine = np.cos(roll), np.sin(roll)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    turn = turn * spacing_mm / spacing_mm[:, None]
    middle = (np.array(body.shape) - 1) / 2
    return ndimage.affine_transform(body, turn, middle - turn @ middle, order=1)


def _cut_off(body: np.ndarray) -> np.ndarray:
    """Whether the body goes on beyond the first and the last plane of X."""
    of_plane = body.sum(axis=(1, 2))
    return of_plane[[0, -1]] > CUT_OFF * of_plane[of_plane > 0].mean()


def _mirror_match(body: np.ndarray, cut_off: np.ndarray) -> np.ndarray:
    """``(2 X, Z)``: how well each slice fits its mirror image about x = 0, 1/2, 1, ...

    The match less ``MISMATCH`` times what fits nothing, without what has its mirror image beyond a
    border that cuts the body off: nothing is known of that.
    """
    # What is at x comes to s - x: the product of the two, summed, is the convolution with itself.
    n = body.shape[0]
    match = np.fft.irfft(np.fft.rfft(body, 2 * n, axis=0) ** 2, 2 * n, axis=0).sum(axis=1)
    below = np.vstack([np.zeros(body.shape[2]), np.cumsum((body**2).sum(axis=1), axis=0)])
    # Within view are the mirror images of x from s - (n - 1) to s.
    s = np.arange(2 * n)
    first = np.where(cut_off[1], np.clip(s - n + 1, 0, n), 0)
    beyond = np.where(cut_off[0], np.minimum(s + 1, n), n)
    known = below[beyond] - below[np.minimum(first, beyond)]
    return match - MISMATCH * (known - match)
