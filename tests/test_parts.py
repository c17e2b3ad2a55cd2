"""Which parts of a prediction are left out."""

import numpy as np
import pytest

from pleural.errors import InputError
from pleural.parts import mask_on, shares, unsure
from pleural.volume import Volume

SPACING_MM = (2.0, 2.0, 3.0)
LARGE, SMALL = np.s_[4:20, 4:20, 2:14], np.s_[28:36, 28:36, 4:12]


def volume(*parts):
    """Probability: 0.7 along the surface of each box, and inside a given share of it surely 1."""
    array = np.zeros((40, 40, 16), np.float32)
    for box, sure in parts:
        part = np.full(array[box].shape, 0.7, np.float32)
        inside = part[1:-1, 1:-1]  # slices are 3 mm apart
        n_sure = round(inside.shape[0] * sure)
        inside[:n_sure] = 1
        array[box] = part
    return Volume(array, np.diag([*SPACING_MM, 1]))


def left_out(*parts, sure_inside=(0.25, 0.75)):
    found = unsure(volume(*parts), 0.5, sure_inside)
    return [] if found is None else [bool(found.array[box].all()) for box, _ in parts]


def test_parts_that_are_sure_inside_stay():
    assert left_out((LARGE, 1.0), (SMALL, 1.0)) == []


def test_a_small_part_that_is_unsure_inside_is_left_out_beside_a_large_one():
    assert left_out((LARGE, 1.0), (SMALL, 0.25)) == [False, True]


def test_less_is_asked_of_the_largest_part():
    assert left_out((LARGE, 0.5)) == []
    assert left_out((LARGE, 0.0)) == [True]
    assert left_out((SMALL, 0.5)) == []  # the largest that there is


def test_less_is_asked_of_all_large_ones():
    """Boxes of some 35 mL: as long as these are not large, only the largest is spared."""
    larger, large = np.s_[4:20, 4:20, 2:14], np.s_[22:38, 22:38, 3:14]
    assert left_out((larger, 0.5), (large, 0.5)) == [False, True]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pleural.parts.LARGE_ML", 30.0)
        assert left_out((larger, 0.5), (large, 0.5)) == []
        assert left_out((larger, 0.5), (large, 0.0)) == [False, True]


def test_how_sure_is_up_to_the_shares():
    assert left_out((LARGE, 0.0), (SMALL, 0.25), sure_inside=(0, 0)) == []
    assert left_out((LARGE, 0.5), (SMALL, 0.5), sure_inside=(1, 1)) == [True, True]


def test_what_has_no_inside_stays():
    """A rim of two voxels is all surface, and of a few voxels inside nothing can be said."""
    rim, speck = np.s_[28:36, 28:30, 4:12], np.s_[28:33, 28:33, 6:10]
    assert left_out((LARGE, 1.0), (rim, 0.0)) == []
    assert left_out((LARGE, 1.0), (speck, 0.0)) == []
    assert left_out((LARGE, 1.0), (np.s_[28:34, 28:34, 6:10], 0.0)) == [False, True]


def test_what_touches_by_a_corner_is_one_part():
    apart, touching = np.s_[28:36, 28:36, 4:12], np.s_[20:28, 20:28, 4:12]
    assert left_out((LARGE, 1.0), (apart, 0.0)) == [False, True]
    assert left_out((LARGE, 1.0), (touching, 0.0)) == []


def test_nothing_found_is_nothing_left_out():
    assert unsure(volume(), 0.5, (0.3, 0.75)) is None


def test_the_mask_of_an_exported_network_leaves_it_out_on_any_grid():
    found = volume((LARGE, 1.0), (SMALL, 0.25))
    fine = Volume(np.zeros((80, 80, 16), np.uint8), np.diag([1.0, 1.0, 3.0, 1.0]))
    kept, everything = (mask_on(fine, found, 0.5, rule).array for rule in ((0.25, 0.75), None))
    assert everything[58:70, 58:70, 5:11].all()
    assert not kept[52:76, 52:76].any()
    np.testing.assert_array_equal(kept[:48, :48], everything[:48, :48])
    assert kept.any()


@pytest.mark.parametrize("wrong", [0.5, [0.3], [0.3, 0.5, 0.7], [-0.1, 0.5], [0.3, 2], ["a", "b"]])
def test_something_else_than_two_shares_is_refused(wrong):
    with pytest.raises(InputError, match="two shares from 0 to 1"):
        shares(wrong)


def test_shares_come_from_a_configuration():
    assert shares([0.3, 0.75]) == (0.3, 0.75)
    assert shares(None) is None
