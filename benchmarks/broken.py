"""How a training is broken on purpose, and what is left of it compared.

`python broken.py N key=value ...` is run.py, killed while it writes its N-th file. Half of the file
is on disk then, beside its place; where the N-th is a folder (a cache entry), all of its files are
halved.
"""

from __future__ import annotations

import csv
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
TINY = (  # a training that takes seconds
    *("data.n_cases=3", "data.spacing_mm=[6,6,12]", "n_folds=3", "fold=0"),
    *("preprocess.spacing_mm=[6,6,null]", "patch_size=[48,32,16]", "model.channels=[4,8]"),
    *("dataset.steps_per_epoch=3", "dataset.cases_per_batch=1"),
)


def outcome(folder: Path) -> tuple[Any, ...]:
    """All that a training ended with, but for how long it took."""
    best, last = (
        torch.load(folder / name, map_location="cpu", weights_only=True)
        for name in ("best.pt", "last.ckpt")
    )
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if k != "minutes"} for row in csv.DictReader(file)]
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    states = [last["state_dict"], last["optimizer_states"], last["lr_schedulers"]]
    return best, states, rows, record["cases"], record["finished"]


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, however deeply nested."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def kill_at(n):
    moves = 0

    def counted(move):
        def moved(self, target):
            nonlocal moves
            moves += 1
            if moves == n:
                for file in [self, *self.rglob("*")]:
                    if file.is_file():
                        os.truncate(file, file.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return move(self, target)

        return moved

    Path.replace, Path.rename = counted(Path.replace), counted(Path.rename)


if __name__ == "__main__":
    kill_at(int(sys.argv[1]))
    sys.argv = [str(ROOT / "run.py"), *sys.argv[2:]]
    sys.path.insert(0, str(ROOT))
    runpy.run_path(sys.argv[0], run_name="__main__")
