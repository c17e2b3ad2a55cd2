"""The search: what is tried, what is kept, what it goes on with."""

import csv
import re
import shutil
import subprocess

import optuna
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pleural import search as searching
from pleural.errors import InputError
from pleural.search import search
from tests.conftest import ROOT, SMALL, run

SPACE = [{"key": "loss.pos_weight", "low": 1.0, "high": 5.0}]


def found(tmp_path, monkeypatch, dice, **changes):
    """A search whose trainings come to ``dice(settings, fold)``; the settings in their order."""
    calls = []

    def trained(place, settings):
        values = dict(setting.split("=") for setting in settings)
        calls.append(values)
        result = dice(values, int(values["fold"]))
        return (None, str(result)) if isinstance(result, Exception) else (result, "")

    monkeypatch.setattr(searching, "_trained", trained)
    given = {
        **{"space": SPACE, "n_trials": 4, "folds": [0, 1], "n_startup_trials": 2, "seed": 0},
        **{"typed": [], "groups": {"model": "unet3d"}, "run_dir": tmp_path},
    }
    return search(**{**given, **changes}), calls


def test_a_training_without_a_dice_is_told_as_such(tmp_path, monkeypatch):
    done = subprocess.CompletedProcess([], returncode=0, stdout="", stderr="a warning\n")
    monkeypatch.setattr(searching.subprocess, "run", lambda *_, **__: done)
    dice, why = searching._trained(tmp_path, [])
    assert dice is None
    assert "no validation case has effusion" in why


def table(tmp_path):
    with (tmp_path / "trials.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_best_is_kept_and_written_as_an_experiment(tmp_path, monkeypatch):
    best, _ = found(tmp_path, monkeypatch, lambda v, _: 1 / (1 + float(v["loss.pos_weight"])))
    rows = [row for row in table(tmp_path) if row["state"] == "complete"]
    assert best == pytest.approx(max(float(row["dice"]) for row in rows), abs=1e-4)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(tmp_path / "best.yaml", tmp_path / "conf" / "experiment" / "found.yaml")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        config = compose("config", overrides=["experiment=found", "run_dir=nowhere"])
    assert 1 / (1 + config.loss.pos_weight) == pytest.approx(best)


GIVEN_WITH = re.compile(r"^# Not in here, so to be given with it: (.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    ("typed", "key", "choices", "told"),
    [
        (["experiment=quick", "model=unet2d", "epochs=9"], "loss.pos_weight", [2.5], None),
        (["experiment=[coarse,quick]", "threshold=0.4"], "augmentation", ["standard"], None),
        (["experiment=baseline", "scheduler=poly"], "loss", ["tversky"], None),
        (["experiment=quick"], "experiment", ["baseline"], None),
        (["experiment=phantoms", "loss={smooth: 1, bce_weight: 0.2}"], "loss.smooth", [3], None),
        (["data=plethora", "trainer.max_time=00:00:10:00"], "ema_decay", [None], None),
        (["~budget", "+trainer.accumulate_grad_batches=2"], "model", ["unet2d"], None),
        (["data=folder", "data.root='/a b'"], "optimizer", ["sgd"], "data.root='/a b'"),
        (["~loss.smooth"], "augmentation.transforms.0.prob", [0.2], None),
    ],
)
def test_the_best_alone_is_its_trial(tmp_path, monkeypatch, typed, key, choices, told):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        config = compose("config", overrides=typed, return_hydra_config=True)
    groups, space = dict(config.hydra.runtime.choices), [{"key": key, "choices": choices}]
    settings: list[str] = []
    monkeypatch.setattr(
        searching, "_trained", lambda _, given: (settings.extend(given[:-1]) or 0.5, "")
    )
    given = {"n_trials": 1, "folds": [0], "n_startup_trials": 1, "seed": 0}
    search(space=space, typed=typed, groups=groups, run_dir=tmp_path, **given)
    shutil.copy(tmp_path / "best.yaml", tmp_path / "conf" / "experiment" / "found.yaml")
    beside = GIVEN_WITH.findall((tmp_path / "best.yaml").read_text(encoding="utf-8"))
    if told is not None:
        assert beside == [told]
    else:
        in_no_experiment = [one for one in settings if re.match(r"~|.*\.\d\.", one)]
        assert beside == ([" ".join(in_no_experiment)] if in_no_experiment else [])
    also = [told] if told else beside[0].split() if beside else []
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        trial, found = (
            compose("config", overrides=o) for o in (settings, ["experiment=found", *also])
        )
    assert OmegaConf.to_container(found) == OmegaConf.to_container(trial)


def test_a_trial_that_falls_behind_is_ended_early(tmp_path, monkeypatch):
    numbers = iter(range(100))
    _, calls = found(tmp_path, monkeypatch, lambda *_: 0.9 if next(numbers) < 4 else 0.1)
    assert [row["state"] for row in table(tmp_path)] == ["complete"] * 2 + ["pruned"] * 2
    assert len(calls) == 6  # two trials of two folds, two of one


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path, monkeypatch):
    numbers = iter(range(100))
    found(tmp_path, monkeypatch, lambda *_: 0.5 if next(numbers) else ValueError("no room"))
    first, *others = table(tmp_path)
    assert (first["state"], first["reason"]) == ("fail", "no room")
    assert all(row["state"] in ("complete", "pruned") for row in others)


