"""Who lies on the table, and the surfaces that part the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pleural.anatomy.shapes import (
    Grid,
    Point,
    ellipsoid,
    smooth_max,
    smooth_min,
    superellipse,
)

RIGHT, LEFT = 1, -1  # sign of world x
UPRIGHT = float("inf")  # third radius of a cylinder


@dataclass(frozen=True)
class Patient:
    """All that chance decides, but for textures, branches of vessels, and noise."""

    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    wall_mm: float  # muscle and ribs at the side
    apex_mm: float
    dome_mm: float
    recess_mm: float  # from the dome to the end of the recess, at the side
    heart: float
    contrast: bool
    blood_hu: float
    muscle_hu: float
    liver_hu: float
    lung_hu: float
    fluid_hu: float
    collapsed_hu: float
    stomach_hu: float
    oedema: float
    ascites_mm: float
    pericardial_fluid_mm: float
    consolidation: bool
    meniscus_mm: float
    tilt: float
    right_share: float
    loculated_share: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Patient:
        def between(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        def chance(probability: float) -> bool:
            return bool(rng.random() < probability)

        contrast = chance(0.5)
        fluid_hu = between(4, 18)
        return cls(
            half_width_mm=between(170, 190),
            half_depth_mm=between(116, 132),
            fat_mm=between(9, 22),
            wall_mm=between(17, 23),
            apex_mm=between(108, 118),
            dome_mm=between(-28, -12),
            recess_mm=between(50, 60),
            heart=between(0.92, 1.12),
            contrast=contrast,
            blood_hu=between(150, 290) if contrast else between(36, 46),
            muscle_hu=between(36, 50),
            liver_hu=between(95, 120) if contrast else between(50, 62),
            lung_hu=between(-860, -800),
            fluid_hu=fluid_hu,
            collapsed_hu=between(80, 100) if contrast else fluid_hu + between(36, 44),
            stomach_hu=between(0, 30),
            oedema=between(0.3, 1),
            ascites_mm=between(6, 14) if chance(0.5) else 0.0,
            pericardial_fluid_mm=between(4, 9) if chance(0.5) else 0.0,
            consolidation=chance(0.5),
            meniscus_mm=between(8, 22),
            tilt=between(0.05, 0.18),
            right_share=between(0.38, 0.65),
            loculated_share=between(0.3, 0.6) if chance(0.3) else 0.0,
        )

    @property
    def cage_width_mm(self) -> float:
        return self.half_width_mm - self.fat_mm - self.wall_mm

    @property
    def cage_depth_mm(self) -> float:
        return self.half_depth_mm - 0.8 * self.fat_mm - 0.75 * self.wall_mm

    def at(self, x: float, y: float, z: float) -> Point:
        """A point given for a rib cage of half-axes 143 x 90 mm, in this patient."""
        return x * self.cage_width_mm / 143, y * self.cage_depth_mm / 90, z


@dataclass(frozen=True, eq=False)
class Spaces:
    """Distance in mm to the surfaces that part the body, negative inside, on one grid."""

    body: np.ndarray
    flesh: np.ndarray  # within the fat
    cage: np.ndarray  # within ribs and muscle
    abdomen: np.ndarray  # within the cage, below the diaphragm
    mediastinum: np.ndarray
    pleura: np.ndarray  # both sides: the sign of x tells them apart


def spaces(grid: Grid, patient: Patient, ripple: np.ndarray) -> Spaces:
    """The patient's surfaces on ``grid``, made uneven by ``ripple`` (mm)."""
    x, y = grid.x, grid.y
    width, depth, fat = patient.half_width_mm, patient.half_depth_mm, patient.fat_mm
    reach = np.sqrt(x * x + y * y) + 1e-3
    body = (1 - 1 / superellipse(x, y, width, depth, 2.6)) * reach
    flesh = (1 - 1 / superellipse(x, y, width - fat, depth - 0.8 * fat, 2.5)) * reach
    inner = superellipse(x, y, patient.cage_width_mm, patient.cage_depth_mm, 2.3)
    rise = ((grid.z + 30) / (patient.apex_mm + 30)).clip(0, 0.999)
    cage = (1 - (1 - rise**2.1) ** (1 / 1.9) / inner) * reach + ripple
    above = _above_diaphragm(grid, patient, inner, reach) + ripple
    mediastinum = _mediastinum(grid, patient)
    return Spaces(
        body=body + ripple,
        flesh=flesh + 2 * ripple,
        cage=cage,
        abdomen=np.maximum(-above, cage),
        mediastinum=mediastinum,
        pleura=smooth_max(smooth_max(cage, -mediastinum, 8), above, 5),
    )


def _above_diaphragm(
    grid: Grid, patient: Patient, inner: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """Two domes, the right one higher, that fall to the wall, lowest behind: the recess."""
    right = 1 / (1 + np.exp(-grid.x / 15))
    top = patient.dome_mm - 10 * (1 - right) - 16 * (np.abs(grid.x) / 70 - 1) ** 2
    drop = patient.recess_mm * (1 - 0.5 * grid.y / patient.half_depth_mm)
    height = top - drop * inner**4
    slope = 4 * drop * inner**4 / reach
    return (height - grid.z) / np.sqrt(1 + slope * slope)


def heart_radii_mm(patient: Patient, margin_mm: float = 0.0) -> Point:
    x, y, z = (patient.heart * r + margin_mm for r in (58, 42, 50))
    return x, y, z


def _mediastinum(grid: Grid, patient: Patient) -> np.ndarray:
    """What keeps the lungs apart: heart, great vessels, spine, and where the pleurae touch."""
    heart = ellipsoid(
        grid,
        patient.at(-18, 22, -14),
        heart_radii_mm(patient, 5 + patient.pericardial_fluid_mm),
        -27,
    )
    parts = (
        ellipsoid(grid, patient.at(0, 14, 0), (29, 60, UPRIGHT)),
        ellipsoid(grid, patient.at(0, -68, 0), (26, 27, UPRIGHT)),
        ellipsoid(grid, patient.at(-21, -46, 0), (17, 17, UPRIGHT)),
    )
    together = np.abs(grid.x) - 4
    for shape in parts:
        together = smooth_min(together, shape, 15)
    return smooth_min(together, heart, 15)
