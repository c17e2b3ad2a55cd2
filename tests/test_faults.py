"""What is promised where something breaks: each test breaks it on purpose."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from benchmarks.broken import outcome, same
from pleural.command import resumed
from pleural.dataset import Patches
from pleural.errors import InputError
from pleural.faults import what_happened
from pleural.run_folder import RunFolder
from tests.conftest import ROOT, SMALL, begun, run

RUN = "hydra.run.dir=run"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "make room there"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (RuntimeError("Too many open files. Communication with the workers ..."), "ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
        (OSError(errno.EACCES, "Permission denied"), "let it be written"),
        (OSError(errno.EBUSY, "Device or resource busy"), "Device or resource busy: what"),
    ],
)
def test_what_an_operating_system_says_is_told_with_its_remedy(error, remedy, tmp_path):
    dataset = Patches((8, 8, 8), (0, 0, 0), 1, 0.5, 1, 1, None, "memory", None, 1, 0)
    told = str(what_happened(error, RunFolder(tmp_path), dataset))
    assert remedy in told
    assert f"resume={tmp_path} goes on" in told


@pytest.fixture(scope="module")
def unbroken(phantoms, phantom_root, tmp_path_factory):
    """The command of a training, and what it ends with where nothing breaks."""
    folder = tmp_path_factory.mktemp("unbroken")
    arguments = [f"data.root={phantom_root}", *SMALL, RUN]
    done = run(folder, "run.py", *arguments)
    assert done.returncode == 0, done.stderr
    return arguments, outcome(folder / "run")


def test_the_same_seed_gives_the_same_run_and_another_another(unbroken, tmp_path):
    arguments, wanted = unbroken
    for changed, equal in (("dataset.num_workers=1", True), ("seed=1", False)):
        done = run(tmp_path, "run.py", *arguments, changed, f"hydra.run.dir={changed[:4]}")
        assert done.returncode == 0, done.stderr
        assert same(outcome(tmp_path / changed[:4]), wanted) is equal


def test_a_training_killed_while_it_writes_ends_as_if_it_had_not_been(unbroken, tmp_path):
    """Again and again, each time at another file, until it gets to the end."""
    arguments, wanted = unbroken
    n_kills, command = 0, arguments
    for at in (2, 5, 8, 7, 6, 9, 100):
        done = run(tmp_path, "benchmarks/broken.py", str(at), *command)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        n_kills += 1
        begun = (tmp_path / "run" / "last.ckpt").exists()
        command = [f"resume={tmp_path / 'run'}"] if begun else arguments
    assert done.returncode == 0, done.stderr
    assert n_kills >= 4
    assert same(outcome(tmp_path / "run"), wanted)


def told(process: subprocess.Popen[str]) -> str:
    """What a training says that something broke."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    return err


def test_a_training_killed_at_any_time_ends_as_if_it_had_not_been(unbroken, tmp_path):
    arguments, wanted = unbroken
    process = begun(tmp_path, *arguments)
    process.kill()
    process.communicate()
    done = run(tmp_path, "run.py", "resume=run")
    assert done.returncode == 0, done.stderr
    assert same(outcome(tmp_path / "run"), wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process: Linux only")
def test_a_full_disk_is_told_and_nothing_is_lost(unbroken, tmp_path):
    import resource

    arguments, wanted = unbroken
    process = begun(tmp_path, *arguments)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))  # as good as a full disk
    err = told(process)
    assert "File too large" in err
    assert f"resume={tmp_path / 'run'}" in err
    done = run(tmp_path, "run.py", "resume=run")
    assert done.returncode == 0, done.stderr
    assert same(outcome(tmp_path / "run"), wanted)


LONG = ("epochs=10000", "trainer.check_val_every_n_epoch=10000")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_scan_that_vanishes_is_named(unbroken, phantom_root, tmp_path, workers):
    arguments, _ = unbroken
    shutil.copytree(phantom_root, tmp_path / "scans")
    root = f"data.root={tmp_path / 'scans'}"
    changes = ["dataset.cache=none", "keep=last", f"dataset.num_workers={workers}"]
    process = begun(tmp_path, *arguments, root, *LONG, *changes)
    (tmp_path / "scans").rename(tmp_path / "gone")  # all at once: none is seen half removed
    err = told(process)
    assert "phantom_00" in err
    assert "such file" in err


@pytest.mark.skipif(sys.platform != "linux", reason="children of a process: Linux only")
def test_a_worker_that_dies_is_told(unbroken, tmp_path):
    arguments, _ = unbroken
    process = begun(tmp_path, *arguments, *LONG, "keep=last", "dataset.num_workers=1")
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    err = told(process)
    assert "process that cuts patches died" in err
    assert torch.load(tmp_path / "run" / "best.pt", weights_only=True)["weights"]


def test_a_torn_checkpoint_is_never_taken_for_a_whole_one(unbroken, tmp_path):
    arguments, _ = unbroken
    begun(tmp_path, *arguments).kill()
    os.truncate(tmp_path / "run" / "last.ckpt", 1000)
    done = run(tmp_path, "run.py", "resume=run")
    assert done.returncode == 2
    assert "last.ckpt: cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hydra.run.dir=FILE/run"], "results cannot be written there"),
        (["-m", "hydra.sweep.dir=FILE/run"], "results cannot be written there"),
        (["resume=FILE"], "is not the folder of a training"),
        (["resume=nowhere"], "is not the folder of a training"),
    ],
)
def test_folders_that_cannot_serve_are_told_of_at_once(tmp_path, arguments, words):
    (tmp_path / "FILE").touch()
    done = run(tmp_path, "run.py", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def write_command(run_dir: Path, *overrides: str) -> None:
    (run_dir / ".hydra").mkdir(parents=True)
    (run_dir / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {cwd: /nowhere}}")
    (run_dir / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))


@pytest.mark.parametrize(
    "override",
    [
        "+augmentation={_target_: os.system, command: touch done}",
        "augmentation=../../evil",
        "+experiment@x=/evil",
        "hydra.searchpath=[/evil]",
        "--config-dir=/evil",
        "name=${oc.env:HOME}",
    ],
)
def test_a_folder_s_command_may_choose_and_set_and_call_nothing(tmp_path, override):
    write_command(tmp_path / "evil", "epochs=1", override)
    with pytest.raises(InputError, match="could run anything"):
        resumed([f"resume={tmp_path / 'evil'}"], ROOT / "conf")


def test_the_command_of_a_run_is_given_again_for_its_folder(tmp_path):
    write_command(tmp_path / "it's", "model=unet2d", "data.root=../scans", "+loss.x=1")
    typed_again = resumed([f"resume={tmp_path}/it's", "debug=true"], ROOT / "conf")
    assert typed_again[:-1] == ["model=unet2d", "data.root=../scans", "+loss.x=1", "debug=true"]
    (parsed,) = OverridesParser.create().parse_overrides(typed_again[-1:])
    assert parsed.value() == f"{tmp_path}/it's"
    assert resumed(["epochs=1"], ROOT / "conf") == ["epochs=1"]
