"""The edge of the configuration."""

import math
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pleural import config as configuration
from pleural.command import as_typed, resumed, suggestions
from pleural.config import build_task, of_job
from pleural.errors import InputError, missing_package, root_cause
from pleural.idle import idle
from pleural.place import Place
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
        Place().on_run_start(OmegaConf.create({"hydra": typed, "name": "run"}))
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
        asked = {"hydra": hydra, "task": {"_target_": "train"}, "name": "run"}
        Place().on_run_start(OmegaConf.create(asked))
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", " ", None, ".", "./", "..", "../elsewhere", "/elsewhere"])
def test_a_name_is_that_of_a_folder_below_outputs(tmp_path, capsys, name):
    typed = {"overrides": {"task": [], "hydra": []}, "run": {"dir": str(tmp_path / "run")}}
    with pytest.raises(SystemExit):
        Place().on_run_start(OmegaConf.create({"hydra": typed, "name": name}))
    assert "names no folder below outputs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


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
        ("seed=-1", "seed is a whole number"),
        ("seed=abc", "seed is a whole number"),
        ("patch_size=96", "three positive sizes"),
        ("dataset.margin=0", "margin is three sizes"),
        ("preprocess.spacing_mm=0", "three sizes above 0"),
        ("preprocess.window_hu=0", "two HU that grow"),
        ("dataset.num_workers=-1", "num_workers is 0 or more"),
        ("dataset.cases_per_batch=0", "cases_per_batch is 1 or more"),
        ("dataset.steps_per_epoch=0", "steps_per_epoch is 1 or more"),
        ("loss.pos_weight=-3", "pos_weight is above 0"),
        ("+loss.gamma=2", "unexpected keyword argument 'gamma'"),
    ],
)
def test_a_part_that_refuses_its_values_says_so_in_a_sentence(typed, words):
    with pytest.raises(InputError, match=words):
        build_task(composed(typed))


def test_a_value_that_refers_to_one_that_is_not_there_is_told_in_a_sentence():
    with pytest.raises(InputError, match=r"'preprocess\.window_hu' not found.*\.window_hu"):
        build_task(composed("~preprocess.window_hu"))


def as_job(monkeypatch, folder, *typed):
    """As if Hydra had begun a job of these overrides in ``folder``."""
    about = {
        "runtime": {"output_dir": str(folder), "choices": {"task": "train"}},
        "overrides": {"task": [*typed]},
    }
    job = SimpleNamespace(initialized=lambda: True, get=lambda: OmegaConf.create(about))
    monkeypatch.setattr(configuration, "HydraConfig", job)
    return composed(*typed)


@pytest.mark.parametrize("failure", [None, InputError("no room"), RuntimeError("a bug")])
def test_a_job_s_run_of_weights_and_biases_ends_with_it(tmp_path, monkeypatch, failure):
    ended = []

    def finish(exit_code):
        ended.append(exit_code)
        wandb.run = None

    def task():  # the logger opens a run where there is none
        wandb.run = wandb.run or "a run"
        if failure is not None:
            raise failure
        return 0.5

    wandb = SimpleNamespace(run=None, finish=finish)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(configuration, "build_task", lambda _: task)
    config = as_job(monkeypatch, tmp_path)
    for n_jobs in (1, 2):
        dice = of_job(config, ROOT / "run.py")
        assert math.isnan(dice) if failure else dice == 0.5
        assert ended == [1 if failure else 0] * n_jobs


