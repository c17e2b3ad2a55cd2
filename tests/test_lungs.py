"""The room for synthetic fluid, in boxes of known size and in a phantom."""

import numpy as np
import pytest

from pleural.lungs import lung_depth_mm
from pleural.volume import Volume

AIR, LUNG, TISSUE, BONE = -1000, -850, 40, 500
SPACING_MM = (4.0, 4.0, 5.0)


@pytest.fixture
def chest():
    """A block of tissue in air with two lungs, a windpipe between them and gas below."""
    array = np.full((100, 70, 40), AIR, np.int16)
    array[5:95, 5:65] = TISSUE
    array[15:45, 20:50, 10:] = LUNG  # left: x grows to the patient's right
    array[55:85, 20:50, 10:] = LUNG  # right
    array[45:55, 40:43, 30] = LUNG  # which the windpipe joins
    array[48:52, 38:43, 30:] = LUNG
    array[20:28, 30:38, :2] = LUNG  # 10 mL of gas in the stomach
    return Volume(array, np.diag([*SPACING_MM, 1.0]))


def no_label(chest):
    return np.zeros(chest.shape, np.float32)


def test_depth_is_the_distance_to_the_lungs_surface(chest):
    depth = lung_depth_mm(chest, chest, no_label(chest))
    assert depth.shape == chest.shape
    assert depth[70, 35, 25] == pytest.approx(15 * 4, abs=4)  # the middle of the right lung
    assert depth[30, 35, 25] == pytest.approx(-15 * 4, abs=4)  # of the left one
    assert depth[70, 20, 25] == pytest.approx(4)  # at the wall behind


def test_the_recess_below_a_lung_is_a_part_of_it(chest):
    depth = lung_depth_mm(chest, chest, no_label(chest))
    assert depth[82, 35, 2] == pytest.approx(5)  # 40 mm below a lung that begins at 10
    assert (depth[81:85, 20:50, 2:] > 0).all()
    assert not depth[..., :2].any()


def test_a_recess_lies_along_the_walls(chest):
    chest.array[62:78, 27:43, 10:16] = TISSUE  # the dome of the diaphragm rises into the lung
    depth = lung_depth_mm(chest, chest, no_label(chest))
    below = depth[55:85, 20:50, 5] > 0
    assert below[-4:].all()
    assert below[:, -4:].all()
    assert not below[5:-5, 5:-5].any()  # more than 20 mm from them
    assert not depth[64:76, 29:41, 10:16].any()  # nor is the dome itself room for fluid
    assert depth[79, 35, 5] == 0
    assert depth[81, 35, 8] == pytest.approx(16)  # from the wall, not from the dome


def test_a_recess_holds_no_bone(chest):
    chest.array[60:80, 20:24, 6:9] = BONE
    depth = lung_depth_mm(chest, chest, no_label(chest))
    assert not depth[60:80, 20:24, 6:9].any()
    assert (depth[60:80, 46:50, 6:9] > 0).all()


def test_a_lung_that_the_scan_cuts_off_goes_on_beyond(chest):
    depth = lung_depth_mm(chest, chest, no_label(chest))
    assert depth[70, 35, 39] == depth[70, 35, 38]


def test_what_is_no_lung_has_no_depth(chest):
    depth = lung_depth_mm(chest, chest, no_label(chest))
    assert not depth[50, 40, 35:].any()  # windpipe
    assert not depth[20:28, 30:38, :2].any()  # stomach
    assert not depth[:5].any()  # the air around
    assert not depth[8:14, 20:50].any()  # the wall


def test_effusion_and_bone_are_no_lung_but_vessels_are(chest):
    chest.array[60:80, 32:34, 20:30] = TISSUE  # a vessel
    chest.array[60:80, 44:46, 20:30] = BONE
    label = no_label(chest)
    label[60:80, 20:24, 20:30] = 1
    depth = lung_depth_mm(chest, chest, label)
    assert (depth[62:78, 32:34, 22:28] > 0).all()
    assert not depth[62:78, 44:46, 22:28].any()
    assert not depth[60:80, 20:24, 20:30].any()
    assert depth[70, 24, 25] == pytest.approx(4)  # from the fluid's surface


def test_a_scan_without_lungs_has_no_room():
    block = Volume(np.full((20, 20, 10), TISSUE, np.int16), np.eye(4))
    assert not lung_depth_mm(block, block, no_label(block)).any()


def test_a_lung_drowned_on_one_side_leaves_the_other(chest):
    chest.array[15:45, 20:50, 10:] = TISSUE
    depth = lung_depth_mm(chest, chest, no_label(chest))
    assert np.count_nonzero(depth < 0) < 60  # of the airway, and below it
    in_lung, in_recess = (
        np.count_nonzero(depth[..., part] > 0) for part in (slice(10, None), slice(10))
    )
    assert in_lung == pytest.approx(30 * 30 * 30, rel=0.02)
    assert in_recess == pytest.approx((30**2 - 22**2) * 8, rel=0.02)


def test_the_lungs_of_a_phantom(phantoms):
    scan, mask = phantoms[0].load()
    scan, mask = scan.reoriented(), mask.reoriented()
    depth = lung_depth_mm(scan, scan, mask.array.astype(np.float32))
    inside_hu = scan.array[np.abs(depth) > 12]
    assert np.count_nonzero(inside_hu < -500) * scan.voxel_ml > 400
    assert np.median(inside_hu) < -700
    assert not depth[mask.array > 0].any()
