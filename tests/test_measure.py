"""Measurements of effusions whose volume, side and depth are known."""

import json
from dataclasses import asdict, astuple, replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pleural.anatomy import chest
from pleural.data.plethora import Plethora
from pleural.errors import InputError
from pleural.measure import Measurement, greatest_depth_mm, measure
from pleural.midline import midline
from pleural.size import size_class
from pleural.volume import Volume

CODES = ["".join(code) for axes in permutations(("LR", "PA", "IS")) for code in product(*axes)]
EXTENT_MM = (400, 280, 160)
CAGE_MM = (140, 90)  # half-axes of the ellipse within the ribs
MEDIASTINUM_MM = 35  # half its width


class World:
    """A patient of ellipses: fat, muscle, two lungs, a spine. ``x, y, z`` in mm from its middle.

    ``x`` grows to the patient's right, ``y`` to the front, ``z`` to the head, wherever the patient
    lies in the scan and however turned.
    """

    def __init__(self, spacing_mm=(2.5, 2.5, 8.0), at_mm=(0, 0), roll_deg=0, tilt_deg=0):
        shape = np.rint(np.divide(EXTENT_MM, spacing_mm)).astype(int)
        axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
        x, y, z = np.meshgrid(axes[0] - at_mm[0], axes[1] - at_mm[1], axes[2], indexing="ij")
        (c, s), (ct, st) = ((np.cos(a), np.sin(a)) for a in np.radians([roll_deg, tilt_deg]))
        x, y = c * x + s * y, c * y - s * x
        self.x, self.y, self.z = ct * x + st * z, y, ct * z - st * x
        self.affine = np.diag([*spacing_mm, 1.0])
        self.affine[:3, 3] = (30, -120, 500)  # the world's origin is nowhere in particular
        self.spacing_mm = spacing_mm
        self.cage = self.ellipse(*CAGE_MM)
        self.lungs = self.cage & (np.abs(self.x) > MEDIASTINUM_MM)

    def ellipse(self, half_x, half_y, x=0.0, y=0.0):
        return ((self.x - x) / half_x) ** 2 + ((self.y - y) / half_y) ** 2 < 1

    def layer(self, depth_mm):
        """What is nearer than ``depth_mm`` to the wall of the cage, slice by slice."""
        to_wall = distance_transform_edt(self.cage, sampling=(*self.spacing_mm[:2], 1e9))
        return self.cage & (to_wall <= depth_mm)

    def scan(self):
        hu = np.full(self.x.shape, -1000, np.int16)
        for where, value in (
            (self.ellipse(170, 118), -100),
            (self.ellipse(158, 107), 45),
            (self.lungs, -850),
            (self.ellipse(20, 18, 0, -75), 350),
            (self.ellipse(12, 6, 0, 96), 350),
            (self.ellipse(38, 30, -45, 25), 60),
        ):
            hu[where] = value
        return hu

    def measure(self, fluid, detection_ml=10.0):
        hu = self.scan()
        hu[fluid] = 8
        mask = Volume(fluid.astype(np.uint8), self.affine)
        return measure(mask, Volume(hu, self.affine), detection_ml)

    def ml(self, where):
        return np.count_nonzero(where) * float(np.prod(self.spacing_mm)) / 1000


TURNED = {
    "straight": {},
    "off-centre": {"at_mm": (-28, 8)},
    "rolled": {"roll_deg": 7},
    "leaning": {"tilt_deg": -5},
    "all at once": {"at_mm": (20, -6), "roll_deg": -6, "tilt_deg": 4},
}


@pytest.mark.parametrize("white_out", [False, True])
@pytest.mark.parametrize("turned", TURNED.values(), ids=TURNED)
def test_the_midline_is_found_wherever_the_patient_lies(turned, white_out):
    world = World(**turned)
    hu = world.scan()
    hu[world.lungs & (world.x < 0) & white_out] = 8
    i, j, k = np.indices(hu.shape)
    plane = midline(Volume(hu, world.affine)).plane
    off_mm = np.abs(plane[0] * i + plane[1] * j + plane[2] * k + plane[3] - world.x)
    assert off_mm[world.ellipse(60, 90)].max() < 6