def test_jobs_that_are_not_tracked_have_nothing_to_end(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(configuration, "build_task", lambda _: lambda: 0.5)
    assert of_job(as_job(monkeypatch, tmp_path), ROOT / "run.py") == 0.5


def test_of_two_experiments_none_is_dropped_unnoticed(tmp_path, monkeypatch):
    config = as_job(monkeypatch, tmp_path, "experiment=quick", "epochs=1", "experiment=coarse")
    with pytest.raises(InputError, match=r"given twice.*'experiment=\[quick,coarse\]'"):
        build_task(config)
    both = composed("experiment=[quick,coarse]")
    assert (both.preprocess.spacing_mm, both.trainer.max_time) == ([2, 2, 3], "00:00:05:00")


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("quick", True),
        ("[quick,coarse]", True),
        ("[quick, coarse]", True),
        ("[]", False),
        ("[quick,../../elsewhere]", False),
        ("../elsewhere", False),
        ("[quick", False),
        ("[[quick]]", False),
    ],
)
def test_a_run_of_several_experiments_is_resumed(tmp_path, monkeypatch, value, fine):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".hydra").mkdir()
    typed = [f"experiment={value}", "epochs=1"]
    for name, content in (
        ("overrides", typed),
        ("hydra", {"hydra": {"runtime": {"cwd": str(tmp_path)}}}),
    ):
        (tmp_path / ".hydra" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with nullcontext() if fine else pytest.raises(InputError, match="could run anything"):
        assert resumed([f"resume={tmp_path}"], ROOT / "conf")[:2] == typed


@pytest.mark.parametrize(
    ("task", "heard", "unheard"),
    [
        ("predict", ["data.root=x", "detection_ml=5", "seed=1"], ["threshold=0.3", "model=unet2d"]),
        ("evaluate", ["task.tolerance_mm=2", "debug=true", "name=a"], ["loss.pos_weight=2"]),
        ("train", ["loss.pos_weight=5", "patch_size=[64,64,32]", "n_folds=3"], ["detection_ml=5"]),
        ("search", ["task.n_trials=3", "epochs=3", "detection_ml=5"], []),
        ("report", ["experiment=quick"], ["data=folder", "+model.x=1", "fold=1"]),
    ],
)
def test_what_a_task_does_not_ask_for_is_told(task, heard, unheard):
    typed = [f"task={task}", *heard, *unheard]
    assert idle(composed(*typed), typed) == unheard


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
    for fine in (["+trainer.accumulate_grad_batches=2"], ["augmentation.transforms.3.prob=0"]):
        assert suggestions(fine, ROOT / "conf") == []
    (told,) = suggestions(["--cfg", "job", "model=unet4d"], ROOT / "conf")
    assert "did you mean model=unet3d?" in told


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("foo", "settings are typed as key=value"),
        ("=3", "settings are typed as key=value"),
        ("model=unet3d)", """if it is text, type 'model='"'"'unet3d)'"'"''"""),
        ("split.validation=[müller,x]", "put each text in it in quotes, as in key=['a b',c]"),
    ],
)
def test_what_cannot_be_parsed_is_told_with_its_remedy(typed, hint):
    (told,) = suggestions([typed, "seed=1"], ROOT / "conf")
    assert told == f"{typed} is no setting as Hydra reads it: {hint}"


@pytest.mark.parametrize("text", ["/home/müller/日本", "C&A (1) #2 = it's [new] {b}", "C:\\ä\\b\\"])
@pytest.mark.parametrize("key", ["data.root", "name", "task.runs"])
def test_paths_and_names_may_hold_any_text(key, text):
    (override,) = OverridesParser.create().parse_overrides([as_typed(f"{key}={text}")])
    assert (override.key_or_group, override.value()) == (key, text)


def test_values_of_a_sweep_stay_apart():
    (override,) = OverridesParser.create().parse_overrides([as_typed("task.run=/ü/a,/b")])
    assert override.is_sweep_override()
    assert [str(value.text) for value in override.value().list] == ["/ü/a", "/b"]


@pytest.mark.parametrize(
    "typed", ["name=a,b", "data.root=/x", "task.run=[ä,b]", "epochs=müll", "-m", "resume=/ä b"]
)
def test_what_hydra_reads_or_is_no_text_stays_as_typed(typed):
    assert as_typed(typed) == typed
