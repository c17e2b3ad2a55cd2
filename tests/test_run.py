"""The command line, end to end, as a person types it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.broken import TINY
from pleural.sweep import quoted
from tests import conftest
from tests.conftest import ROOT, typed

SMALL = [*TINY, "epochs=2"]


@pytest.fixture
def data(phantom_root) -> str:
    return f"data.root={phantom_root}"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python run.py ...` as if typed in ``folder``, which gets the outputs."""
    return conftest.run(folder, "run.py", *arguments)


def run_anew(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return conftest.run_anew(folder, *typed("run.py", *arguments))


def test_the_default_task_trains_and_tells(tmp_path, phantoms, data):
    done = run_anew(tmp_path, data, *SMALL)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    for told in ("training (2):", "validation (1):", "best epoch", "mean Dice", "precision"):
        assert told in done.stdout
    assert folder.name in done.stdout
    found = {path.name for path in folder.iterdir()}
    assert {"best.pt", "last.ckpt", "dice.png", "metrics.csv", "run.json", ".hydra"} <= found
    assert any(name.startswith("events.") for name in found)
    assert "loss" in done.stderr or "loss" in done.stdout  # the progress bar
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["epochs"] == 2


@pytest.fixture(scope="module")
def cross_validated(phantoms, phantom_root, tmp_path_factory):
    """Three folds, trained by one command, in a folder of their own."""
    folder = tmp_path_factory.mktemp("cross_validated")
    data = f"data.root={phantom_root}"
    done = run(folder, "-m", "name=cv", data, *SMALL, "trainer=smoke", "fold=0,1,2")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_sweep_started_again_skips_what_finished(cross_validated, data):
    runs = sorted((cross_validated / "outputs" / "train" / "cv").glob("*/best.pt"))
    assert len(runs) == 3
    shutil.rmtree(runs[2].parent)  # as if it had been stopped there
    kept = [path.stat().st_mtime_ns for path in runs[:2]]
    again = run(cross_validated, "-m", "name=cv", data, *SMALL, "trainer=smoke", "fold=0,1,2")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before") == 2
    assert [path.stat().st_mtime_ns for path in runs[:2]] == kept
    assert runs[2].exists()


def test_a_run_of_other_settings_is_refused_and_stays_as_it_was(cross_validated, data):
    folder = min((cross_validated / "outputs" / "train" / "cv").glob("*/best.pt")).parent
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for refused, told in (
        ([f"resume={folder}", "loss.pos_weight=2"], "other settings (loss.pos_weight)"),
        ([f"hydra.run.dir={quoted(folder)}", "task=audit", data], "another task"),
        (
            ["-m", "name=cv", f"hydra.sweep.subdir={quoted(folder.name)}", "loss.pos_weight=2"],
            "other settings (",
        ),
    ):
        done = run(cross_validated, *refused)
        assert done.returncode == 2
        assert told in done.stderr
        assert {path: path.read_bytes() for path in kept} == kept
    how = ["dataset.num_workers=1", "dataset.cache=none"]  # not what
    done = run(cross_validated, f"resume={folder}", *how)
    assert done.returncode == 0, done.stderr
    assert "finished before" in done.stdout


def test_a_mistake_is_told_before_torch_is_imported(tmp_path):
    script, *arguments = typed("run.py", "data=plethora")[1:]
    done = conftest.run_anew(tmp_path, sys.executable, "-X", "importtime", script, *arguments)
    assert done.returncode == 2
    assert "data.root is missing" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert "torch" not in imported


def test_what_is_misspelt_is_told_with_exit_code_2(tmp_path):
    for slip, hint in (("model=unet4d", "did you mean model=unet3d?"), ("=3", "key=value")):
        done = run(tmp_path, slip)
        assert done.returncode == 2
        assert hint in done.stderr


def test_a_path_of_any_letters_is_looked_up(tmp_path):
    done = run(tmp_path, "data=folder", f"data.root={tmp_path}/Füße & Ärzte (1)")
    assert done.returncode == 2
    assert "Füße & Ärzte (1): " in done.stderr


def test_jobs_that_would_share_a_folder_are_refused(tmp_path):
    done = run(tmp_path, "-m", "task=audit", "data=folder", "data.root=A,B")
    assert done.returncode == 2
    assert "data.root names no folder" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_folders_are_handed_from_task_to_task(cross_validated, data):
    """Cross-validation to an out-of-fold figure, then the report of it, as the README has it."""
    cases = [data, *SMALL[:2]]
    for arguments, told in (
        (["task=predict", "task.runs=outputs/train/cv", "task.held_out=true"], "[3/3]"),
        (["task=evaluate", "task.predictions=outputs/predict/cv"], "| phantom_001 | model"),
        (["task=report", "task.run=outputs/evaluate/cv"], "report.html"),
    ):
        done = run(cross_validated, *arguments, "name=cv", *cases)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
    summary = cross_validated / "outputs" / "evaluate" / "cv" / "summary.json"
    dice = json.loads(summary.read_text(encoding="utf-8"))["readers"]["model"]["mean"]["dice"]
    assert dice["n"] == 3
    page = cross_validated / "outputs" / "report" / "cv" / "report.html"
    assert "phantom_001" in page.read_text(encoding="utf-8")


def test_a_sweep_ends_with_a_table(tmp_path, phantoms, data):
    done = run(tmp_path, "-m", data, *SMALL, "trainer=smoke", "loss.pos_weight=1,3")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["loss.pos_weight"] for row in rows] == ["1", "3"]
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)
    assert all((folder / row["folder"] / "best.pt").exists() for row in rows)
    assert "loss.pos_weight" in done.stdout
    assert "sweep.csv" in done.stdout
    assert "=" not in "".join(row["folder"] for row in rows)


