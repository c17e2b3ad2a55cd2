"""Every option of every group is found, composed and built."""

import inspect
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

import pleural.config  # noqa: F401 (its resolvers)
from pleural.data.folder import Folder
from pleural.data.phantom import Phantom
from pleural.data.plethora import Plethora
from pleural.data.table import Table
from pleural.errors import InputError
from pleural.hardware import fastest_precision
from pleural.tuned import tuned
from tests.conftest import ROOT

CONF = ROOT / "conf"
COUNTS = {
    "augmentation": 5,
    "budget": 1,
    "data": 4,
    "dataset": 1,
    "experiment": 5,
    "inference": 2,
    "logger": 4,
    "loss": 5,
    "model": 7,
    "optimizer": 2,
    "preprocess": 2,
    "scheduler": 4,
    "task": 7,
    "trainer": 5,
}
OPTIONS = {
    group: sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    for group in sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
    if group != "hydra"
}
NEEDS = {"wandb": "wandb", "mlflow": "mlflow", "swin_unetr": "einops"}


def composed(tmp_path: Path, *overrides: str):
    needed = [f"run_dir={tmp_path}", f"data.root={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=[*overrides, *needed])


def built(tmp_path: Path, group: str, option: str):
    if option in NEEDS:
        pytest.importorskip(NEEDS[option], reason=f"{option} needs the extra of {NEEDS[option]}")
    config = composed(tmp_path, *([f"{group}={option}"] if group != "task" else []))
    return instantiate(config[group], _convert_="all")


def test_the_table_of_a_training_stays_where_it_is_resumed(tmp_path):
    for step in range(2):
        logger = instantiate(composed(tmp_path, "logger=csv").logger)
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
    assert len([*tmp_path.rglob("metrics.csv")]) == 2


def test_a_network_is_told_the_window_that_scans_are_prepared_with(tmp_path):
    window_hu = [-500, 900]
    typed = "preprocess.window_hu=[-500,900]"
    assert composed(tmp_path, typed).model.window_hu == window_hu
    assert composed(tmp_path, typed, "model=unet2d").model.net.window_hu == window_hu


def test_every_group_has_the_options_that_are_told():
    assert {group: len(options) for group, options in OPTIONS.items()} == COUNTS


@pytest.mark.parametrize("source", [Folder, Phantom, Plethora, Table])
def test_the_yaml_of_a_source_repeats_its_constructor_in_names_and_defaults(source):
    conf = OmegaConf.to_container(OmegaConf.load(CONF / "data" / f"{source.__name__.lower()}.yaml"))
    assert isinstance(conf, dict)
    assert conf.pop("_target_") == f"{source.__module__}.{source.__name__}"
    names = [field.name for field in fields(source)]
    assert list(conf) == names
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in conf.items()}
    assert source(**{**own, names[0]: "here"}) == source("here")


SIMPLE = [
    (group, option)
    for group, options in OPTIONS.items()
    for option in options
    if group not in ("budget", "experiment", "task", "model", "data")
]


@pytest.mark.parametrize(("group", "option"), SIMPLE)
def test_an_option_is_built(tmp_path, monkeypatch, group, option):
    monkeypatch.chdir(tmp_path)  # gets MLflow's file
    part = built(tmp_path, group, option)
    assert callable(part) or group in ("dataset", "logger")