@pytest.mark.parametrize("turned", TURNED.values(), ids=TURNED)
@pytest.mark.parametrize(("right_mm", "left_mm"), [(20, 0), (0, 35), (12, 30)])
def test_each_side_has_its_own_volume(turned, right_mm, left_mm):
    """Right is where x grows; where the patient lies and how it is turned plays no part."""
    world = World(**turned)
    behind = world.lungs & (world.y < 0)
    right = behind & world.layer(right_mm) & (world.x > 0) if right_mm else world.x > np.inf
    left = behind & world.layer(left_mm) & (world.x < 0) if left_mm else world.x > np.inf
    found = world.measure(right | left)
    assert found.right_ml == pytest.approx(world.ml(right), rel=1e-9)
    assert found.left_ml == pytest.approx(world.ml(left), rel=1e-9)
    assert found.volume_ml == pytest.approx(found.right_ml + found.left_ml)
    assert found.collections == bool(right_mm) + bool(left_mm)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 40.0), (0.8, 1.5, 40.0), (2.5, 1.2, 40.0)])
@pytest.mark.parametrize(
    "side_mm", [(70, -60), (138, 0), (100, 65)], ids=["back", "flank", "front"]
)
@pytest.mark.parametrize("depth_mm", [5, 18, 40])
def test_a_layer_is_as_deep_as_it_is_thick_wherever_it_lies(spacing_mm, side_mm, depth_mm):
    world = World(spacing_mm, roll_deg=4)
    near = np.hypot(world.x - side_mm[0], world.y - side_mm[1]) < 60
    found = world.measure(world.lungs & near & world.layer(depth_mm))
    assert found.depth_mm == pytest.approx(depth_mm, abs=max(spacing_mm[:2]), rel=0.04)
    assert found.size == size_class(depth_mm)


@pytest.mark.parametrize("pixels", [1, 2, 3, 8])
@pytest.mark.parametrize(("x_mm", "y_mm"), [(1.0, 1.0), (0.7, 3.0), (3.0, 0.7)])
def test_a_slab_of_n_pixels_is_n_pixels_deep(pixels, x_mm, y_mm):
    world = World((x_mm, y_mm, 25.0))
    for axis, mm in ((0, x_mm), (1, y_mm)):
        fluid = np.zeros(world.x.shape, bool)
        slab = [slice(40, 40 + round(120 / m)) for m in (x_mm, y_mm)]
        slab[axis] = slice(50, 50 + pixels)
        fluid[(*slab, slice(2, 4))] = True
        assert world.measure(fluid).depth_mm == pytest.approx(pixels * mm)


@pytest.mark.parametrize("mm", [0.7, 1.0, 1.25, 2.0])
def test_a_chest_full_from_back_to_front_is_as_deep_as_it_is(mm):
    for pixels in (round(59 / mm), round(61 / mm), round(100 / mm)):
        fluid = np.ones((round(120 / mm), pixels, 1), bool)
        assert greatest_depth_mm(fluid, (mm, mm, 5)) == pytest.approx(pixels * mm)


