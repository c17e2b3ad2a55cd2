"""The training loop, on coarse phantoms and a tiny network."""

import csv
import dataclasses
import json
import math
import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet as MonaiUNet
from monai.transforms import Compose, RandRotate90d, Rotate90d
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from pleural.data.split import split
from pleural.dataset import Patches
from pleural.errors import InputError
from pleural.held_out import Exposure
from pleural.loop import Training, halved, halved_size
from pleural.loss import UNKNOWN, DiceBCE
from pleural.model import UNet
from pleural.preprocess import ChestCT
from pleural.run_folder import RunFolder
from pleural.schedule import Constant, Cosine, Plateau
from pleural.segmenter import Segmenter
from pleural.train import train
from pleural.trained import Run, Trained
from pleural.trainer import trainer
from tests.conftest import Source

PATCH = (48, 32, 16)


def settings(cases, run_dir, **changes):
    torch.manual_seed(0)
    given = {
        "data": Source(cases),
        "split": partial(split, fold=0, n_folds=3, seed=0),
        "preprocess": ChestCT((-1000, 1000), (6, 6, None), crop_to_body=True, margin_mm=10),
        "dataset": Patches(PATCH, (0, 0, 0), 2, 0.5, 1, 3, None, "memory", None, 1, 0),
        "augmentation": Compose([]),
        "model": UNet(3, (4, 8), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05),
        "loss": DiceBCE(3, 1, 1, dice_over="batch", smooth=1e-5),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2),
        "scheduler": Cosine(0.0, 0.0),
        "trainer": partial(
            trainer,
            precision="32-true",
            accelerator="cpu",
            devices=1,
            max_epochs=3,
            max_time=None,
            enable_progress_bar=False,
        ),
        "logger": TensorBoardLogger(run_dir, name="", version=""),
        "inference": SlidingWindowInferer(PATCH, overlap=0.25, mode="gaussian"),
        "threshold": 0.5,
        "companions": None,
        "sure_inside": None,
        "start": None,
        "coarse_until": 0,
        "ema_decay": 0.9,
        "bad_loss": "stop",
        "keep": "best",
        "patience": None,
        "run_dir": run_dir,
        "seed": 0,
        "settings": "as asked",
    }
    return {**given, **changes}


def lightning(**changes):
    given = {"precision": "32-true", "accelerator": "cpu", "devices": 1, "max_epochs": 3}
    given["max_time"] = None
    return partial(trainer, enable_progress_bar=False, **{**given, **changes})