@pytest.mark.parametrize("option", OPTIONS["data"])
def test_a_data_source_is_built(tmp_path, option):
    where = {"table": f"data.path={tmp_path}/cases.csv"}.get(option, f"data.root={tmp_path}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"data={option}", where])
    assert callable(instantiate(config.data, _convert_="all").cases)


@pytest.mark.parametrize("option", OPTIONS["trainer"])
def test_a_trainer_is_made_of_its_options(tmp_path, option):
    make = instantiate(composed(tmp_path, f"trainer={option}").trainer, _convert_="all")
    parts = {"logger": False, "callbacks": [], "default_root_dir": tmp_path, "devices": 1}
    if option == "gpu" and not torch.cuda.is_available():
        with pytest.raises(InputError, match="gpu"):
            make(**parts)
        return
    assert str(make(**parts).precision) == fastest_precision("auto")


@pytest.mark.parametrize("option", OPTIONS["loss"])
def test_a_loss_falls_as_the_prediction_nears_the_target(tmp_path, option):
    loss = built(tmp_path, "loss", option)
    target = (torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    costs = [float(loss(scale * (target - 0.5), target)) for scale in (-8, 0, 8, 40)]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("option", OPTIONS["augmentation"])
def test_an_augmentation_keeps_image_and_label_together(tmp_path, option):
    augment = built(tmp_path, "augmentation", option)
    augment.set_random_state(0)
    label = torch.zeros(1, 20, 20, 16)
    label[:, 4:14, 6:12, 3:9] = 1
    no_lung = {"lung_depth_mm": torch.zeros_like(label), "spacing_mm": np.ones(3)}
    for _ in range(60):
        sample = augment({"name": "a", "image": label.clone(), "label": label.clone(), **no_lung})
        assert sample["image"].shape == sample["label"].shape == label.shape
        assert -1e-5 <= sample["label"].min() <= sample["label"].max() <= 1 + 1e-5
        together = torch.stack([sample["image"].ravel(), sample["label"].ravel()])
        assert torch.corrcoef(together)[0, 1] > 0.7


@pytest.mark.parametrize("option", OPTIONS["experiment"])
def test_an_experiment_composes_into_a_task(tmp_path, option):
    config = composed(tmp_path, f"experiment={option}")
    assert not OmegaConf.missing_keys(config)
    assert callable(instantiate(config.task, _convert_="all"))


ASKED = {
    "predict": ["task.runs=r"],
    "evaluate": ["task.predictions=p"],
    "report": ["task.run=r"],
    "export": ["task.run=r"],
    "search": ["task.typed=[]", "task.groups={}"],
}


@pytest.mark.parametrize("option", OPTIONS["task"])
def test_a_task_names_a_function_of_its_own_name_and_all_its_arguments(tmp_path, option):
    config = composed(tmp_path, f"task={option}", *ASKED.get(option, []))
    task = instantiate(config.task, _convert_="all")
    assert task.func.__name__ == option
    inspect.signature(task.func).bind(**task.keywords)


PATCHES = {
    "default": (192, 160, 64),
    "halved": (96, 80, 64),
    "coarse": (160, 128, 64),
    "coarse, halved": (80, 64, 64),
    "quick": (96, 64, 64),
    "phantom": (96, 64, 32),
}


@pytest.mark.parametrize("option", OPTIONS["model"])
def test_a_model_gives_logits_of_the_image_s_shape(tmp_path, option):
    net = built(tmp_path, "model", option).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, *PATCHES["phantom"])).isfinite().all()
        logits = net.to("meta")(torch.zeros(1, 1, *PATCHES["default"], device="meta"))
    assert logits.shape == (1, 1, *PATCHES["default"])


SHIPPED = [*((option, "default") for option in OPTIONS["model"])]
SHIPPED += [("unet3d", patch) for patch in PATCHES if patch != "default"]


def weight_gradients(net, image, bf16):
    """Of the mean squared probability, by name, for every convolution."""
    net.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = net(image)
    finest = logits if isinstance(logits, torch.Tensor) else logits[0]
    (finest.float().sigmoid() ** 2).mean().backward()
    return {
        name: parameter.grad.float().clone()
        for name, parameter in net.named_parameters()
        if parameter.grad is not None and parameter.dim() >= 4
    }


@pytest.mark.skipif(fastest_precision("cpu") != "bf16-mixed", reason="no bf16 on this processor")
@pytest.mark.parametrize(("option", "patch"), SHIPPED)
def test_gradients_in_bf16_agree_with_fp32(tmp_path, option, patch):
    """oneDNN's bf16 weight gradients are garbage where a feature map's first size is 2."""
    torch.manual_seed(0)
    net = tuned(built(tmp_path, "model", option))
    image = torch.randn(1, 1, *PATCHES[patch]).contiguous(memory_format=torch.channels_last_3d)
    exact, rounded = (weight_gradients(net, image, bf16) for bf16 in (False, True))
    largest = max(float(gradient.norm()) for gradient in exact.values())
    for name, gradient in exact.items():
        if gradient.norm() < 1e-3 * largest:
            continue  # a norm behind it takes its scale away: what is left is rounding
        cosine = torch.cosine_similarity(gradient.ravel(), rounded[name].ravel(), dim=0)
        assert cosine > 0.9, f"{name}: {cosine:.3f}"


def test_augmentations_have_the_numbers_by_which_the_ablation_changes_them():
    """`augmentation.transforms.3.prob=0` in benchmarks/accuracy/ablation.py, and in its ledgers."""
    transforms = OmegaConf.load(CONF / "augmentation" / "effusions.yaml").transforms
    names = ["Consolidation", "Effusion", "OtherFluid", "Hypodensity", "Cyst"]
    ours = [f"pleural.augmentation.Rand{name}" for name in names]
    assert [one._target_ for one in transforms[:5]] == ours
    later = [transforms[number]._target_ for number in (6, 7)]
    assert later == ["pleural.augmentation.RandAffine", "pleural.augmentation.RandEnhancement"]
