"""Cases to batches."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised, RandRotate90d
from scipy import ndimage

from pleural.dataset import Patches
from pleural.draws import Draws
from pleural.errors import Findings, InputError
from pleural.io import nifti
from pleural.loss import UNKNOWN
from pleural.prepared import N_BACKGROUND, OnDisk, Prepare, padded
from pleural.preprocess import ChestCT
from pleural.volume import Volume

PATCH = (32, 24, 16)


@pytest.fixture
def preprocess():
    return ChestCT((-1000, 1000), (8, 8, None), crop_to_body=True, margin_mm=10)


def patches(**changes):
    settings = {
        "patch_size": PATCH,
        "margin": (0, 0, 0),
        "crops_per_case": 3,
        "positive_share": 0.5,
        "cases_per_batch": 2,
        "steps_per_epoch": 4,
        "doubt_mm": 50,
        "cache": "memory",
        "cache_dir": None,
        "cache_workers": 2,
        "num_workers": 0,
    }
    return Patches(**{**settings, **changes})


def on_disk(preprocess, folder):
    return OnDisk(Prepare(preprocess, PATCH), folder, mapped=True)


def no_augmentation():
    return Compose([])


def test_a_prepared_case_has_occupancy_and_places_to_cut_around(phantoms, preprocess):
    case = phantoms[0]
    sample = Prepare(preprocess, PATCH)(case)
    image, label = sample["image"], sample["label"]
    assert image.shape == label.shape
    assert image.dtype == label.dtype == np.float16
    assert -1 <= image.min() < image.max() <= 1
    assert ((label > 0.1) & (label < 0.9)).any()
    prepared = preprocess(case.load()[0])
    volume_ml = label.astype(float).sum() * prepared.voxel_ml
    assert volume_ml == pytest.approx(case.volume_ml, rel=0.02)
    flat = label.ravel()
    assert (flat[sample["foreground"]] >= 0.5).all()
    assert (flat[sample["background"]] == 0).all()
    assert len(sample["background"]) <= N_BACKGROUND
    assert sample["foreground"].dtype == sample["background"].dtype == np.int32


def test_a_volume_smaller_than_a_patch_is_padded_with_air(phantoms, preprocess):
    sample = Prepare(preprocess, (32, 24, 200))(phantoms[0])
    assert sample["image"].shape[-1] == 200
    assert (sample["image"][..., 150:] == -1).all()
    assert (sample["label"][..., 150:] == 0).all()
    np.testing.assert_array_equal(padded(np.ones((1, 2, 3)), (2, 2, 2), 0)[:, 0, 0], [1, 0])


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_batches_of_patches_and_whole_volumes(phantoms, preprocess, cache, tmp_path):
    data = patches(cache=cache, cache_dir=tmp_path)
    training, validation = data.loaders(phantoms[:2], phantoms[2:], preprocess, no_augmentation())
    assert isinstance(training.dataset.cases, CacheDataset) == (cache == "memory")
    batches = list(training)
    assert len(batches) == 4
    for batch in batches:
        assert type(batch["image"]) is torch.Tensor  # no MetaTensor in the hot loop
        assert batch["image"].shape == batch["label"].shape == (6, 1, *PATCH)
        assert batch["image"].dtype == batch["label"].dtype == torch.float32
        assert set(batch["name"]) <= {case.name for case in phantoms[:2]}
    (volume,) = validation
    assert volume["name"] == [phantoms[2].name]
    assert volume["image"].shape[0] == 1
    kept = list(tmp_path.glob("*/image.npy"))
    assert len(kept) == (0 if cache == "none" else 3)


def test_a_second_training_prepares_nothing_again(phantoms, preprocess, tmp_path, monkeypatch):
    data = patches(cache_dir=tmp_path / "cache")
    first, _ = data.loaders(phantoms[:2], [], preprocess, no_augmentation())
    monkeypatch.delattr(ChestCT, "__call__")
    again, _ = data.loaders(phantoms[:2], [], preprocess, no_augmentation())
    for ours, theirs in zip(first.dataset.cases._cache, again.dataset.cases._cache, strict=True):
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        assert type(theirs["image"]) is np.ndarray  # in memory, not mapped


def test_what_is_refused_is_refused_where_it_was_prepared_before(phantoms, preprocess, tmp_path):
    """An empty mask, once of a negative case and then not listed as one; and the other way."""
    positive, other = phantoms[:2]
    mask = nifti.read(other.mask)
    nifti.write(mask.with_array(np.zeros_like(mask.array)), tmp_path / "empty.nii.gz")
    negative = dataclasses.replace(other, mask=tmp_path / "empty.nii.gz", negative=True)
    data = patches(cache_dir=tmp_path / "cache")
    data.loaders([positive, negative], [], preprocess, no_augmentation())
    for case, told in ((negative, "the mask is empty"), (positive, "listed as negative, but")):
        turned = dataclasses.replace(case, negative=not case.negative)
        with pytest.raises(Findings, match=told):
            data.loaders([turned], [], preprocess, no_augmentation())


def test_a_cache_folder_that_cannot_be_written_is_told_once(phantoms, preprocess, tmp_path):
    (tmp_path / "file").touch()
    data = patches(cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(Findings, match=r"1 finding in 2 cases(?s:.*)dataset\.cache_dir") as caught:
        data.loaders(phantoms[:2], [], preprocess, no_augmentation())
    assert len(caught.value.findings) == 1


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_a_share_of_the_patches_is_centred_on_effusion(phantoms, preprocess, share):
    torch.manual_seed(0)
    data = patches(patch_size=(4, 4, 3), positive_share=share, crops_per_case=100)
    training, _ = data.loaders(phantoms[:2], [], preprocess, no_augmentation())
    centres = torch.cat([batch["label"][:, 0, 2, 2, 1] for batch in training])
    # Patches are moved inwards at the edge of the scan, and their centre with them.
    assert abs((centres >= 0.5).float().mean() - share) < 0.1


def test_what_is_augmented_is_larger_than_the_patch_where_the_volume_is(phantoms, preprocess):
    seen = []

    def noted(sample):
        seen.append(sample["image"].shape[1:])
        return sample

    n_x, n_y, _ = Prepare(preprocess, PATCH)(phantoms[0])["image"].shape[1:]
    data = patches(margin=(8, 1000, 0), positive_share=1.0, crops_per_case=50)
    training, _ = data.loaders(phantoms[:1], [], preprocess, noted)
    batch = next(iter(training))
    assert {tuple(shape) for shape in seen} == {(min(n_x, PATCH[0] + 8), n_y, PATCH[2])}
    assert batch["image"].shape[2:] == batch["label"].shape[2:] == PATCH
    with_effusion = (batch["label"] >= 0.5).flatten(1).any(dim=1)
    assert with_effusion.float().mean() > 0.5  # though the patch is cut from anywhere in it


@pytest.mark.parametrize("cases_per_batch", [1, 2, 5])
def test_every_case_once_an_epoch_where_no_steps_are_given(phantoms, preprocess, cases_per_batch):
    data = patches(steps_per_epoch=None, cases_per_batch=cases_per_batch, crops_per_case=1)
    training, _ = data.loaders(phantoms, [], preprocess, no_augmentation())
    names = [name for batch in training for name in batch["name"]]
    assert sorted(names) == sorted(case.name for case in phantoms)


def test_draws_come_round_to_every_case_before_any_again():
    draws = Draws(5, 13, seed=0)
    epoch = [draw.case for draw in draws]
    assert sorted(epoch[:5]) == sorted(epoch[5:10]) == list(range(5))
    assert len(epoch) == len(draws) == 13


@pytest.mark.parametrize("n_companions", [0, 3])
def test_more_cases_than_an_epoch_draws_come_round_over_several(n_companions):
    draws = Draws(12, 5, seed=0, n_companions=n_companions)
    drawn = []
    for epoch in range(6):
        draws.set_epoch(epoch)
        drawn += [draw.case for draw in draws]
    rounds = drawn[:15], drawn[15:]
    assert all(set(range(12)) <= {*shown} for shown in rounds)
    assert rounds[0] != rounds[1]


def test_companions_are_together_drawn_as_often_as_one_case():
    epoch = [draw.case for draw in Draws(3, 40, seed=0, n_companions=2)]
    turns = [sorted(epoch[start : start + 4]) for start in range(0, 40, 4)]
    assert all(turn[:3] == [0, 1, 2] for turn in turns)
    assert {turn[3] for turn in turns} == {3, 4}


def test_companions_train_along(phantoms, preprocess):
    data = patches(steps_per_epoch=None, cases_per_batch=1)
    training, _ = data.loaders(
        phantoms[:1], [], preprocess, no_augmentation(), companions=phantoms[1:]
    )
    names = [batch["name"][0] for batch in training]
    assert len(names) == 2
    assert phantoms[0].name in names
    assert {case.name for case in phantoms[1:]} & {*names}


def test_what_is_drawn_follows_from_the_seed_and_the_epoch_alone():
    draws, others = Draws(5, 13, seed=0), Draws(5, 13, seed=1)
    first = list(draws)
    assert list(draws) == first != list(others)
    draws.set_epoch(1)
    second = list(draws)
    assert [draw.case for draw in second] != [draw.case for draw in first]
    assert len({draw.seed for draw in first + second}) == 26


@pytest.mark.parametrize("n_processes", [1, 2, 3])
def test_processes_share_an_epoch_s_draws(monkeypatch, n_processes):
    alone = list(Draws(5, 13, seed=0))
    shares = []
    for rank in range(n_processes):
        monkeypatch.setattr("pleural.draws.rank_and_size", lambda rank=rank: (rank, n_processes))
        draws = Draws(5, 13, seed=0)
        shares.append(list(draws))
        assert len(shares[-1]) == len(draws)
    together = [draw for turn in zip(*shares, strict=True) for draw in turn]
    assert together[:13] == alone
    assert len(together) - 13 < n_processes


def test_the_same_patches_however_many_processes_cut_them(phantoms, preprocess):
    augmentation = Compose([RandFlipd(("image", "label"), 0.5), RandGaussianNoised("image", 1.0)])
    here, elsewhere = (
        patches(num_workers=n).loaders(phantoms, [], preprocess, augmentation)[0] for n in (0, 2)
    )
    for ours, theirs, again in zip(here, elsewhere, here, strict=True):
        assert ours["name"] == theirs["name"]
        assert torch.equal(ours["image"], theirs["image"])
        assert torch.equal(ours["image"], again["image"])


def test_worker_processes_give_plain_tensors(phantoms, preprocess):
    training, _ = patches(num_workers=2).loaders(phantoms, [], preprocess, no_augmentation())
    batches = list(training)
    assert len(batches) == 4
    assert all(type(batch["image"]) is torch.Tensor for batch in batches)


def test_an_augmentation_that_changes_the_size_is_named(phantoms, preprocess):
    turn = Compose([RandRotate90d(["image", "label"], prob=1.0, max_k=1)])
    training, _ = patches().loaders(phantoms, [], preprocess, turn)
    with pytest.raises(InputError, match="equal in the axes"):
        next(iter(training))


def test_a_turn_of_what_is_larger_than_the_patch_leaves_it_its_size(phantoms, preprocess):
    turn = Compose([RandRotate90d(["image", "label"], prob=1.0, max_k=1)])
    square = {"patch_size": (24, 24, 16), "margin": (60, 0, 0), "steps_per_epoch": 10}
    training, _ = patches(**square).loaders(phantoms, [], preprocess, turn)
    assert all(batch["image"].shape[2:] == (24, 24, 16) for batch in training)


def test_about_a_distrusted_mask_nothing_is_known_and_no_patch_is_centred_on_it(
    phantoms, preprocess
):
    doubted = dataclasses.replace(phantoms[0], distrusted=True)
    given = {"cache": "memory", "positive_share": 1.0}
    made = patches(doubt_mm=20, **given).loaders([doubted], [doubted], preprocess, Compose([]))
    training, validation = made
    (kept,), (volume,) = training.dataset.cases._cache, validation
    label, mask = kept["label"][0], volume["label"][0, 0].numpy()
    spacing_mm = [float(mm) for mm in kept["spacing_mm"]]
    away_mm = ndimage.distance_transform_edt(mask == 0, sampling=spacing_mm)
    assert 0 < (label < 0).mean() < 0.5
    np.testing.assert_array_equal(label, np.where(away_mm <= 20, UNKNOWN, 0))
    assert not len(kept["foreground"])
    assert 0 < mask.max() <= 1  # what is predicted is held against all of it
    trusted, _ = patches(doubt_mm=None, **given).loaders([doubted], [], preprocess, Compose([]))
    np.testing.assert_array_equal(trusted.dataset.cases._cache[0]["label"][0], mask)


def test_a_doubt_is_a_distance():
    with pytest.raises(InputError, match=r"doubt_mm is 0 or more"):
        patches(doubt_mm=-1)


def test_the_cache_stays_as_it_was_whatever_augmentation_does(phantoms, preprocess):
    def spoil(sample):
        sample["image"].mul_(0)
        return sample

    data = patches()
    training, _ = data.loaders(phantoms[:2], [], preprocess, spoil)
    list(training)
    clean, _ = data.loaders(phantoms[:2], [], preprocess, no_augmentation())
    np.testing.assert_array_equal(
        training.dataset.cases._cache[0]["image"], clean.dataset.cases._cache[0]["image"]
    )


def test_same_seed_same_batches(phantoms, preprocess):
    def first_batch(seed):
        torch.manual_seed(seed)
        flip = Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)])
        training, _ = patches().loaders(phantoms[:2], [], preprocess, flip)
        return next(iter(training))["image"]

    torch.testing.assert_close(first_batch(1), first_batch(1))
    assert not torch.equal(first_batch(1), first_batch(2))


def test_a_disk_cache_is_read_again_and_never_torn(phantoms, preprocess, tmp_path):
    keep = on_disk(preprocess, tmp_path)
    fresh = keep(phantoms[0])
    (entry,) = tmp_path.iterdir()
    stamp = (entry / "image.npy").stat().st_mtime_ns
    (tmp_path / f".{entry.name}.99").mkdir()  # what a killed process leaves
    again = keep(phantoms[0])
    assert (entry / "image.npy").stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(fresh["image"], again["image"])
    assert isinstance(again["image"], np.memmap)


def test_other_settings_and_other_content_are_other_entries(phantoms, preprocess, tmp_path):
    on_disk(preprocess, tmp_path)(phantoms[0])
    other = ChestCT((-1000, 900), (8, 8, None), crop_to_body=True, margin_mm=10)
    on_disk(other, tmp_path)(phantoms[0])
    on_disk(preprocess, tmp_path)(phantoms[1])
    renamed = dataclasses.replace(phantoms[1], name="another name")
    assert on_disk(preprocess, tmp_path)(renamed)["name"] == "another name"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_all_that_is_wrong_is_told_at_once(phantoms, preprocess, tmp_path, cache):
    empty, nan = tmp_path / "empty.nii.gz", tmp_path / "nan.nii.gz"
    scan, mask = phantoms[0].load()
    nifti.write(mask.with_array(np.zeros(mask.shape, np.uint8)), empty)
    nifti.write(Volume(np.full(scan.shape, np.nan, np.float32), scan.affine), nan)
    bad = [
        dataclasses.replace(phantoms[0], name="a", mask=empty),
        dataclasses.replace(phantoms[1], name="b", image=nan),
        dataclasses.replace(phantoms[2], name="c", image=tmp_path / "gone.nii.gz"),
    ]
    data = patches(cache=cache, cache_dir=tmp_path / "cache")
    with pytest.raises(Findings) as caught:
        data.loaders([bad[0], phantoms[1]], bad[1:], preprocess, no_augmentation())
    told = str(caught.value)
    assert len(caught.value.findings) == 3
    assert all(name in told for name in ("empty.nii.gz", "nan.nii.gz", "gone.nii.gz"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cache": "ram"}, "memory, disk or none"),
        ({"cache": "disk", "cache_dir": None}, "needs a folder"),
        ({"patch_size": [0, 1, 1]}, "positive sizes"),
        ({"margin": [8, 8, -1]}, "0 or more"),
    ],
)
def test_settings_that_cannot_be(changes, word):
    with pytest.raises(InputError, match=word):
        patches(**changes)


def test_a_full_disk_is_left_no_fuller(phantoms, preprocess, tmp_path, monkeypatch):
    saved = []

    def save(path, array):
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        saved.append(path)
        path.write_bytes(array.tobytes())

    monkeypatch.setattr(np, "save", save)
    keep = OnDisk(Prepare(preprocess, PATCH), tmp_path / "cache", mapped=False)
    with pytest.raises(InputError, match="No space left"):
        keep(phantoms[0])
    assert len(saved) == 2
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("function", [lambda scan: scan, partial(Volume.reoriented)])
def test_what_a_function_prepares_is_not_kept(tmp_path, function):
    with pytest.raises(InputError, match="make it a class"):
        OnDisk(Prepare(function, PATCH), tmp_path, mapped=False)
