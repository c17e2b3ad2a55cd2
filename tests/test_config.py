"""The edge of the configuration."""

from contextlib import nullcontext

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pleural.command import suggestions
from pleural.config import Place, build_task
from pleural.errors import InputError, missing_package, root_cause
from tests.conftest import ROOT


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=["run_dir=nowhere", *overrides])


@pytest.mark.parametrize(
    ("variable", "refused"),
    [("WORLD_SIZE", True), ("SLURM_STEP_NUM_TASKS", True), ("SLURM_NTASKS", False)],
)
def test_processes_that_were_started_need_one_folder(tmp_path, monkeypatch, variable, refused):
    monkeypatch.setenv(variable, "4")  # the last of a job's allocation, whatever it starts
    typed = {"overrides": {"task": ["seed=1"], "hydra": []}, "run": {"dir": str(tmp_path / "run")}}
    with pytest.raises(SystemExit) if refused else nullcontext():
        Place().on_run_start(OmegaConf.create({"hydra": typed}))
    assert (tmp_path / "run").exists() != refused


@pytest.mark.parametrize(
    ("kept", "told"), [("[1, 2]", "holds no settings"), ("task: null", "those of another task")]
)
def test_weights_beside_a_damaged_configuration_are_not_written_over(tmp_path, capsys, kept, told):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(kept)
    (tmp_path / "best.pt").write_bytes(b"weights")
    hydra = {"overrides": {"task": [], "hydra": []}, "run": {"dir": str(tmp_path)}}
    with pytest.raises(SystemExit):
        Place().on_run_start(OmegaConf.create({"hydra": hydra, "task": {"_target_": "train"}}))
    assert told in capsys.readouterr().err


def test_what_only_the_user_knows_is_asked_for_with_the_layout():
    with pytest.raises(InputError, match=r"data.root is missing: add data.root=...") as caught:
        build_task(composed("data=plethora"))
    assert "effusion_first_reviewer" in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("dataset.cache=ram", "memory, disk or none"),
        ("preprocess.window_hu=[100,-100]", "two HU that grow"),
        ("preprocess.spacing_mm=[0,2,null]", "three sizes above 0"),
        ("dataset.positive_share=1.5", "positive_share is a share"),
        ("scheduler.warmup=1", "warmup is a share"),
        ("data.image_format=jpeg", "image_format"),
        ("+loss.gamma=2", "unexpected keyword argument 'gamma'"),
    ],
)
def test_a_part_that_refuses_its_values_says_so_in_a_sentence(typed, words):
    with pytest.raises(InputError, match=words):
        build_task(composed(typed))


def test_a_missing_package_names_the_extra_that_brings_it():
    told = str(missing_package(ModuleNotFoundError("No module named 'wandb'")))
    assert "-e '.[wandb]'" in told
    assert "-e" not in str(missing_package(ImportError("libfoo.so")))


def test_the_first_of_wrapped_errors_is_found():
    try:
        try:
            raise InputError("the reason")
        except InputError as error:
            raise RuntimeError("a wrapper") from error
    except RuntimeError as error:
        assert str(root_cause(error)) == "the reason"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("model=unet3", "model=unet3d"),
        ("modell=unet3d", "model"),
        ("loss.pos_wieght=3", "loss.pos_weight"),
        ("optimiser.lr=1", "optimizer.lr"),
        ("trainer.max_epoch=1", "trainer.max_epochs"),
        ("model=unet2d,unet3", "model=unet3d"),
    ],
)
def test_a_slip_of_the_keyboard_gets_the_nearest_name(typed, hint):
    (told,) = suggestions([typed], ROOT / "conf")
    assert told.endswith(f"did you mean {hint}?")


def test_what_is_right_gets_no_hint():
    right = ["-m", "model=unet2d", "loss=tversky", "loss.alpha=0.1,0.2", "data=folder", "fold=all"]
    assert suggestions([*right, "data.root=/x", "hydra.run.dir=/y"], ROOT / "conf") == []
    assert suggestions(["+trainer.accumulate_grad_batches=2"], ROOT / "conf") == []


@pytest.mark.parametrize("typed", ["foo", "data.root=/a=b", "model=[unet3d"])
def test_what_cannot_be_parsed_is_left_to_hydra(typed):
    assert suggestions([typed], ROOT / "conf") == []
