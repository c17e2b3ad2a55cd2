"""A study as its axial slices are looked at: cropped to the patient, outlined by what marks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contourpy import contour_generator

from pleural import io
from pleural.body import body_box
from pleural.volume import Volume

PREDICTION, REFERENCE = "prediction", "reference"
MARGIN_MM = 5.0
THICK_MM = 2.5  # slices half as thick are averaged up to this: there are fewer to look through


@dataclass(frozen=True)
class Slices:
    """A scan in HU and its masks (boolean) on one grid, RAS+; ``masks`` by whose they are."""

    scan: Volume
    masks: dict[str, Volume]
    n_averaged: int = 1  # slices of the study to one of these; the last may have fewer
    n_of_study: int | None = None  # slices; as many as these, where none are averaged

    @classmethod
    def read(cls, image: Path, masks: Mapping[str, Path]) -> Slices:
        """Cropped to the body in X and Y. Thin slices are averaged, two or more to one.

        Raises:
            InputError: a file is missing or unfit, or no body is in the scan.
        """
        scan = io.read(image).reoriented()
        x, y, _ = body_box(scan, MARGIN_MM)
        scan = scan.cropped((x, y, slice(None)))
        z_mm, n_of_study = scan.spacing_mm[2], scan.shape[2]
        n_averaged = max(1, int(THICK_MM / z_mm + 1e-3))
        if n_averaged > 1:
            scan = scan.resampled((None, None, n_averaged * z_mm))
        placed = {who: _placed(io.read(path), scan) for who, path in masks.items()}
        return cls(scan, placed, n_averaged, n_of_study)

    @property
    def interest(self) -> np.ndarray:
        """A number for each slice, in voxels: how much the model and the reference differ.

        Where only one of both is there: how much it marks.
        """
        marked = [self.masks[who].array for who in (PREDICTION, REFERENCE) if who in self.masks]
        if not marked:
            return np.zeros(self.scan.shape[2], int)
        differing = marked[0] ^ marked[1] if len(marked) == 2 else marked[0]
        return np.count_nonzero(differing, axis=(0, 1))

    def named(self, z: int) -> str:
        """Which of the study's slices, counted from the feet: the lowest is 1.

        A scanner may have numbered them from the head.
        """
        first = z * self.n_averaged + 1
        last = min(first + self.n_averaged - 1, self.n_of_study or self.scan.shape[2])
        return f"slice {first}" if first == last else f"slices {first} to {last}"


def outlines(mask: np.ndarray, spacing_mm: tuple[float, float]) -> list[np.ndarray]:
    """Closed lines around what a slice ``(X, Y)`` marks, half-way to the voxels outside.

    Points ``(n, 2)`` along X and Y, in mm from the centre of the first voxel; of a straight piece
    only its ends.
    """
    padded = np.pad(mask.T.astype(np.float32), 1)  # so that lines close at the edge of the scan
    return [
        (_corners(line) - 1) * spacing_mm
        for line in contour_generator(z=padded).lines(0.5)
        if isinstance(line, np.ndarray)
    ]


def _placed(mask: Volume, grid: Volume) -> Volume:
    share = mask.with_array((mask.array != 0).astype(np.float32)).onto(grid).array
    return Volume(share >= 0.5, grid.affine)


def _corners(line: np.ndarray) -> np.ndarray:
    steps = np.diff(line, axis=0)
    turns = 1 + np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1))
    return line[[0, *turns, -1]]
