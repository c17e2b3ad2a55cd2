"""The out-of-fold figure: every scan predicted by the fold that did not train on it, with interval.

    python benchmarks/accuracy/cross_validation.py --root DIR --minutes 10 --n-folds 3
    python benchmarks/accuracy/cross_validation.py --root DIR --seeds 0 1 2

Trains the folds of PleThora for each seed, predicts the held-out scans, evaluates and reports them
(the report shows the failures as pictures). Prints the evaluation's tables for each seed, and one
over all seeds. Started again with the same --name, it goes on where it was stopped. Further
settings of the training are passed on, as in `... --minutes 10 experiment=quick`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from folds import ROOT, Trainings, budget_of, by_minutes, made_with, summary

from pleural.data.plethora import POOR_MASKS
from pleural.io.whole import read_table

COLUMNS = ("dice", "nsd", "sensitivity", "precision", "reference_ml", "predicted_ml")


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "run.py"), *arguments], check=True)


def judged(name: str, runs: Path, data: Sequence[str]) -> list[dict[str, str]]:
    """The evaluation's row of every scan, in order of their names."""
    predictions, evaluation = (Path(f"outputs/{task}/{name}") for task in ("predict", "evaluate"))
    run("task=predict", *data, f"name={name}", f"task.runs={runs}", "task.held_out=true")
    run("task=evaluate", *data, f"name={name}", f"task.predictions={predictions}")
    run("task=report", f"name={name}", f"task.run={evaluation}")
    rows = [row for row in read_table(evaluation / "cases.csv") if row["reader"] == "model"]
    return sorted(rows, key=lambda row: row["name"])


def table(rows_of_seeds: Sequence[Sequence[dict[str, str]]]) -> str:
    """Each scan's mean over the seeds (and Dice of each), then the means over scans."""
    names = [row["name"] for row in rows_of_seeds[0]]
    values = np.array([[_values(row) for row in rows] for rows in rows_of_seeds])
    lines = [["scan", "Dice", "of each seed", *COLUMNS[1:]], ["---"] * (len(COLUMNS) + 2)]
    for name, own in zip(names, values.transpose(1, 0, 2), strict=True):
        seeds = ", ".join(f"{dice:.3f}" for dice in own[:, 0])
        dice, nsd, sensitivity, precision, reference_ml, predicted_ml = own.mean(axis=0)
        shares = [f"{share:.3f}" for share in (nsd, sensitivity, precision)]
        lines.append(
            [name, f"{dice:.3f}", seeds, *shares, f"{reference_ml:.0f}", f"{predicted_ml:.0f}"]
        )
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    good = [index for index, name in enumerate(names) if name not in POOR_MASKS]
    everything = told(f"all {len(names)}", values)
    return f"{text}\n\n{everything}\n{told('without poor masks', values[:, good])}"


def _values(row: dict[str, str]) -> list[float]:
    return [float(row[column]) for column in COLUMNS]


def told(which: str, values: np.ndarray) -> str:
    """``values``: seeds, scans (each of its own patient), ``COLUMNS``."""
    over = summary(values[..., 0], values[..., 5], values[..., 4])
    missed = int((values[..., 0] == 0).sum())
    return (
        f"{which}: mean Dice {over.dice.value:.3f}{over.interval}, of each seed "
        f"{', '.join(f'{dice:.3f}' for dice in over.of_seed)}; median volume error "
        f"{over.volume_error:.0%}; missed {missed} of {values[..., 0].size}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--name", default="cv")
    parser.add_argument("--minutes", type=int, help="of each training; else the default's epochs")
    parser.add_argument("--n-folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    options, settings = parser.parse_known_args()
    folds = range(options.n_folds)
    budget = [] if options.minutes is None else by_minutes(options.minutes)
    trainings = Trainings(options.root, len(folds), folds, budget, options.jobs)
    data = ["data=plethora", f"data.root={options.root}"]
    rows_of_seeds, records = [], []
    runs = [Path("outputs/train").resolve() / f"{options.name}_seed{s}" for s in options.seeds]
    asked = [(folder, seed, settings) for folder, seed in zip(runs, options.seeds, strict=True)]
    for folder, own in zip(runs, trainings.run(*asked), strict=True):
        records += own
        rows_of_seeds.append(judged(folder.name, folder, data))
    print(
        f"\n{table(rows_of_seeds)}\n\n{options.n_folds} folds of "
        f"{budget_of(records)} of training, {options.jobs} at a time; seeds "
        f"{', '.join(map(str, options.seeds))}; {made_with(records)}."
    )


if __name__ == "__main__":
    main()
