"""From a scan to what a network sees, and back."""

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from benchmarks.broken import ROOT
from pleural.body import body_box
from pleural.data.plethora import Plethora
from pleural.dice import dice
from pleural.errors import InputError
from pleural.preprocess import ChestCT
from pleural.volume import Volume
from tests.test_volume import CODES, oblique_affine


def patient(spacing_mm=(2.5, 2.5, 5.0), affine=None):
    """An elliptic body of water with two lungs in air, on a thin dense table; a mask in a lung."""
    hu = np.full((160, 140, 40), -1000, np.int16)
    x, y = np.ogrid[:160, :140]
    hu[((x - 80) / 64) ** 2 + ((y - 75) / 44) ** 2 < 1] = 30
    for centre in (50, 110):
        hu[((x - centre) / 20) ** 2 + ((y - 75) / 26) ** 2 < 1] = -850
    hu[20:140, 16:19] = 300
    mask = np.zeros(hu.shape, np.uint8)
    mask[(((x - 50) / 20) ** 2 + ((y - 75) / 26) ** 2 < 1) & (y < 65)] = 1
    mask[..., :8] = mask[..., 30:] = 0
    affine = np.diag([*spacing_mm, 1.0]) if affine is None else affine
    return Volume(hu, affine), Volume(mask, affine)


def chest_ct(**changes):
    settings = {
        "window_hu": (-1000, 1000),
        "spacing_mm": (2, 2, None),
        "crop_to_body": True,
        "margin_mm": 10,
    }
    return ChestCT(**{**settings, **changes})


def test_the_box_holds_the_body_and_neither_table_nor_air():
    scan, _ = patient()
    x, y, z = body_box(scan)
    assert 12 <= x.start <= 17 and 143 <= x.stop <= 148
    assert 26 <= y.start <= 32 and 118 <= y.stop <= 123  # the table ends at 19
    assert (z.start, z.stop) == (0, 40)


def test_the_margin_is_in_mm():
    scan, _ = patient()
    tight, wide = body_box(scan), body_box(scan, margin_mm=10)
    assert tight[0].start - wide[0].start == 4  # 10 mm of 2.5 mm voxels


def test_a_body_that_leaves_the_field_of_view_is_kept_whole():
    scan, _ = patient()
    cut = scan.cropped((slice(30, 130), slice(40, 110), slice(None)))
    assert body_box(cut) == (slice(0, 100), slice(0, 70), slice(0, 40))


def test_an_empty_scan_is_refused():
    air = Volume(np.full((50, 50, 20), -1000), np.eye(4))
    with pytest.raises(InputError, match="no body"):
        body_box(air)


def test_hu_are_windowed_to_minus_one_to_one():
    scan, _ = patient()
    prepared = chest_ct(window_hu=(-100, 100))(scan)
    assert prepared.array.dtype == np.float32
    assert prepared.array.min() == -1
    assert prepared.array.max() == pytest.approx(0.3, abs=1e-6)  # the body, at 30 HU
    assert prepared.codes == "RAS"


def test_what_lies_beyond_the_window_does_not_bleed_into_an_average():
    scan, _ = patient()
    scan.array[80, 75, :] = 30_000  # metal
    prepared = chest_ct(window_hu=(-100, 100), spacing_mm=(5, 5, None))(scan)
    assert prepared.array.max() < 0.6


def test_512_becomes_about_256_with_the_slices_kept():
    scan = Volume(np.zeros((512, 512, 9), np.int16), np.diag([0.977, 0.977, 3, 1]))
    shape = chest_ct(crop_to_body=False)(scan).shape
    assert shape == (251, 251, 9)


def test_a_window_must_grow():
    with pytest.raises(InputError, match="window_hu"):
        chest_ct(window_hu=(100, -100))


@pytest.mark.parametrize("codes", CODES[::7])
def test_there_and_back_on_flipped_and_oblique_grids(codes):
    for affine in (np.diag([1.7, 1.7, 5.0, 1.0]), oblique_affine((1.7, 1.7, 5.0))):
        scan, mask = (v.reoriented(codes) for v in patient(affine=affine))
        prepared = chest_ct()(scan)
        occupancy = mask.onto(prepared)
        back = occupancy.onto(scan)
        assert dice(back.array >= 0.5, mask.array) > 0.98
        assert occupancy.array.sum() * occupancy.voxel_ml == pytest.approx(
            mask.array.sum() * mask.voxel_ml, rel=0.02
        )


def test_real_masks_go_there_and_back(plethora_root):
    prepare = instantiate(OmegaConf.load(ROOT / "conf/preprocess/chest_ct.yaml"))
    for case in Plethora(plethora_root).cases():
        scan, mask = case.load()
        prepared = prepare(scan)
        back = mask.onto(prepared).onto(scan)
        assert dice(back.array >= 0.5, mask.array) >= 0.98, case.name
        assert mask.array.sum() * mask.voxel_ml == pytest.approx(case.volume_ml, rel=1e-3)