@pytest.mark.parametrize("mm", [0.7, 1.0, 1.6, 1.95, 3.0])
def test_a_missing_voxel_does_not_end_the_fluid(mm):
    fluid = np.ones((round(150 / mm), round(50 / mm), 1), bool)
    fluid[:: round(20 / mm), fluid.shape[1] // 2] = False
    assert greatest_depth_mm(fluid, (mm, mm, 5)) == pytest.approx(fluid.shape[1] * mm)


@pytest.mark.parametrize("marked", [1, 2, 255, 0.999])
def test_whatever_is_above_0_is_fluid(marked):
    world = World()
    fluid = world.lungs & world.layer(10)
    mask = Volume(fluid * np.array(marked, np.float32), world.affine)
    found = measure(mask, Volume(world.scan(), world.affine), 10)
    assert found.volume_ml == pytest.approx(world.ml(fluid))
    assert found.effusion


def test_the_deepest_slice_counts():
    world = World()
    behind = world.lungs & (world.x > 0) & (world.y < -20)
    fluid = behind & world.layer(10)
    deep = fluid | (behind & world.layer(34) & (np.abs(world.z) < 5))
    assert world.measure(fluid).depth_mm == pytest.approx(10, abs=2)
    assert world.measure(deep).depth_mm == pytest.approx(34, abs=2)


def test_a_tongue_beside_the_spine_is_not_measured_lengthwise():
    world = World((1.0, 1.0, 40.0))
    layer = world.lungs & (world.x > 0) & (world.y < -20) & world.layer(15)
    tongue = (world.x > 35) & (world.x < 43) & (world.y < 10) & world.lungs
    assert world.measure(layer | tongue).depth_mm == pytest.approx(15, abs=3)


@pytest.mark.parametrize("half_width_mm", [140, 120])
def test_a_hemithorax_full_of_fluid_is_large(half_width_mm):
    """It is measured from back to front, although it is narrower than it is deep."""
    world = World()
    fluid = world.lungs & (world.x < 0) & (world.x > -half_width_mm)
    found = world.measure(fluid)
    assert (found.size, found.right_ml) == ("large", 0)
    assert 130 < found.depth_mm < 2 * CAGE_MM[1]


@pytest.mark.parametrize(("gap_mm", "depth_mm"), [(2, 40), (8, 20)])
def test_a_septum_is_bridged_and_a_lung_is_not(gap_mm, depth_mm):
    world = World((1.0, 1.0, 40.0))
    fluid = (np.abs(world.x - 80) < 40) & (world.y > -60) & (world.y < -20)
    septum = (world.y > -40) & (world.y < -40 + gap_mm)
    assert world.measure(fluid & ~septum).depth_mm == pytest.approx(depth_mm, abs=0.6)


def test_a_tongue_over_the_midline_stays_with_its_effusion():
    world = World(at_mm=(12, 0), roll_deg=4)
    left = world.lungs & (world.x < 0) & (world.y < 0) & world.layer(40)
    tongue = (world.x > -40) & (world.x < 22) & (np.abs(world.y + 40) < 10) & (np.abs(world.z) < 30)
    found = world.measure(left | tongue)
    assert (found.right_ml, found.collections) == (0, 1)
    assert found.left_ml == pytest.approx(world.ml(left | tongue))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("beyond_mm", [120, 90, 60, 45])
def test_sides_are_known_where_one_flank_is_out_of_view(side, beyond_mm):
    seen = chest(3, 400, side, spacing_mm=(4, 4, 8), codes="RAS")
    grid, n = seen.scan, seen.scan.shape[0]
    x_mm = grid.affine[0, 3] + 4 * np.arange(n)  # 0 in the middle of the patient, about
    for kept in (np.flatnonzero(x_mm >= -beyond_mm), np.flatnonzero(x_mm <= beyond_mm)):
        part = (slice(kept[0], kept[-1] + 1), slice(None), slice(None))
        mask, scan = seen.effusion.cropped(part), seen.scan.cropped(part)
        found = measure(mask, scan, 10)
        own, other = found.right_ml, found.left_ml
        if side == "left":
            own, other = other, own
        assert other == 0
        assert own == pytest.approx(found.volume_ml)
        assert found.collections == 1
        assert found.sides_sure == (beyond_mm == 120)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("beyond_mm", [20, 0, -30])
def test_sides_of_one_lung_alone_are_told_to_be_unsure(side, beyond_mm):
    seen = chest(3, 400, side, spacing_mm=(4, 4, 8), codes="RAS")
    assert measure(seen.effusion, seen.scan, 10).sides_sure
    x_mm = seen.scan.affine[0, 3] + 4 * np.arange(seen.scan.shape[0])
    kept = np.flatnonzero(x_mm >= -beyond_mm if side == "right" else x_mm <= beyond_mm)
    part = (slice(kept[0], kept[-1] + 1), slice(None), slice(None))
    found = measure(seen.effusion.cropped(part), seen.scan.cropped(part), 10)
    assert found.volume_ml > 100
    assert not found.sides_sure
    assert "sides unsure" in str(found)


def test_a_thin_bridge_does_not_make_an_effusion_the_other_side_s():
    """A smaller one beside the spine, near enough to be a tongue."""
    world = World((2.0, 2.0, 8.0))
    right = world.lungs & (world.x > 0) & (world.y < 0) & world.layer(40)
    left = world.lungs & (world.x < 0) & (world.x > -50) & (world.y < -20)
    assert not (left & right).any()
    near, far = (float(np.median(np.abs(world.x[part]))) for part in (left, right))
    assert near < 0.5 * far
    bridge = (np.abs(world.x) < 50) & (np.abs(world.y + 40) < 1.5) & (np.abs(world.z) < 5)
    found = world.measure(left | right | bridge)
    assert found.collections == 2
    assert found.left_ml == pytest.approx(world.ml(left), rel=0.05)


@pytest.mark.parametrize("turned", TURNED.values(), ids=TURNED)
@pytest.mark.parametrize("right_mm", [10, 40])
def test_effusions_that_touch_before_the_spine_are_parted(turned, right_mm):
    world = World(**turned)
    behind = (world.y < 0) & world.lungs
    effusions = (behind & (world.x > 0) & world.layer(right_mm)) | (
        behind & (world.x < 0) & world.layer(40)
    )
    bridge = (np.abs(world.x) < 60) & (np.abs(world.y + 76) < 6) & (np.abs(world.z) < 20)
    fluid = effusions | bridge
    found = world.measure(fluid)
    off_by_ml = 0.05 * world.ml(bridge)
    assert found.right_ml == pytest.approx(world.ml(fluid & (world.x > 0)), abs=off_by_ml)
    assert found.collections == 2


def test_a_speck_is_fluid_but_no_collection():
    world = World()
    fluid = world.lungs & (world.x > 0) & (world.y < 0) & world.layer(12)
    speck = np.zeros_like(fluid)
    speck[50:53, 70:73, 10:12] = True  # 0.9 mL
    found = world.measure(fluid | speck)
    assert not (fluid & speck).any()
    assert found.collections == 1
    assert found.left_ml == pytest.approx(world.ml(speck))
    speck[53, 70:73, 10] = True
    assert world.measure(fluid | speck).collections == 2


def test_parts_that_meet_at_a_corner_are_one():
    world = World()
    fluid = np.zeros(world.x.shape, bool)
    fluid[50:60, 70:80, 5:10] = fluid[60:70, 80:90, 10:15] = True
    assert world.measure(fluid).collections == 1
    fluid[60:70, 80:90, 10] = False
    assert world.measure(fluid).collections == 2


def test_hu_inside_the_mask():
    world = World()
    fluid = np.zeros(world.x.shape, bool)
    fluid[50:60, 60:70, 5:15] = True
    hu = world.scan()
    hu[fluid] = 0
    hu[50:55, 60:70, 5:15] = 20
    mask = Volume(fluid.astype(np.uint8), world.affine)
    for dtype in (np.int16, np.float32):
        found = measure(mask, Volume(hu.astype(dtype), world.affine), 10)
        assert (found.mean_hu, found.sd_hu) == (10, 10)


BLOCK = (slice(50, 58), slice(60, 76), slice(8, 12))  # 20 x 40 x 32 mm


@pytest.mark.parametrize(
    ("axis", "start", "cut_mm2"),
    [
        (2, 0, 800),
        (2, 16, 800),
        (0, 0, 1280),
        (0, 152, 1280),
        (1, 0, 640),
        (1, 96, 640),
        (0, 1, 0),
        (2, 15, 0),
    ],
)
def test_what_the_scan_cuts_off_makes_a_lower_bound(axis, start, cut_mm2):
    world = World()
    block = list(BLOCK)
    size = block[axis].stop - block[axis].start
    block[axis] = slice(start, start + size)
    fluid = np.zeros(world.x.shape, bool)
    fluid[tuple(block)] = True
    found = world.measure(fluid)
    assert found.lower_bound == (cut_mm2 > 0)
    assert found.edge_share == pytest.approx(cut_mm2 / (2 * (800 + 1280 + 640)))


def test_an_empty_mask_is_no_effusion():
    nothing = Measurement(0.0, 0.0, 0.0, True, 0.0, "none", None, None, 0, 0.0, False, False)
    world = World((8.0, 8.0, 20.0))
    empty = np.zeros(world.x.shape, bool)
    assert world.measure(empty) == nothing
    assert world.measure(empty, detection_ml=0) == nothing


def test_an_effusion_reaches_the_detection_threshold():
    world = World()
    fluid = np.zeros(world.x.shape, bool)
    fluid[BLOCK] = True  # 25.6 mL
    assert world.measure(fluid, 25.59).effusion
    assert not world.measure(fluid, 25.61).effusion
    assert world.measure(fluid, 25.61).size == "small"


def test_a_mask_on_another_grid_is_refused():
    world = World((8.0, 8.0, 20.0))
    scan, mask = (Volume(a, world.affine) for a in (world.scan(), world.lungs.astype(np.uint8)))
    with pytest.raises(ValueError, match="not on the grid"):
        measure(mask.cropped((slice(1, None), slice(None), slice(None))), scan, 10)
    with pytest.raises(ValueError, match="not on the grid"):
        measure(mask.reoriented("LAS"), scan, 10)


def test_a_scan_without_a_body_is_refused():
    world = World((8.0, 8.0, 20.0))
    air = np.full(world.x.shape, -1000, np.int16)
    mask = Volume(world.lungs.astype(np.uint8), world.affine)
    with pytest.raises(InputError, match="no body in the scan"):
        measure(mask, Volume(air, world.affine), 10)


def oblique(volume):
    """The same voxels in a patient who lies across the scanner's axes."""
    angles = np.radians([8, -6, 10])
    turn = np.eye(4)
    for axis, angle in enumerate(angles):
        i, j = (a for a in range(3) if a != axis)
        step = np.eye(4)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return Volume(volume.array, turn @ volume.affine)


@pytest.fixture(scope="module")
def two_sided():
    made = chest(4, 700, "both", spacing_mm=(5, 5, 10), codes="RAS")
    return made.effusion, made.scan


@pytest.fixture(
    scope="module", params=[lambda volume: volume, oblique], ids=["straight", "oblique"]
)
def placed(two_sided, request):
    """Mask and scan, and what is measured there."""
    mask, scan = (request.param(volume) for volume in two_sided)
    return mask, scan, measure(mask, scan, 10)


@pytest.mark.parametrize("codes", CODES)
def test_the_order_of_the_axes_changes_nothing(placed, codes):
    mask, scan, expected = placed
    copies = [
        Volume(v.array.copy(), v.affine) for v in (mask.reoriented(codes), scan.reoriented(codes))
    ]
    found = measure(*copies, 10)
    assert min(found.right_ml, found.left_ml) > 200
    for value, wanted in zip(astuple(found), astuple(expected), strict=True):
        assert value == (pytest.approx(wanted, rel=1e-9) if isinstance(wanted, float) else wanted)


def test_a_mirrored_patient_has_mirrored_sides(two_sided):
    mask, scan = two_sided
    here = measure(mask, scan, 10)
    mirror = [Volume(volume.array[::-1], volume.affine) for volume in two_sided]
    there = measure(*mirror, 10)
    assert there.right_ml == pytest.approx(here.left_ml, rel=0.01)
    assert there.left_ml == pytest.approx(here.right_ml, rel=0.01)
    assert there.depth_mm == pytest.approx(here.depth_mm)


@pytest.mark.parametrize("sides", ["right", "left", "both"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_phantoms(seed, sides):
    made = chest(seed, 500, sides, spacing_mm=(4, 4, 8))
    found = measure(made.effusion, made.scan, 10)
    assert found.volume_ml == pytest.approx(made.volume_ml, rel=0.01)
    assert found.right_ml == pytest.approx(made.right_ml, rel=0.03)
    assert found.left_ml == pytest.approx(made.left_ml, rel=0.03)
    assert found.effusion


def test_the_measured_values_are_plain(two_sided):
    found = measure(*two_sided, 10)
    assert json.loads(json.dumps(asdict(found))) == asdict(found)
    kinds = [float] * 3 + [bool, float, str, float, float, int, float, bool, bool]
    assert [type(value) for value in astuple(found)] == kinds


# As the images show them: mL on the right and on the left, depth in mm against a grid of 10 mm.
# LUNG1-024: the data set's spreadsheet says 72 and 667 mL, 739 in all; its mask holds 759.
REAL = {
    "LUNG1-001": (0, 182.2, 25),
    "LUNG1-005": (21.9, 0, 15),
    "LUNG1-008": (76.2, 0, 10.5),
    "LUNG1-013": (10.4, 6.3, 12),
    "LUNG1-016": (127.8, 0, 30),
    "LUNG1-024": (72 * 759.4 / 739, 667 * 759.4 / 739, 49),
    "LUNG1-028": (45.2, 16.9, 12),
}


@pytest.mark.parametrize("name", REAL)
def test_real_effusions(plethora_root, name):
    cases = {case.name: case for case in Plethora(plethora_root).cases()}
    scan, mask = cases[name].load()
    found = measure(mask, scan, 10)
    right_ml, left_ml, depth_mm = REAL[name]
    assert found.volume_ml == pytest.approx(mask.nonzero_ml, rel=1e-9)
    assert found.right_ml == pytest.approx(right_ml, abs=4)
    assert found.left_ml == pytest.approx(left_ml, abs=4)
    assert found.depth_mm == pytest.approx(depth_mm, abs=1.5)
    if name != "LUNG1-016":  # whose depth is where small ends
        assert found.size == ("moderate" if name == "LUNG1-024" else "small")
    assert found.lower_bound == (name == "LUNG1-024")  # its mask begins on the lowest slice


def test_a_measurement_reads_as_a_line():
    found = Measurement(182.2, 0.4, 181.8, True, 24.6, "small", -3.0, 9.0, 1, 0.0, False, True)
    assert str(found) == "182 mL (right 0, left 182), small, 25 mm deep"
    assert str(replace(found, lower_bound=True)).startswith("at least 182 mL")
    unsure = "182 mL (right 0, left 182, sides unsure), small, 25 mm deep"
    assert str(replace(found, sides_sure=False)) == unsure
    little = replace(found, volume_ml=4.04, effusion=False)
    assert str(little) == "no effusion (4.0 mL)"
    assert str(replace(little, lower_bound=True)) == "no effusion (at least 4.0 mL)"