def rows(run_dir):
    with (run_dir / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(phantoms, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    given = settings(phantoms, run_dir)
    return run_dir, train(**given), given


def test_the_run_folder_is_complete(finished):
    run_dir, _, _ = finished
    names = {path.name.split(".")[0] for path in run_dir.iterdir()}
    assert {"best", "last", "dice", "metrics", "validation", "run", "events"} <= names
    assert not [path for path in run_dir.iterdir() if path.name.startswith(".")]


def test_the_record_says_what_was_done(finished, phantoms):
    run_dir, dice, _ = finished
    record = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    assert record["dice"] == pytest.approx(dice)
    assert record["seed"] == 0
    assert record["finished"] is True
    assert set(record["seconds"]) == {"prepare", "train", "judge"}
    assert record["versions"]["torch"] == torch.__version__
    split_names = {part: [c["name"] for c in cases] for part, cases in record["split"].items()}
    assert sorted(split_names["training"] + split_names["validation"]) == [
        case.name for case in phantoms
    ]
    assert all(len(case["sha256"]) == 64 for case in record["split"]["training"])
    assert [case["name"] for case in record["cases"]] == split_names["validation"]


def test_the_best_epoch_is_the_one_with_the_highest_dice(finished):
    run_dir, _, _ = finished
    dices = [float(row["val_dice"]) for row in rows(run_dir)]
    best = torch.load(run_dir / "best.pt", weights_only=True)
    assert len(dices) == 3
    assert best["epoch"] == dices.index(max(dices))
    assert best["val_dice"] == pytest.approx(max(dices))


def test_the_kept_weights_give_the_reported_dice(finished):
    run_dir, _, given = finished
    net = UNet(3, (4, 8), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05)
    net.load_state_dict(torch.load(run_dir / "best.pt", weights_only=True)["weights"])
    trained = Trained(net, given["preprocess"], given["inference"], PATCH, 0.5)
    segmenter = Segmenter([trained], precision="32-true")
    record = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    case = next(c for c in given["data"].cases() if c.name == record["cases"][0]["name"])
    scan, _ = case.load()
    mask = segmenter.segment(scan).mask
    assert mask.shape == scan.shape
    volume_ml = float(mask.array.sum() * mask.voxel_ml)
    assert volume_ml == pytest.approx(record["cases"][0]["predicted_ml"], rel=1e-3)


def stop(run_dir):
    """As if the training in ``run_dir`` had been interrupted after its last epoch."""
    run = RunFolder(run_dir)
    run.save_record({**run.load_record(), "finished": False})


def test_a_wrong_setting_is_refused_before_anything_is_done(phantoms, tmp_path):
    with pytest.raises(InputError, match="sure_inside is two shares from 0 to 1"):
        train(**settings(phantoms, tmp_path / "run", sure_inside=[0.3]))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_stopped_run_goes_on_from_its_last_epoch(phantoms, tmp_path):
    train(**settings(phantoms, tmp_path, trainer=lightning(max_epochs=1)))
    assert len(rows(tmp_path)) == 1
    stop(tmp_path)
    train(**settings(phantoms, tmp_path, trainer=lightning(max_epochs=3)))
    assert [int(row["epoch"]) for row in rows(tmp_path)] == [0, 1, 2]
    steps = [int(row["step"]) for row in rows(tmp_path)]
    assert steps == [3, 6, 9]


def test_what_is_finished_is_not_trained_again(finished, phantoms, capsys):
    run_dir, dice, given = finished
    weights = (run_dir / "best.pt").stat().st_mtime_ns
    assert train(**given) == pytest.approx(dice)
    assert "finished before" in capsys.readouterr().out
    assert (run_dir / "best.pt").stat().st_mtime_ns == weights
    with pytest.raises(InputError, match="training on other cases"):  # not a finished one of these
        train(**{**given, "split": partial(split, fold=1, n_folds=3, seed=0)})


def test_a_run_folder_of_other_cases_is_not_resumed(phantoms, tmp_path):
    train(**settings(phantoms, tmp_path, trainer=lightning(max_epochs=1)))
    other = partial(split, fold=1, n_folds=3, seed=0)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(InputError, match="training on other cases"):
        train(**settings(phantoms, tmp_path, split=other))
    with pytest.raises(InputError, match="training with other settings"):
        train(**settings(phantoms, tmp_path, settings="others"))
    assert (tmp_path / "run.json").read_bytes() == before  # the record of the weights there


def test_a_scan_under_two_names_does_not_train_and_validate(phantoms, tmp_path):
    held_out = split(phantoms, fold=0, n_folds=3, seed=0).validation[0]
    again = dataclasses.replace(held_out, name="again", patient="again")
    with pytest.raises(InputError, match=rf"train and validate .{held_out.name} is again."):
        named = partial(split, fold=0, n_folds=3, seed=0, validation=[held_out.name])
        train(**settings([*phantoms, again], tmp_path / "run", split=named))
    with pytest.raises(InputError, match=rf"train and validate .{held_out.name} is again."):
        train(**settings(phantoms, tmp_path / "run", companions=Source([again])))
    assert not (tmp_path / "run" / "best.pt").exists()


def test_what_trains_along_counts_as_seen(phantoms, tmp_path):
    _, held_out, along = phantoms
    data = [phantoms[0], held_out]
    named = partial(split, fold=0, n_folds=2, seed=0, validation=[held_out.name])
    train(**settings(data, tmp_path, split=named, companions=Source([along])))
    run = Run(tmp_path, RunFolder(tmp_path).load_record(), "")
    seen = Exposure.of(run, phantoms)
    assert [seen.trained_on(case) for case in phantoms] == [True, False, True]


def test_epochs_between_validations_are_kept_when_resumed(phantoms, tmp_path):
    seldom = {"check_val_every_n_epoch": 2}
    train(**settings(phantoms, tmp_path, trainer=lightning(max_epochs=3, **seldom)))
    stop(tmp_path)
    train(**settings(phantoms, tmp_path, trainer=lightning(max_epochs=5, **seldom)))
    assert [int(row["epoch"]) for row in rows(tmp_path)] == [0, 1, 2, 3, 4]


def test_same_seed_same_weights(phantoms, tmp_path):
    dices = [train(**settings(phantoms, tmp_path / name)) for name in ("a", "b")]
    a, b = (torch.load(tmp_path / n / "best.pt", weights_only=True)["weights"] for n in ("a", "b"))
    assert dices[0] == dices[1]
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_all_cases_train_and_the_last_average_is_kept(phantoms, tmp_path):
    everything = partial(split, fold="all", n_folds=3, seed=0)
    dice = train(**settings(phantoms, tmp_path, split=everything))
    assert math.isnan(dice)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] == 2
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in best["weights"].items():
        torch.testing.assert_close(value, last[f"average.module.{name}"])
    assert (tmp_path / "dice.png").exists()


def test_the_last_epoch_is_kept_without_a_look_at_the_validation_scans(phantoms, tmp_path, capsys):
    dice = train(**settings(phantoms, tmp_path, keep="last"))
    assert not [name for row in rows(tmp_path) for name in row if name.startswith("val_")]
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["best_epoch"] == len(rows(tmp_path)) - 1
    assert record["dice"] == pytest.approx(dice)
    assert [c["name"] for c in record["cases"]] == [
        c["name"] for c in record["split"]["validation"]
    ]
    assert "last epoch 2 of 3" in capsys.readouterr().out


def test_what_else_could_be_kept_is_refused(phantoms, tmp_path):
    with pytest.raises(InputError, match="keep is best or last; got 'all'"):
        train(**settings(phantoms, tmp_path, keep="all"))


def test_patience_ends_a_training_that_stands_still(phantoms, tmp_path):
    frozen = partial(torch.optim.AdamW, lr=0.0, weight_decay=0.0)
    changes = {"trainer": lightning(max_epochs=20), "optimizer": frozen, "patience": 2}
    train(**settings(phantoms, tmp_path, **changes))
    assert len(rows(tmp_path)) == 3  # the first is the best, two more are waited for


def test_neither_patience_nor_plateau_counts_while_patches_are_halved(phantoms, tmp_path):
    frozen = partial(torch.optim.AdamW, lr=0.0, weight_decay=0.0)
    changes = {"trainer": lightning(max_epochs=8), "optimizer": frozen, "coarse_until": 0.5}
    waits = {"patience": 2, "scheduler": Plateau(warmup=0, patience=0, factor=0.5)}
    train(**settings(phantoms, tmp_path, **changes, **waits))
    seen = rows(tmp_path)
    assert [row["halved"] for row in seen] == ["True"] * 4 + ["False"] * 3  # one and two more
    assert waits["scheduler"].reached == 0.25


def test_patience_where_nothing_chooses_is_told_to_be_idle(phantoms, tmp_path, capsys):
    train(**settings(phantoms, tmp_path, keep="last", patience=2))
    assert "patience=2 ends nothing" in capsys.readouterr().out


def test_minutes_end_a_training_and_its_schedule(phantoms, tmp_path):
    in_time = lightning(max_epochs=1, max_time={"seconds": 5})
    train(**settings(phantoms, tmp_path, trainer=in_time, ema_decay=None))
    last = rows(tmp_path)[-1]
    assert float(last["minutes"]) > 0.9 * 5 / 60
    assert float(last["learning_rate"]) < 1e-3  # of 1e-2


def test_apple_s_gpu_is_refused_in_a_sentence(monkeypatch):
    made = SimpleNamespace(
        precision="32-true", strategy=SimpleNamespace(root_device=torch.device("mps"))
    )
    monkeypatch.setattr("pleural.trainer.Trainer", lambda **_: made)
    with pytest.raises(InputError, match=r"double precision.*trainer\.accelerator=cpu"):
        trainer("32-true", "gpu", 1, None)


def test_a_training_without_an_end_is_refused():
    for wrong in (-1, 0, "abc"):
        with pytest.raises(InputError, match="epochs is a number of them, 1 or more"):
            lightning(max_epochs=wrong)()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_time": 15}, "max_time is days:hours:minutes:seconds"),
        ({"precision": "fp8"}, "trainer: .*fp8"),
        ({"precision": "bf16-true"}, "precision is auto, 32-true, .*; got bf16-true"),
        ({"accelerator": "npu"}, "trainer: .*npu"),
        ({"foo": 1}, "trainer: .*foo"),
    ],
)
def test_a_trainer_that_cannot_be_made_says_why(wrong, told):
    with pytest.raises(InputError, match=told):
        lightning(**wrong)()