def test_a_search_of_failures_says_so(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="every trial failed"):
        found(tmp_path, monkeypatch, lambda *_: ValueError("no room"))


def test_a_search_that_was_killed_goes_on_with_the_trial_it_was_at(tmp_path, monkeypatch):
    asked = []

    def killed(values, fold):
        asked.append(values["loss.pos_weight"])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        found(tmp_path, monkeypatch, killed)
    _, calls = found(tmp_path, monkeypatch, lambda *_: 0.5)
    assert calls[0]["loss.pos_weight"] == asked[-1]
    rows = table(tmp_path)
    assert [row["reason"] for row in rows if row["state"] == "fail"] == ["cut off, and tried again"]
    assert optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/study.db")


def test_a_search_that_goes_on_draws_what_it_has_not_drawn(tmp_path, monkeypatch):
    asked = []
    for n_trials in (2, 4, 6):
        _, calls = found(tmp_path, monkeypatch, lambda *_: 0.5, n_trials=n_trials, folds=[0])
        asked += [call["loss.pos_weight"] for call in calls]
    assert len({*asked}) == 6


def test_a_search_goes_on_with_what_its_trials_share(tmp_path, monkeypatch):
    found(tmp_path, monkeypatch, lambda *_: 0.5, n_trials=1, typed=["model=unet2d"])
    assert "override /model: unet2d\n" in (tmp_path / "best.yaml").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="holds a search whose trials share model=unet2d"):
        found(tmp_path, monkeypatch, lambda *_: 0.5, typed=["epochs=99"])
    _, calls = found(tmp_path, monkeypatch, lambda *_: 0.5, n_trials=2, typed=["model=unet2d"])
    assert len(calls) == 2


def test_a_search_goes_on_with_the_folds_and_the_space_it_had(tmp_path, monkeypatch):
    found(tmp_path, monkeypatch, lambda *_: 0.9, n_trials=1, folds=[0])
    with pytest.raises(InputError, match=r"holds a search of task\.folds=\[0\]"):
        found(tmp_path, monkeypatch, lambda *_: 0.5, n_trials=2, folds=[0, 1])
    wider = [{"key": "loss.pos_weight", "choices": [1, 3]}]
    with pytest.raises(InputError, match=r"holds a search of task\.space="):
        found(tmp_path, monkeypatch, lambda *_: 0.5, n_trials=2, folds=[0], space=wider)
    assert found(tmp_path, monkeypatch, lambda *_: 0.5, n_trials=1, folds=[0])[0] == 0.9


def test_a_trial_that_was_cut_off_is_not_counted(tmp_path, monkeypatch):
    def killed(values, fold):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(tmp_path, monkeypatch, killed, n_trials=1)
    best, calls = found(tmp_path, monkeypatch, lambda *_: 0.5, n_trials=1)
    assert (best, len(calls)) == (0.5, 2)


def test_no_value_is_typed_as_hydra_reads_it(tmp_path, monkeypatch):
    space = [{"key": "ema_decay", "choices": [None]}]
    _, calls = found(tmp_path, monkeypatch, lambda *_: 0.5, space=space, n_trials=1)
    assert calls[0]["ema_decay"] == "null"


def test_a_search_without_folds_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"task\.folds names no fold"):
        found(tmp_path, monkeypatch, lambda *_: 0.5, folds=[])


def test_what_was_typed_is_shared_but_for_task_and_folder(tmp_path, monkeypatch):
    typed = ["task=search", "name=x", "task.n_trials=1", "model=unet2d", "+loss.x=1"]
    _, calls = found(tmp_path, monkeypatch, lambda *_: 0.5, typed=typed, n_trials=1)
    assert calls[0].keys() == {"model", "+loss.x", "loss.pos_weight", "fold"}
    assert [call["fold"] for call in calls] == ["0", "1"]


def test_a_search_of_one_fold_is_told_where_folds_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"fold=3: a search trains the folds that task\.folds"):
        found(tmp_path, monkeypatch, lambda *_: 0.5, typed=["fold=3"])


@pytest.mark.parametrize(
    "entry",
    [
        {"key": "loss.pos_weight", "low": 1},
        {"low": 1, "high": 2},
        {"key": "loss.pos_weight", "low": 2.0, "high": 1.0},
        {"key": "model", "choices": []},
        {"key": "patch_size", "choices": [[96, 96, 64]]},
        {"key": "model", "choices": 5},
        {"key": "loss.pos_weight", "low": None, "high": 5},
        "loss.pos_weight",
    ],
)
def test_a_space_that_is_none_is_refused(tmp_path, monkeypatch, entry):
    with pytest.raises(InputError, match=r"task\.space"):
        found(tmp_path, monkeypatch, lambda *_: 0.5, space=[entry])


def test_a_search_end_to_end(tmp_path, phantoms, phantom_root):
    space = "task.space=[{key:loss.pos_weight,low:1.0,high:5.0}]"
    small = [argument for argument in SMALL[:-1] if argument != "fold=0"]
    arguments = [f"data.root={phantom_root}", *small, "epochs=1", "name=s", space]
    done = run(tmp_path, "run.py", "task=search", "task.n_trials=1", "task.folds=[0]", *arguments)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "search" / "s"
    assert {"study.db", "trials.csv", "best.yaml"} <= {path.name for path in folder.iterdir()}
    assert len(list(folder.glob("trials/*/fold-0/best.pt"))) == 1
