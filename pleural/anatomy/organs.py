"""What a chest is made of, painted in HU from the skin inwards."""

from __future__ import annotations

import numpy as np

from pleural.anatomy.patient import LEFT, RIGHT, UPRIGHT, Patient, Spaces, heart_radii_mm
from pleural.anatomy.shapes import Canvas, Grid, Point, ellipsoid, smooth_max, texture

AIR_HU, FAT_HU, CORTEX_HU, MARROW_HU, CARTILAGE_HU = -1000.0, -105.0, 480.0, 180.0, 95.0
SKIN_MM, DIAPHRAGM_MM = 2.0, 3.5
TABLE_GAP_MM = 12.0
RIB_PITCH_MM, RIB_SLOPE = 27.0, 0.45  # ribs descend to the front
VERTEBRA_MM, DISC_MM = 26.0, 5.0
TRIES = 20_000  # enough for hundreds of points in any organ here


def painted(
    grid: Grid, patient: Patient, spaces: Spaces, fluid: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """HU on ``grid``, without blur and noise. ``fluid`` is the distance to the effusion."""
    canvas = Canvas(grid, np.full(grid.shape, AIR_HU, dtype=np.float32))
    grain, bundles = texture(rng, grid, 9.0), texture(rng, grid, 22.0)
    _table(canvas, patient)
    _chest_wall(canvas, patient, spaces, grain, bundles)
    _bones(canvas, patient, spaces)
    _abdomen(canvas, patient, spaces, rng)
    _mediastinum(canvas, patient, spaces)
    _spine(canvas, patient)
    _lungs(canvas, patient, spaces, grain, rng)
    _effusion(canvas, patient, spaces, fluid)
    return canvas.hu


def _table(canvas: Canvas, patient: Patient) -> None:
    """A curved plate of carbon fibre around foam, with air between it and the back."""
    x, y = canvas.grid.x, canvas.grid.y
    top = -patient.half_depth_mm - TABLE_GAP_MM + 0.0003 * x * x
    plate = np.maximum(np.maximum(y - top, top - 22 - y), np.abs(x) - patient.half_width_mm)
    canvas.fill(plate, -120.0)
    canvas.fill(plate + 3, -930.0)


def _chest_wall(
    canvas: Canvas, patient: Patient, spaces: Spaces, grain: np.ndarray, bundles: np.ndarray
) -> None:
    """Skin, fat with strands of oedema where it is dependent, bundles of muscle with fat between.

    Where a texture changes sign it draws thin sheets: the strands and the planes of fat.
    """
    dependent = (0.6 - canvas.grid.y / patient.half_depth_mm).clip(0, 1)
    wet = patient.oedema * dependent * (1.1 - 2 * np.abs(grain)).clip(0, 1)
    loose = (spaces.cage / 40 - 0.3).clip(0.15, 0.42)  # most between the muscles of the shoulder
    planes = (3 * (loose - np.abs(bundles))).clip(0, 1)
    muscle = patient.muscle_hu + 5 * grain - 150 * planes
    canvas.fill(spaces.body, 30.0)
    canvas.fill(spaces.body + SKIN_MM, FAT_HU + 110 * wet)
    canvas.fill(spaces.flesh, muscle)
    canvas.fill(np.abs(spaces.cage - 13.5) - 0.7, FAT_HU, where=canvas.occupancy(spaces.flesh + 3))
    canvas.fill(spaces.cage - 1.5, -60.0)


def _bones(canvas: Canvas, patient: Patient, spaces: Spaces) -> None:
    y, z = canvas.grid.y, canvas.grid.z
    along = np.mod(z + RIB_SLOPE * y, RIB_PITCH_MM) - RIB_PITCH_MM / 2
    ribs = np.sqrt((1.6 * (spaces.cage - 6)) ** 2 + (0.91 * along) ** 2) - 6.5
    ribs = np.maximum(ribs, z - patient.apex_mm)
    bony = y < 0.5 * patient.cage_depth_mm  # cartilage in front
    canvas.fill(ribs, np.where(bony, CORTEX_HU, CARTILAGE_HU))
    canvas.fill(ribs + 1.8, np.where(bony, MARROW_HU, CARTILAGE_HU))
    sternum = smooth_max(np.abs(canvas.grid.x) - 19, np.abs(spaces.cage - 7) - 5, 4)
    sternum = np.maximum(np.maximum(sternum, -y), np.abs(z - 25) - 70)
    canvas.fill(sternum, CORTEX_HU - 150)
    canvas.fill(sternum + 2, MARROW_HU - 60)
    blades = canvas.occupancy(spaces.flesh + 3) * canvas.occupancy(14 - spaces.cage)
    for side in (RIGHT, LEFT):
        blade = patient.at(side * 112, -78, 60)
        canvas.ellipsoid(blade, (45, 4, 55), CORTEX_HU, turn_deg=side * 38, where=blades)
        collar = [patient.at(side * 16, 78, 92), patient.at(side * 105, 40, 122)]
        canvas.tube(collar, 6, CORTEX_HU, where=blades)
        canvas.tube(collar, 4, MARROW_HU, where=blades)


def _abdomen(canvas: Canvas, patient: Patient, spaces: Spaces, rng: np.random.Generator) -> None:
    """Diaphragm, fat, and the organs below: liver on the right, stomach and spleen on the left."""
    grid = canvas.grid
    canvas.fill(spaces.abdomen, patient.muscle_hu)
    cavity = spaces.abdomen + DIAPHRAGM_MM
    canvas.fill(cavity, FAT_HU)
    inside = canvas.occupancy(cavity)
    organ = 110.0 if patient.contrast else 45.0
    for side in (RIGHT, LEFT):
        canvas.ellipsoid(patient.at(side * 55, -52, -140), (28, 24, 48), 1.4 * organ, where=inside)
    canvas.ellipsoid(patient.at(-96, -38, -80), (30, 44, 46), 1.1 * organ, where=inside)
    _stomach(canvas, patient, inside)
    edge = -0.82 * (grid.x + 0.7 * grid.y + 8)  # the left lobe reaches over the midline in front
    if patient.ascites_mm:
        canvas.fill(smooth_max(cavity, edge - patient.ascites_mm, 25), 8.0)
    # Behind, the liver is fixed to the diaphragm (the bare area), so no ascites comes between.
    gap = 1 + patient.ascites_mm / (1 + np.exp(-(grid.y - 5) / 12))
    liver = smooth_max(cavity + gap, edge, 25)
    canvas.fill(liver, patient.liver_hu)
    vessels = branches(rng, patient.at(20, -10, -75), _within(liver, grid, rng, 30), 2.2)
    _paint(canvas, vessels, patient.liver_hu + (45 if patient.contrast else -12), liver)


def _stomach(canvas: Canvas, patient: Patient, inside: np.ndarray) -> None:
    """Gas above fluid, its level set by gravity."""
    centre = patient.at(-62, 18, -84)
    canvas.ellipsoid(centre, (44, 38, 42), 45.0, where=inside)
    canvas.ellipsoid(centre, (39, 33, 37), patient.stomach_hu, where=inside)
    gas = np.maximum(ellipsoid(canvas.grid, centre, (39, 33, 37)), centre[1] + 8 - canvas.grid.y)
    canvas.fill(gas, AIR_HU, where=inside)


def _mediastinum(canvas: Canvas, patient: Patient, spaces: Spaces) -> None:
    """Fat, heart, great vessels, gullet and windpipe, all above the diaphragm."""
    at, blood = patient.at, patient.blood_hu
    thorax = canvas.occupancy(np.maximum(spaces.cage, -DIAPHRAGM_MM - spaces.abdomen))
    canvas.fill(np.maximum(spaces.cage, -spaces.abdomen), FAT_HU)
    _heart(canvas, patient, thorax)
    arch = [at(8, 20, 0), at(13, 22, 32), at(9, 16, 48), at(-7, -8, 58), at(-19, -34, 50)]
    canvas.tube([*arch, at(-21, -46, 30), at(-21, -46, -150)], 12, blood)
    canvas.tube([at(-12, 36, 0), at(-16, 20, 24), at(-42, -4, 20)], 11, blood)
    canvas.tube([at(-14, 16, 24), at(12, 2, 20), at(42, -4, 12)], 9, blood)
    canvas.tube([at(27, 16, 130), at(26, 14, 5)], 9, blood * 1.25)
    canvas.tube([at(24, -8, -30), at(20, -30, -60), at(20, -34, -150)], 11, blood * 0.9)
    for start, end in ((at(6, 6, 56), at(16, 8, 130)), (at(-10, -14, 58), at(-22, -8, 130))):
        canvas.tube([start, end], 5, blood)
    canvas.tube([at(-3, -32, 130), at(-6, -34, -60)], 7, 40.0)
    canvas.tube([at(-3, -32, 60), at(-3, -32, 20)], 2.5, -600.0)
    trachea = [at(1, -4, 150), at(1, -16, 45)]
    for wall_mm, hu in ((1.5, 40.0), (0.0, AIR_HU)):
        canvas.tube(trachea, 8.5 + wall_mm, hu)
        for end in (at(40, -16, 24), at(-44, -18, 18)):
            canvas.tube([trachea[1], end], 6 + wall_mm, hu)


def _heart(canvas: Canvas, patient: Patient, thorax: np.ndarray) -> None:
    """Pericardium, its fluid, fat, muscle and four chambers."""
    scale, at = patient.heart, patient.at
    sac = at(-18, 22, -14)
    muscle = 105.0 if patient.contrast else patient.blood_hu + 4
    if patient.pericardial_fluid_mm:
        outside = heart_radii_mm(patient, patient.pericardial_fluid_mm)
        canvas.ellipsoid(sac, outside, 10.0, turn_deg=-27, where=thorax)
    canvas.ellipsoid(sac, heart_radii_mm(patient), FAT_HU + 30, turn_deg=-27, where=thorax)
    x, y, z = sac
    canvas.ellipsoid(
        (x, y - 1.5, z), heart_radii_mm(patient, -3), muscle, turn_deg=-27, where=thorax
    )
    for centre, radii in (
        (at(-44, 30, -22), (24, 17, 29)),
        (at(-14, 44, -16), (33, 13, 32)),
        (at(-8, -4, 4), (27, 13, 19)),
        (at(18, 14, -12), (16, 21, 28)),
    ):
        x, y, z = (scale * r for r in radii)
        canvas.ellipsoid(centre, (x, y, z), patient.blood_hu, turn_deg=-27, where=thorax)


def _lungs(
    canvas: Canvas, patient: Patient, spaces: Spaces, grain: np.ndarray, rng: np.random.Generator
) -> None:
    """Aerated lung, denser behind, with vessels, bronchi and perhaps a consolidation."""
    grid = canvas.grid
    canvas.fill(spaces.pleura, patient.lung_hu - 0.5 * grid.y + 22 * grain)
    for side in (RIGHT, LEFT):
        lung = np.where(side * grid.x > 0, spaces.pleura, 1.0)
        root = patient.at(side * 42, -4, 14)
        vessels = branches(rng, root, _within(lung, grid, rng, 320), 1.15)
        _paint(canvas, vessels, patient.blood_hu, spaces.pleura)
        bronchi = branches(rng, root, _within(lung, grid, rng, 14), 1.0)
        _paint(canvas, bronchi, -150.0, spaces.pleura, 1.2)
        _paint(canvas, bronchi, AIR_HU + 30, spaces.pleura)
    front = np.maximum(spaces.pleura, 5 - grid.y)
    centre = _within(front, grid, rng, 1)[0]
    if patient.consolidation:
        patch = ellipsoid(grid, centre, (28, 24, 30)) + 7 * grain
        canvas.fill(np.maximum(spaces.pleura, patch), patient.collapsed_hu, soft_mm=9)
        ends = np.array(centre) + 18 * rng.standard_normal((7, 3))
        _paint(canvas, branches(rng, centre, ends, 1.1), -800.0, spaces.pleura)


def _effusion(canvas: Canvas, patient: Patient, spaces: Spaces, fluid: np.ndarray) -> None:
    """Fluid, and the lung that it has pressed airless, thickest towards the mediastinum."""
    medial = np.exp(-np.maximum(spaces.mediastinum, 0) / 20)
    collapsed = np.maximum(spaces.pleura, fluid - 4 - 16 * medial)
    canvas.fill(collapsed, patient.collapsed_hu, soft_mm=5)
    canvas.fill(np.maximum(spaces.pleura, fluid), patient.fluid_hu)


def _spine(canvas: Canvas, patient: Patient) -> None:
    """Vertebrae and discs, arches with their processes, and the canal with the cord."""
    grid = canvas.grid
    x, y, _ = patient.at(0, -62, 0)
    phase = np.mod(grid.z, VERTEBRA_MM)
    bone = phase > DISC_MM
    arch = (phase > 10) & (phase < 22)
    behind = y - 23
    for centre, radii, level in (
        ((x, y, 0.0), (19.0, 15.0, UPRIGHT), phase >= 0),
        ((x, behind + 2, 0.0), (36.0, 4.5, UPRIGHT), arch),
        ((x, behind - 14, 0.0), (4.0, 15.0, UPRIGHT), arch),
        ((x, behind, 0.0), (13.0, 12.0, UPRIGHT), bone),
    ):
        shape = np.where(level, ellipsoid(grid, centre, radii), 1e3)
        canvas.fill(shape, np.where(bone, CORTEX_HU - 100, 85.0))
        canvas.fill(shape + 2.5, np.where(bone, MARROW_HU, 85.0))
    canal = ellipsoid(grid, (x, behind, 0.0), (9, 8, UPRIGHT))
    canvas.fill(canal, 12.0)
    canvas.fill(canal + 4, 38.0)


def branches(
    rng: np.random.Generator, root: Point, targets: np.ndarray, leaf_mm: float
) -> list[tuple[Point, Point, float]]:
    """A tree from ``root`` to all ``targets`` ``(N, 3)``: (start, end, radius in mm) a segment.

    Each target in turn, nearest first, joins the nearest point of the tree so far. Radii add up
    towards the root by their cubes (Murray's law).
    """
    nodes, parents = np.array([root], dtype=float), [0]
    for target in targets[np.argsort(np.linalg.norm(targets - nodes[0], axis=1), kind="stable")]:
        away = np.linalg.norm(nodes - target, axis=1)
        near = int(np.argmin(away))
        steps = 1 + int(away[near] // 12)
        path = np.linspace(nodes[near], target, steps + 1)[1:]
        path[:-1] += rng.normal(0, 1.2, path[:-1].shape)
        parents += [near, *range(len(nodes), len(nodes) + steps - 1)]
        nodes = np.concatenate([nodes, path])
    flow = np.ones(len(nodes))
    for node in range(len(nodes) - 1, 0, -1):
        flow[parents[node]] += flow[node]
    radii_mm = leaf_mm * np.cbrt(flow / 3)
    return [
        (_point(nodes[parent]), _point(nodes[node]), float(radii_mm[node]))
        for node, parent in enumerate(parents[1:], start=1)
    ]


def _point(row: np.ndarray) -> Point:
    x, y, z = row.tolist()
    return x, y, z


def _paint(
    canvas: Canvas,
    tree: list[tuple[Point, Point, float]],
    hu: float,
    within: np.ndarray,
    wall_mm: float = 0.0,
) -> None:
    where = canvas.occupancy(within)
    for start, end, radius_mm in tree:
        canvas.tube([start, end], radius_mm + wall_mm, hu, where=where)


def _within(shape: np.ndarray, grid: Grid, rng: np.random.Generator, count: int) -> np.ndarray:
    """``count`` random points ``(N, 3)`` at least 5 mm inside ``shape``."""
    points = rng.uniform((-150, -110, -130), (150, 110, 130), (TRIES, 3))
    inside = shape[grid.voxels(points)] < -5
    return points[inside][:count]