@pytest.mark.parametrize("lr", ["fast", -1.0])
def test_an_optimizer_that_cannot_be_made_says_why(phantoms, tmp_path, lr):
    with pytest.raises(InputError, match="optimizer: "):
        train(**settings(phantoms, tmp_path, optimizer=partial(torch.optim.AdamW, lr=lr)))


def test_patience_is_a_number_of_validations(phantoms, tmp_path):
    with pytest.raises(InputError, match="patience is 1 or more"):
        train(**settings(phantoms, tmp_path, patience=0))


def test_an_unvalidated_epoch_has_no_dice(phantoms, tmp_path):
    seldom = lightning(max_epochs=4, check_val_every_n_epoch=2)
    train(**settings(phantoms, tmp_path, trainer=seldom))
    assert [row["val_dice"] != "" for row in rows(tmp_path)] == [False, True, False, True]


def module(**changes):
    given = {
        "net": nn.Conv3d(1, 1, 1),
        "loss": DiceBCE(3, 1, 1, dice_over="batch", smooth=1e-5),
        "optimizer": partial(torch.optim.SGD, lr=0.1),
        "schedule": Constant(0.0),
        "inferer": lambda image, net: net(image),
        "threshold": 0.5,
        "coarse_until": 0,
        "ema_decay": None,
        "bad_loss": "stop",
    }
    return Training(**{**given, **changes})


