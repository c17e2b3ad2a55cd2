"""What is tracked of a training, and where."""

import multiprocessing

import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger

from pleural.tracking import mlflow_logger, tracked_name, wandb_id
from pleural.train import train
from tests.conftest import SMALL, run
from tests.test_train import settings

CONFIG = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
    "augmentation": {"transforms": [{"prob": 0.3}, {"prob": 0.1}]},
    "task": {"optimizer": "${optimizer}"},
    "patch_size": [32, 32, 16],
    "data": {"root": "/home/ann", "n_cases": 3},
    "name": "mine",
}
TOLD = {
    "optimizer._target_": "torch.optim.AdamW",
    "optimizer.lr": 0.01,
    "augmentation.transforms.0.prob": 0.3,
    "augmentation.transforms.1.prob": 0.1,
    "patch_size": [32, 32, 16],
    "data.n_cases": 3,
}


def test_loggers_are_told_the_settings_each_once(phantoms, tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    own = tmp_path / "lightning"
    train(**settings(phantoms, tmp_path, logger=CSVLogger(own, "", "")))
    assert yaml.safe_load((own / "hparams.yaml").read_text(encoding="utf-8")) == TOLD


def swept(tmp_path, phantom_root, logger):
    """The folders of the two runs of a sweep."""
    typed = [f"data.root={phantom_root}", *SMALL, "epochs=1", f"logger={logger}"]
    done = run(tmp_path, "run.py", "-m", "name=s", *typed, "optimizer.lr=0.01,0.02")
    assert done.returncode == 0, done.stderr
    return sorted(path.parent for path in (tmp_path / "outputs" / "train" / "s").glob("*/best.pt"))


def test_jobs_of_a_sweep_are_runs_of_their_own_in_weights_and_biases(
    phantoms, phantom_root, tmp_path
):
    pytest.importorskip("wandb", reason="needs the extra of wandb")
    folders = swept(tmp_path, phantom_root, "wandb")
    assert [len([*one.glob("wandb/offline-run-*")]) for one in folders] == [1, 1]


def test_runs_are_named_and_lie_side_by_side_in_mlflow(phantoms, phantom_root, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra of mlflow")
    folders = swept(tmp_path, phantom_root, "mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("pleural").experiment_id])
    rates = {one.info.run_name: one.data.params["optimizer.lr"] for one in found}
    assert rates == dict(zip([f"s/{one.name}" for one in folders], ("0.01", "0.02"), strict=True))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("outputs/train/mine", "mine"),
        ("outputs/train/cv/fold-0", "cv/fold-0"),
        ("outputs/search/s/trials/0af/fold-1", "s/trials/0af/fold-1"),
        ("outputs/outputs/train/mine", "mine"),
        ("outputs/train", "train"),
        ("elsewhere/mine", "mine"),
    ],
)
def test_a_run_is_tracked_by_the_name_of_its_folder(tmp_path, monkeypatch, folder, name):
    monkeypatch.chdir(tmp_path)
    assert tracked_name(folder) == tracked_name(str(tmp_path / folder)) == name


def test_a_training_that_goes_on_goes_on_with_its_tracked_run(tmp_path):
    assert wandb_id(str(tmp_path)) is None
    wandb = tmp_path / "wandb"
    for name in ("run-20260102_000000-b-c", "offline-run-20260101_000000-a", "latest-run"):
        (wandb / name).mkdir(parents=True)
    assert wandb_id(str(tmp_path)) is None  # nothing was kept, so it begins anew
    (tmp_path / "last.ckpt").touch()
    assert wandb_id(str(tmp_path)) == "b-c"


def begin(file, gate):
    gate.wait()
    logger = mlflow_logger(f"sqlite:///{file}", "pleural", run_name=file.parent.name)
    logger.log_metrics({"loss": 1.0}, 0)


def test_jobs_that_begin_at_once_share_a_file(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra of mlflow")
    context = multiprocessing.get_context("spawn")
    file, gate = tmp_path / "outputs" / "mlflow.db", context.Barrier(2)
    jobs = [context.Process(target=begin, args=(file, gate)) for _ in range(2)]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join()
    assert [one.exitcode for one in jobs] == [0, 0]
    client = mlflow.MlflowClient(f"sqlite:///{file}")
    found = client.search_runs([client.get_experiment_by_name("pleural").experiment_id])
    assert [one.info.run_name for one in found] == ["outputs"] * 2
