"""Experiments at equal wall-clock on one split of real scans: best validation Dice, case by case.

    python benchmarks/accuracy/equal_minutes.py --root DIR --minutes 15

Trains the default and `experiment=baseline` one after the other, each for the same time from its
first step, on one fold of PleThora (`data=plethora`), and prints a table in Markdown with machine,
versions and n. The numbers are the best epoch's on the scans' own grids, read from each `run.json`.
Leave the machine alone meanwhile, and run it from a clean commit, which the last line names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def trained(experiment: str, options: argparse.Namespace) -> dict[str, Any]:
    """The record of a run of ``experiment``."""
    folder = Path(options.out).resolve() / experiment
    if folder.exists():
        raise SystemExit(f"{folder} is there already: a run in it would be resumed, not measured")
    command = [
        *(sys.executable, str(ROOT / "run.py"), "data=plethora", f"data.root={options.root}"),
        *(f"n_folds={options.n_folds}", f"fold={options.fold}", f"seed={options.seed}"),
        *(f"trainer.max_time=00:00:{options.minutes:02d}:00", "patience=null"),
        f"hydra.run.dir={folder}",
    ]
    if experiment != "default":
        command.append(f"experiment={experiment}")
    subprocess.run(command, check=True)
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return record


def table(records: dict[str, dict[str, Any]]) -> str:
    names = [case["name"] for case in next(iter(records.values()))["cases"]]
    head = ["experiment", "epochs", "patches", "best epoch", *names, "mean Dice"]
    lines = [head, ["---"] * len(head)]
    for experiment, record in records.items():
        dices = [f"{case['dice']:.3f}" for case in record["cases"]]
        counts = [str(record[key]) for key in ("epochs", "patches", "best_epoch")]
        lines.append([experiment, *counts, *dices, f"**{record['dice']:.3f}**"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--minutes", type=int, default=15, help="of training, for each experiment")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--n-folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--experiments", nargs="+", default=["default", "baseline"])
    parser.add_argument("--out", default="outputs/equal_minutes")
    options = parser.parse_args()
    records = {experiment: trained(experiment, options) for experiment in options.experiments}
    split, versions = (next(iter(records.values()))[key] for key in ("split", "versions"))
    print(f"\n{table(records)}\n")
    print(
        f"{options.minutes} minutes of training each, fold {options.fold} of {options.n_folds}: "
        f"{len(split['training'])} scans train, n = {len(split['validation'])} validate; seed "
        f"{options.seed}; {versions['machine']}, torch {versions['torch']}, "
        f"MONAI {versions['monai']}, Python {versions['python']}; code {versions['code'][:10]}."
    )


if __name__ == "__main__":
    main()