def test_the_average_forgets_its_start():
    training = module(ema_decay=0.9)
    with torch.no_grad():
        training.net.weight.fill_(1.0)
        for _ in range(200):
            training.optimizer_step(0, 0, torch.optim.SGD(training.net.parameters(), lr=0.0), int)
    assert training.judged.weight.item() == pytest.approx(1.0, abs=1e-3)
    assert training.judged is not training.net


def test_without_averaging_the_weights_themselves_are_judged():
    training = module()
    assert training.judged is training.net


def test_a_threshold_is_of_the_probability():
    lenient = module(threshold=0.2)
    assert torch.sigmoid(torch.tensor(lenient.logit_threshold)).item() == pytest.approx(0.2)


@pytest.mark.parametrize("threshold", [0, 1, -0.5])
def test_a_threshold_lies_between_0_and_1(threshold):
    with pytest.raises(InputError, match="between 0 and 1"):
        module(threshold=threshold)


def test_cases_without_effusion_are_no_part_of_the_mean():
    training = module(inferer=lambda image, net: image)
    positive = torch.zeros(1, 1, 4, 4, 4)
    positive[..., :2] = 1
    for name, label in (("with", positive), ("without", torch.zeros_like(positive))):
        batch = {"name": [name], "image": positive - 0.5, "label": label}
        training.validation_step(batch, 0)
    assert training.dice_of_case == {"with": 1.0}
    assert training.mean_dice == 1.0


