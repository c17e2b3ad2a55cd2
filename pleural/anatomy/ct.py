"""The scan: a patient, an effusion of a wanted volume, and what a scanner makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from pleural.anatomy.fluid import effusion
from pleural.anatomy.organs import TABLE_GAP_MM, painted
from pleural.anatomy.patient import LEFT, RIGHT, Patient, spaces
from pleural.anatomy.shapes import Canvas, Grid, Point, texture
from pleural.errors import InputError
from pleural.volume import Volume

SIDES = {"right": (RIGHT,), "left": (LEFT,), "both": (RIGHT, LEFT)}
MOST_ON_ONE_SIDE_ML = 1000  # fits into either side of any patient
CODES = ("LPS", "LPS", "RAS", "LAS", "LPI", "RPS")
HEIGHT_MM = 270.0
RIPPLE_MM, RIPPLE_CELL_MM = 1.2, 30.0
BLUR_VOXELS = (0.45, 0.45, 0.25)
GRAIN_VOXELS = (0.7, 0.7, 0.3)  # noise of neighbouring voxels goes together


@dataclass(frozen=True, eq=False)
class Chest:
    """A scan (int16, HU), the mask of its effusion (uint8) and what is known about them.

    ``contents`` are plain values: the fields of ``Patient`` and ``Scanner``.
    """

    scan: Volume
    effusion: Volume
    right_ml: float
    left_ml: float
    contents: dict[str, object]

    @property
    def volume_ml(self) -> float:
        return self.right_ml + self.left_ml


@dataclass(frozen=True)
class Scanner:
    """How the scan is made; ``spacing_mm`` along x, y, z of the world."""

    spacing_mm: tuple[float, float, float]
    codes: str
    oblique_deg: float
    noise_hu: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Scanner:
        in_plane_mm = round(float(rng.uniform(2.0, 2.4)), 3)
        return cls(
            spacing_mm=(in_plane_mm, in_plane_mm, float(rng.choice([5.0, 5.5, 6.0]))),
            codes=str(rng.choice(CODES)),
            oblique_deg=round(float(rng.uniform(2, 6)), 2) if rng.random() < 0.4 else 0.0,
            noise_hu=float(rng.uniform(14, 22)),
        )


def chest(
    seed: int | Sequence[int],
    effusion_ml: float,
    sides: str = "any",
    *,
    spacing_mm: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
    codes: str | None = None,
) -> Chest:
    """A patient with about ``effusion_ml`` of pleural effusion (0 for none), scanned.

    Args:
        seed: the same seed gives the same bytes; on another grid, the same patient.
        sides: ``"right"``, ``"left"``, ``"both"``, or ``"any"`` to leave it to the seed (above
            1000 mL always both).
        spacing_mm: along x, y, z of the world; drawn if not given.
        shape: voxels along x, y, z of the world; by default whole patient and table.
        codes: axis codes of the scan, such as ``"LPS"``; drawn if not given.

    Raises:
        InputError: ``sides`` is none of these, or the effusion is negative or does not fit.
    """
    if sides not in ("any", *SIDES):
        raise InputError(f"sides are 'right', 'left', 'both' or 'any'; got {sides!r}")
    if effusion_ml < 0:
        raise InputError(f"an effusion has 0 mL or more; got {effusion_ml}")
    rng = np.random.default_rng(seed)
    patient, scanner = Patient.drawn(rng), Scanner.drawn(rng)
    drawn_sides = str(rng.choice(list(SIDES)))
    if sides == "any":
        sides = drawn_sides if effusion_ml <= MOST_ON_ONE_SIDE_ML else "both"
    if spacing_mm is not None:
        x, y, z = (float(step) for step in spacing_mm)
        scanner = replace(scanner, spacing_mm=(x, y, z))
    if codes is not None:
        scanner = replace(scanner, codes=codes)
    return _scanned(patient, _split(effusion_ml, sides, patient), scanner, shape, rng)


def _scanned(
    patient: Patient,
    wanted_ml: dict[int, float],
    scanner: Scanner,
    shape: Sequence[int] | None,
    rng: np.random.Generator,
) -> Chest:
    affine, shape = _frame(patient, scanner, shape)
    # Thick slices are painted as two half slices, so that they blur what crosses them.
    thinner = 2 if scanner.spacing_mm[2] > 1.5 * scanner.spacing_mm[0] else 1
    grid = Grid.of((shape[0], shape[1], shape[2] * thinner), _sliced(affine, thinner))
    pocket = _pocket(patient, tuple(wanted_ml), rng)
    surfaces = spaces(grid, patient, RIPPLE_MM * texture(rng, grid, RIPPLE_CELL_MM))
    fluid = effusion(grid, patient, surfaces, wanted_ml, pocket)
    hu = _merged(painted(grid, patient, surfaces, fluid, rng), thinner)
    share = Canvas(grid, hu).occupancy(np.maximum(surfaces.pleura, fluid))
    mask = Volume((_merged(share, thinner) >= 0.5).astype(np.uint8), affine)
    scan = Volume(_imaged(hu, scanner.noise_hu, rng), affine)
    right = Grid.of(shape, affine).x > 0
    return Chest(
        scan=scan.reoriented(scanner.codes),
        effusion=mask.reoriented(scanner.codes),
        right_ml=float(np.count_nonzero(mask.array * right) * mask.voxel_ml),
        left_ml=float(np.count_nonzero(mask.array * ~right) * mask.voxel_ml),
        contents=asdict(patient) | asdict(scanner),
    )


def _split(effusion_ml: float, sides: str, patient: Patient) -> dict[int, float]:
    """Wanted mL of each side that has an effusion."""
    if sides != "both":
        return {SIDES[sides][0]: effusion_ml}
    right_ml = patient.right_share * effusion_ml
    return {RIGHT: right_ml, LEFT: effusion_ml - right_ml}


def _pocket(patient: Patient, sides: Sequence[int], rng: np.random.Generator) -> Point:
    """A place on the lateral chest wall of one of ``sides``."""
    side = sides[int(rng.random() * len(sides))]
    angle = float(rng.uniform(-0.2, 0.6))
    x, y = 143 * float(np.cos(angle)), 90 * float(np.sin(angle))
    return patient.at(side * x, y, float(rng.uniform(-20, 30)))


def _frame(
    patient: Patient, scanner: Scanner, shape: Sequence[int] | None
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Affine and shape of a grid, in RAS order, whose centre is that of patient and table."""
    below = TABLE_GAP_MM + 30
    extent = (2 * patient.half_width_mm + 16, 2 * patient.half_depth_mm + 10 + below, HEIGHT_MM)
    fitting = np.ceil(np.array(extent) / scanner.spacing_mm)
    x, y, z = (int(size) for size in (fitting if shape is None else shape))
    affine = np.diag([*scanner.spacing_mm, 1.0])
    if scanner.oblique_deg:
        turn = np.deg2rad(scanner.oblique_deg)
        cosine, sine = np.cos(turn), np.sin(turn)
        affine[1:3, 1:3] = [[cosine, -sine], [sine, cosine]] @ affine[1:3, 1:3]
    middle = affine[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
    affine[:3, 3] = np.array([0, 5 - below / 2, 0]) - middle
    return affine, (x, y, z)


def _sliced(affine: np.ndarray, thinner: int) -> np.ndarray:
    """The affine of a grid with each slice cut into ``thinner`` slices."""
    cut = np.diag([1, 1, 1 / thinner, 1])
    cut[2, 3] = (1 / thinner - 1) / 2
    return affine @ cut


def _merged(array: np.ndarray, thinner: int) -> np.ndarray:
    """Mean over each ``thinner`` neighbouring slices."""
    x, y, z = array.shape
    return array.reshape(x, y, z // thinner, thinner).mean(axis=3)


def _imaged(hu: np.ndarray, noise_hu: float, rng: np.random.Generator) -> np.ndarray:
    """Blurred and grainy as from a scanner, int16."""
    noise = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), GRAIN_VOXELS)
    noise *= noise_hu / noise.std()
    scan = gaussian_filter(hu, BLUR_VOXELS) + noise
    return np.rint(scan.clip(-1024, 3071)).astype(np.int16)
