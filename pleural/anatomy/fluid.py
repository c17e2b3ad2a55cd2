"""How an effusion of a wanted volume lies in a patient on the back.

A score says in which order the pleural space fills, lowest first: free fluid by height, a loculated
pocket by distance from its centre. The fluid reaches up to the score at which its volume is right.
"""

from __future__ import annotations

import numpy as np

from pleural.anatomy.patient import Patient, Spaces
from pleural.anatomy.shapes import Grid, Point, ellipsoid
from pleural.errors import InputError

MOST_FILLED = 0.85  # share of a pleural space that fluid may take, so that some lung is left
LARGEST_POCKET_ML = 250.0
DRY_MM = 1e3  # distance to an effusion that is not there


def effusion(
    grid: Grid, patient: Patient, spaces: Spaces, wanted_ml: dict[int, float], pocket: Point
) -> np.ndarray:
    """Distance in mm to the fluid of both sides, negative inside; ``spaces.pleura`` bounds it.

    Where ``patient.loculated_share`` is not 0, that share of one side's fluid lies in a lens
    around ``pocket``, on the chest wall, and the rest is free.
    """
    height = _height(grid, patient, spaces.cage)
    surface = np.full(grid.shape, DRY_MM, dtype=np.float32)
    for side, side_ml in wanted_ml.items():
        here = np.broadcast_to(side * grid.x > 0, grid.shape)
        room = here & (spaces.pleura < 0)
        pocket_ml = min(patient.loculated_share * side_ml, LARGEST_POCKET_ML)
        if side * pocket[0] < 0:
            pocket_ml = 0.0
        lens = _poured(ellipsoid(grid, pocket, (30.0, 30.0, 45.0)), room, pocket_ml, grid)
        free = _poured(height, room & (lens > 0), side_ml - pocket_ml, grid)
        surface = np.where(here, np.minimum(lens, free), surface)
    return surface


def _height(grid: Grid, patient: Patient, cage: np.ndarray) -> np.ndarray:
    """Height above the table in mm, lowered where fluid stands higher than its level.

    It climbs at the chest wall, and is deeper towards the feet, where the lung yields most.
    """
    meniscus = patient.meniscus_mm * np.exp(np.minimum(cage, 0) / 16)
    return grid.y + patient.tilt * grid.z - meniscus


def _poured(score: np.ndarray, room: np.ndarray, wanted_ml: float, grid: Grid) -> np.ndarray:
    """``score`` moved so that ``wanted_ml`` of ``room`` is below 0; the room's walls cut it."""
    count = round(wanted_ml / grid.voxel_ml)
    if count == 0:
        return np.full_like(score, DRY_MM)
    scores = score[room]
    if count > MOST_FILLED * len(scores):
        raise InputError(
            f"{wanted_ml:.0f} mL do not fit beside the lung into a pleural space of"
            f" {len(scores) * grid.voxel_ml:.0f} mL: ask for less, or for both sides"
        )
    return score - np.partition(scores, count)[count]