@pytest.mark.parametrize(("found", "wanted"), [(True, 1.0), (False, 0.0)])
def test_an_effusion_that_fills_half_of_no_voxel_is_where_there_is_most_of_it(found, wanted):
    label = torch.zeros(1, 1, 4, 4, 4)
    label[..., 0], label[..., 1] = 0.3, 0.1
    image = (label - 0.2).sign() if found else label - 1
    training = module(inferer=lambda image, net: image)
    training.validation_step({"name": ["thin"], "image": image, "label": label}, 0)
    assert training.dice_of_case == {"thin": wanted}


def test_distrusted_cases_are_told_and_no_part_of_the_mean():
    training = module(inferer=lambda image, net: image, distrusted=["poor"])
    label = torch.zeros(1, 1, 4, 4, 4)
    label[..., :2] = 1
    for name, image in (("good", label - 0.5), ("poor", 0.5 - label)):
        training.validation_step({"name": [name], "image": image, "label": label}, 0)
    assert training.dice_of_case == {"good": 1.0, "poor": 0.0}
    assert training.mean_dice == 1.0


def test_without_a_trusted_mask_to_validate_the_last_epoch_is_kept(phantoms, tmp_path, capsys):
    parts = split(phantoms, fold=0, n_folds=3, seed=0)
    poor = {case.name for case in parts.validation}
    doubted = [dataclasses.replace(c, distrusted=c.name in poor) for c in phantoms]
    train(**settings(doubted, tmp_path))
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["kept"], record["best_epoch"]) == ("last", 2)
    assert {case["name"] for case in record["cases"]} == poor  # judged all the same
    assert "no trusted mask validates" in capsys.readouterr().out


def test_a_distrusted_mask_has_no_say_in_which_epoch_is_best(phantoms, tmp_path):
    parts = split(phantoms, fold=0, n_folds=2, seed=0)
    poor, *good = [case.name for case in parts.validation if case.volume_ml > 0]
    assert good
    doubted = [dataclasses.replace(case, distrusted=case.name == poor) for case in phantoms]
    train(**settings(doubted, tmp_path, split=partial(split, fold=0, n_folds=2, seed=0)))
    for row in rows(tmp_path):
        of_good = [float(row[f"val_dice_{name}"]) for name in good]
        assert float(row["val_dice"]) == pytest.approx(sum(of_good) / len(of_good))
        assert f"val_dice_{poor}" in row


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_ema_decay_is_a_share(decay):
    with pytest.raises(InputError, match="ema_decay is a share below 1"):
        module(ema_decay=decay)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_coarse_until_is_a_share(share):
    with pytest.raises(InputError, match="coarse_until is a share"):
        module(coarse_until=share)


