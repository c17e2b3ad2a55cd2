"""Training by several processes, here and as if on several machines."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.broken import outcome, same
from tests.conftest import ROOT, SMALL, begun, run_anew, typed

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="torch was built without gloo"
)

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true")
HERE = (*TWO, "trainer.devices=2")


@pytest.fixture
def arguments(phantoms, phantom_root) -> list[str]:
    return [f"data.root={phantom_root}", *SMALL]


def values(folder: Path, column: str) -> list[float]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def test_two_processes_write_one_folder_and_validate_as_one_does(arguments, tmp_path):
    """With a rate of nothing the weights stay what the seed made them, whoever trains."""
    frozen = ("optimizer.lr=0", "optimizer.weight_decay=0", "ema_decay=null", "epochs=1")
    frozen += ("trainer.precision=auto",)
    together = "split.validation=[phantom_000,phantom_002]"  # one for each process
    for name, processes in (("one", ()), ("two", HERE)):
        done = run_anew(
            tmp_path, *typed("run.py", *arguments, *processes, *frozen, together, f"name={name}")
        )
        assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / "outputs" / "train" / name) for name in ("one", "two"))
    assert {path.name for path in one.parent.iterdir()} == {"one", "two"}
    for column in ("val_dice", "val_dice_phantom_000", "val_dice_phantom_002"):
        assert values(one, column) == pytest.approx(values(two, column), abs=1e-7)
    a, b = (json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (one, two))
    assert a["cases"] == b["cases"]
    for told in ("training (", "precision "):
        assert done.stdout.count(told) == 1


def test_two_processes_that_are_killed_end_as_if_they_had_not_been(arguments, tmp_path):
    wanted = tmp_path / "unbroken"
    wanted.mkdir()
    done = run_anew(wanted, *typed("run.py", *arguments, *HERE, "hydra.run.dir=run"))
    assert done.returncode == 0, done.stderr
    process = begun(tmp_path, *arguments, *HERE, "hydra.run.dir=run")
    process.kill()  # the other loses its peer, and ends
    process.communicate()
    done = run_anew(tmp_path, *typed("run.py", "resume=run"))
    assert done.returncode == 0, done.stderr
    assert same(outcome(tmp_path / "run"), outcome(wanted / "run"))


def test_jobs_of_a_sweep_take_several_processes_each(arguments, tmp_path):
    short = ("epochs=1", "name=sweep", "seed=0,1")
    done = run_anew(tmp_path, *typed("run.py", "-m", *arguments, *HERE, *short))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "outputs" / "train" / "sweep" / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)
    assert all(len(row["folder"]) <= 150 for row in rows)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def torchrun(node: int, port: int, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
        *(f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"),
        *(str(ROOT / "run.py"), *arguments),
    ]


@pytest.mark.parametrize("named", [True, False])
def test_two_machines_by_torchrun(arguments, tmp_path, named):
    nodes = ("trainer.devices=1", "trainer.num_nodes=2", "epochs=1")
    given = [*arguments, *TWO, *nodes, *(["name=both"] if named else [])]
    port, pipe = free_port(), subprocess.PIPE
    alone = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            torchrun(node, port, *given),
            cwd=tmp_path,
            env=alone,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        for node in (0, 1)
    ]
    told = [process.communicate(timeout=300) for process in both]
    if named:
        assert [process.returncode for process in both] == [0, 0], told
        (folder,) = (tmp_path / "outputs" / "train").iterdir()
        assert len(values(folder, "val_dice")) == 1
        assert torch.load(folder / "best.pt", weights_only=True)["weights"]
    else:
        assert all(process.returncode for process in both)
        assert any("give them one with name=" in err for _, err in told)