def test_a_job_that_fails_does_not_end_the_sweep(tmp_path, phantoms, data):
    done = run(tmp_path, "-m", data, *SMALL, "trainer=smoke", "split.validation=[nobody],null")
    assert done.returncode == 2
    (table,) = tmp_path.glob("outputs/train/*/sweep.csv")
    with table.open(encoding="utf-8") as file:
        failed, trained = csv.DictReader(file)
    assert failed["dice"] == "failed"
    assert 0 <= float(trained["dice"]) <= 1
    assert "nobody" in done.stderr
    assert "1 of 2 jobs failed" in done.stderr


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_jobs_elsewhere_and_a_failed_one_alone_is_run_again(
    tmp_path, phantoms, data, launcher
):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    first = tmp_path / "first"  # what one of them starts from, and lacks
    sweep = ["-m", f"hydra/launcher={launcher}", "name=sweep", *SMALL, "trainer=smoke"]
    sweep += [data, f"start=null,{first}"]
    done = run_anew(tmp_path, *sweep)
    assert done.returncode == 2
    assert "1 of 2 jobs failed" in done.stderr
    (best,) = tmp_path.glob("outputs/train/sweep/*/best.pt")
    kept = best.stat().st_mtime_ns
    shutil.copytree(best.parent, first)
    done = run_anew(tmp_path, *sweep)
    assert done.returncode == 0, done.stderr
    assert best.stat().st_mtime_ns == kept
    assert len([*tmp_path.glob("outputs/train/sweep/*/best.pt")]) == 2


def hears_ctrl_c():
    """What a shell starts in the background, these tests perhaps, passes on that it is deaf."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_keeps_the_best_weights_and_the_curve(tmp_path, phantoms, data):
    endless = ["epochs=10000", "dataset.num_workers=1", "trainer.enable_progress_bar=false"]
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(ROOT / "run.py"), data, *SMALL, *endless],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
        start_new_session=True,
    )
    waited_until = time.monotonic() + 200
    while not list(tmp_path.glob("outputs/train/*/last.ckpt")):
        assert process.poll() is None and time.monotonic() < waited_until
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to its workers too
    try:
        out, err = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # it says where it stands
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, err
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    assert torch.load(folder / "best.pt", weights_only=True)["weights"]
    assert (folder / "dice.png").exists()
    assert "best epoch" in out
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["finished"] is False
    assert "stopping after this step" in err
    assert "Traceback" not in err


def test_help_shows_groups_options_and_examples(tmp_path):
    done = run_anew(tmp_path, "--help")
    assert done.returncode == 0
    for told in ("model:", "unet3d", "data:", "plethora", "python run.py -m loss.pos_weight=1,3,5"):
        assert told in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["loss.pos_wieght=3"], ["did you mean loss.pos_weight?"]),
        (["data=plethora"], ["data.root is missing", "subset_masks"]),
        (["data=folder", "data.root=EMPTY"], ["EMPTY", "imagesTr"]),
        (["task=predict", "data.root=EMPTY"], ["task.runs is missing"]),
        (["task=evaluate", "task.predictions=EMPTY/no", *TINY[:2]], ["EMPTY/no", "no such folder"]),
        (
            ["task=report", "threshold=0.3", "task.run=EMPTY"],
            ["changes nothing with task=report: threshold=0.3", "EMPTY: no folder of results"],
        ),
    ],
)
def test_bad_input_gets_a_sentence(tmp_path, arguments, words):
    (tmp_path / "EMPTY").mkdir()
    done = run(tmp_path, *arguments)
    assert done.returncode in (1, 2)
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_the_real_scans_train_as_they_lie(tmp_path, plethora_root):
    done = run(
        tmp_path,
        *("data=plethora", f"data.root={plethora_root}", "split.validation=[LUNG1-016]"),
        *("preprocess.spacing_mm=[4,4,null]", "patch_size=[48,48,48]", "model.channels=[4,8]"),
        *("dataset.steps_per_epoch=2", "trainer=smoke"),
        *("companions.n_cases=1", "companions.spacing_mm=[6,6,12]"),
    )
    assert done.returncode == 0, done.stderr
    assert "validation (1): LUNG1-016" in done.stdout
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["cases"][0]["reference_ml"] == pytest.approx(127.8, abs=0.1)
    assert len(record["split"]["training"]) == 6
    assert [case["name"] for case in record["companions"]] == ["phantom_000"]