def test_first_patches_are_halved_in_plane(phantoms, tmp_path):
    seen = []

    class Noting(nn.Conv3d):
        def forward(self, image):
            if self.training and torch.is_grad_enabled():
                seen.append(tuple(image.shape[2:]))
            return super().forward(image)

    train(**settings(phantoms, tmp_path, model=Noting(1, 1, 1), coarse_until=0.5))
    n_x, n_y, n_z = PATCH
    half = (n_x // 2, n_y // 2, n_z)
    assert seen == [half] * 5 + [PATCH] * 4  # of 9 steps, the fifth begins before the middle
    assert [row["halved"] for row in rows(tmp_path)] == ["True", "False", "False"]


def test_halved_fluid_beside_the_unknown_is_unknown():
    label = torch.tensor([[1, UNKNOWN], [1, 1]]).reshape(1, 1, 2, 2, 1)
    assert halved(label).item() < 0


def test_halved_volumes_keep_what_is_in_them():
    patch = torch.rand(2, 1, 8, 6, 4)
    assert halved(patch).shape == (2, 1, 4, 3, 4)
    assert halved(patch).mean() == pytest.approx(float(patch.mean()))
    assert halved(patch)[1, 0, 1, 2, 3] == pytest.approx(float(patch[1, 0, 2:4, 4:6, 3].mean()))
    odd = torch.ones(1, 1, 5, 3, 2)
    assert halved(odd).eq(1).all()
    assert list(halved(odd).shape[2:]) == halved_size(odd.shape[2:]) == [3, 2, 2]


def test_plateau_is_told_of_every_validation(phantoms, tmp_path):
    told = []

    class Noting(Plateau):
        def observe(self, dice):
            told.append(dice)
            super().observe(dice)

    train(**settings(phantoms, tmp_path, scheduler=Noting(warmup=0.0, patience=0, factor=0.5)))
    assert told == [pytest.approx(float(row["val_dice"])) for row in rows(tmp_path)]


def test_plateau_is_refused_where_no_validation_would_tell_it(phantoms, tmp_path):
    schedule = Plateau(warmup=0.0, patience=0, factor=0.5)
    with pytest.raises(InputError, match="waits for validations"):
        train(**settings(phantoms, tmp_path, scheduler=schedule, keep="last"))


def test_more_epochs_than_there_are_between_validations_are_wanted(phantoms, tmp_path):
    seldom = lightning(max_epochs=3, check_val_every_n_epoch=4)
    with pytest.raises(InputError, match="of 3 epochs, validated every 4, none would be"):
        train(**settings(phantoms, tmp_path, trainer=seldom))


def test_a_time_too_short_for_a_validation_is_told(phantoms, tmp_path):
    seldom = lightning(max_time={"seconds": 1}, check_val_every_n_epoch=1000)
    with pytest.raises(InputError, match="before any epoch was validated"):
        train(**settings(phantoms, tmp_path, trainer=seldom))


@pytest.mark.parametrize("batches", [1, 2])
def test_patches_are_counted_as_they_are_learnt_from(phantoms, tmp_path, batches):
    gathered = lightning(max_epochs=2, accumulate_grad_batches=batches)
    train(**settings(phantoms, tmp_path, trainer=gathered))
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["patches"] == 2 * 3 * 2  # epochs, batches, crops


def test_validation_cases_without_effusion_choose_no_epoch(phantoms, tmp_path):
    negative = [dataclasses.replace(case, mask=None, negative=True) for case in phantoms]
    with pytest.raises(InputError, match="no trusted validation case has effusion"):
        train(**settings(negative, tmp_path))


def test_patches_with_wrong_bf16_gradients_are_refused(phantoms, tmp_path):
    deep = UNet(
        3, (4, 8, 16, 32, 64), (2, 2, 1), [(-1000, 1000)], (-1000, 1000), 0.05
    )  # 64 / 2 / 16 is 2
    changes = {"model": deep, "trainer": lightning(precision="bf16-mixed")}
    tiny = Patches((64, 64, 32), (0, 0, 0), 1, 0.5, 1, 1, None, "memory", None, 1, 0)
    with pytest.raises(InputError, match=r"first size of 2.*32-true"):
        train(**settings(phantoms, tmp_path, dataset=tiny, **changes))


def test_patches_that_the_model_cannot_take_are_refused(phantoms, tmp_path):
    odd = Patches((45, 32, 16), (0, 0, 0), 1, 0.5, 1, 1, None, "memory", None, 1, 0)
    net = MonaiUNet(3, 1, 1, channels=(4, 8, 16), strides=(2, 2))
    with pytest.raises(InputError, match=r"cannot take patches of \[45, 32, 16\]"):
        train(**settings(phantoms, tmp_path, dataset=odd, model=net))


def test_halved_patches_that_the_model_cannot_take_are_refused_with_a_remedy(phantoms, tmp_path):
    odd = Patches((36, 32, 16), (0, 0, 0), 1, 0.5, 1, 1, None, "memory", None, 1, 0)
    changes = {"dataset": odd, "coarse_until": 0.5}
    net = MonaiUNet(3, 1, 1, channels=(4, 8, 16), strides=(2, 2))
    with pytest.raises(InputError, match=r"patches of \[18, 16, 16\].*coarse_until=0"):
        train(**settings(phantoms, tmp_path, model=net, **changes))


def test_an_augmentation_that_changes_the_size_is_told_in_a_sentence(phantoms, tmp_path):
    turn = Compose([Rotate90d(["image", "label"])])
    with pytest.raises(InputError, match="equal in the axes"):
        train(**settings(phantoms, tmp_path, augmentation=turn))


def test_a_batch_that_does_not_fit_is_told_in_a_sentence(phantoms, tmp_path):
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, image):
            if self.training and torch.is_grad_enabled():
                torch.empty(2**60)  # an exabyte
            return image * self.scale

    with pytest.raises(InputError, match=r"2 patches of.*fit into memory.*crops_per_case"):
        train(**settings(phantoms, tmp_path, model=Greedy()))


class Breaks(nn.Module):
    """A network that sees NaN in some of its training steps, counted from 1."""

    def __init__(self, *steps):
        super().__init__()
        self.net = UNet(3, (4, 8), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05)
        self.steps, self.step = steps, 0

    def forward(self, image):
        if self.training and torch.is_grad_enabled():
            self.step += 1
        return self.net(image * (math.nan if self.step in self.steps else 1))


def test_a_loss_that_is_no_number_stops_with_the_cases_and_keeps_what_was_best(phantoms, tmp_path):
    with pytest.raises(InputError, match=r"phantom_00.*loss is nan in step 4.*bad_loss=skip"):
        train(**settings(phantoms, tmp_path, model=Breaks(5)))
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] == 0
    assert all(value.isfinite().all() for value in best["weights"].values())
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["finished"] is False


def test_steps_without_a_loss_can_be_skipped_and_are_counted(phantoms, tmp_path, capsys):
    train(**settings(phantoms, tmp_path, model=Breaks(2, 4, 5, 6), bad_loss="skip"))
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["finished"] is True
    assert record["skipped_steps"] == 4
    assert "phantom_00" in capsys.readouterr().err
    assert [row["train_loss"] == "nan" for row in rows(tmp_path)] == [False, True, False]
    weights = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"].values()
    assert all(value.isfinite().all() for value in weights)  # the norms' statistics, too


class Explodes(Breaks):
    """A network whose loss is a number in each step, but whose gradient is none in some."""

    def forward(self, image):
        logits = self.net(image)
        if self.training and torch.is_grad_enabled():
            self.step += 1
            if self.step in self.steps:
                logits.register_hook(lambda gradient: gradient * math.inf)
        return logits


def test_a_gradient_that_is_no_number_stops_before_it_moves_anything(phantoms, tmp_path):
    net = Explodes(5)
    with pytest.raises(InputError, match=r"phantom_00.*gradient is nan in step 4.*bad_loss=skip"):
        train(**settings(phantoms, tmp_path, model=net))
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_a_step_whose_gradient_is_no_number_can_be_skipped(phantoms, tmp_path):
    net = Explodes(2, 3)
    train(**settings(phantoms, tmp_path, model=net, bad_loss="skip"))
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["finished"] is True
    assert record["skipped_steps"] == 2
    assert record["patches"] == (3 * 3 - 2) * 2  # epochs, batches, crops
    assert all(value.isfinite().all() for value in net.state_dict().values())


@pytest.mark.parametrize("breaks", [Breaks, Explodes])
def test_steps_are_not_skipped_for_ever(phantoms, tmp_path, breaks, monkeypatch):
    monkeypatch.setattr("pleural.loop.MOST_SKIPPED_IN_A_ROW", 3)
    seldom = breaks(1, 2, 4, 5, 6, 7, 8)
    with pytest.raises(InputError, match="in step 6, after 3 skipped in a row"):
        train(**settings(phantoms, tmp_path, model=seldom, bad_loss="skip"))


def test_of_gathered_batches_the_average_counts_the_steps(phantoms, tmp_path):
    gathered = lightning(max_epochs=2, accumulate_grad_batches=3)
    train(**settings(phantoms, tmp_path, trainer=gathered, ema_decay=0.9))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["global_step"] == state["state_dict"]["average.n_averaged"] == 2


def test_a_scan_that_cannot_be_judged_is_told_with_what_is_whole(phantoms, tmp_path, monkeypatch):
    def too_large(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr("pleural.train.judge", too_large)
        with pytest.raises(InputError, match=r"does not fit into memory.*judges it anew"):
            train(**settings(phantoms, tmp_path))
    before = rows(tmp_path)
    train(**settings(phantoms, tmp_path))
    assert rows(tmp_path) == before
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["finished"] is True
    assert record["seconds"]["train"] >= 60 * float(before[-1]["minutes"]) > 0  # of both sessions


def test_turns_that_would_change_the_size_are_refused_before_anything_is_prepared(
    phantoms, tmp_path
):
    turn = Compose([RandRotate90d(["image", "label"], prob=0.1, max_k=3)])
    with pytest.raises(InputError, match=r"axes 0 and 1.*unequal"):
        train(**settings(phantoms, tmp_path / "run", augmentation=turn))
    assert not (tmp_path / "run" / "run.json").exists()


def test_of_a_step_that_is_left_out_the_average_keeps_nothing(phantoms, tmp_path):
    averaged = {"ema_decay": 0.9, "bad_loss": "skip"}
    train(**settings(phantoms, tmp_path, model=Breaks(2, 4), **averaged))
    skipped = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["skipped_steps"]
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert skipped == 2
    n_steps = state["global_step"] - skipped  # Lightning counts those that were left out
    assert state["state_dict"]["average.n_averaged"] == n_steps


class Interrupted(nn.Module):
    """A network in whose training step, counted from 1, Ctrl-C is pressed that many times."""

    def __init__(self, step, times=1):
        super().__init__()
        self.net = UNet(3, (4, 8), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05)
        self.pressed, self.times = step, times
        self.begun = self.ended = 0

    def forward(self, image):
        if not (self.training and torch.is_grad_enabled()):
            return self.net(image)
        self.begun += 1
        if self.begun == self.pressed:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        self.ended += 1
        return self.net(image)


@pytest.fixture
def hears_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after in (signal.default_int_handler, signal.SIG_IGN)


@pytest.mark.parametrize(("times", "ended"), [(1, 5), (2, 4)])
def test_ctrl_c_waits_for_the_step_unless_it_comes_twice(
    phantoms, tmp_path, hears_ctrl_c, capfd, times, ended
):
    net = Interrupted(5, times)
    with pytest.raises(KeyboardInterrupt):
        train(**settings(phantoms, tmp_path, model=net))
    assert (net.begun, net.ended) == (5, ended)
    assert "stopping after this step" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert (record["finished"], record["best_epoch"]) == (False, 0)


def test_ctrl_c_before_an_epoch_is_kept_is_told(phantoms, tmp_path, hears_ctrl_c, capfd):
    with pytest.raises(KeyboardInterrupt):  # which ends a sweep, too
        train(**settings(phantoms, tmp_path, model=Interrupted(2)))
    assert "stopped before the first epoch was kept" in capfd.readouterr().err


def test_where_ctrl_c_is_ignored_it_stays_so(phantoms, tmp_path, hears_ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    train(**settings(phantoms, tmp_path, model=Interrupted(5)))
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["finished"] is True
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_what_to_do_about_a_bad_loss_is_one_of_two():
    with pytest.raises(InputError, match="bad_loss is stop or skip; got 'hope'"):
        module(bad_loss="hope")
