"""Dice against minutes of training, experiments side by side on one split of real scans.

    python benchmarks/accuracy/minutes.py --root DIR --minutes 5 10 20 40

Trains the default and `experiment=baseline` anew for every number of minutes (the learning rate
ends with the time, so a training cut short is no short training), on one fold of PleThora, and
judges the last weights on the scans' own grids. Prints a table in Markdown and writes a plot. Leave
the machine alone meanwhile, and run it from a clean commit, which the last line names.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from folds import Ledger, Trainings, by_case, by_minutes, made_with
from matplotlib.figure import Figure

from pleural.data.plethora import POOR_MASKS


def plot(dices: Mapping[str, Sequence[float]], minutes: Sequence[int], title: str) -> Figure:
    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for experiment, own in dices.items():
        axes.plot(minutes, own, "o-", label=experiment)
    axes.set(title=title, xlabel="minutes of training", ylabel="mean Dice", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def setting_of(experiment: str) -> list[str]:
    """What is typed for the name of an experiment, or for a setting of the default's."""
    if experiment == "default":
        return []
    return [experiment if "=" in experiment else f"experiment={experiment}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--minutes", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--n-folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--experiments",
        nargs="+",
        default=["default", "baseline"],
        help="or settings of the default's, such as start=null",
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--ledger", type=Path, help="file of what was measured before; grows")
    parser.add_argument("--out", default="outputs/minutes")
    options = parser.parse_args()
    ledger = Ledger(options.ledger)
    out = Path(options.out).resolve()
    dices: dict[str, list[float]] = {name: [] for name in options.experiments}
    rows: list[list[str]] = []
    made: list[Any] = []
    for minutes in options.minutes:
        each = Trainings(
            options.root, options.n_folds, options.folds, by_minutes(minutes), options.jobs, ledger
        )
        for experiment in options.experiments:
            settings = setting_of(experiment)
            folder = out / (
                f"{experiment}_{options.n_folds}_folds_{minutes}_minutes_seed{options.seed}"
            )
            (records,) = each.run((folder, options.seed, settings))
            of_case = by_case(records)
            made += records
            good = [dice for name, dice in of_case.items() if name not in POOR_MASKS]
            if not good:
                parser.error(f"--folds: all of {', '.join(of_case)} have poor masks")
            dices[experiment].append(float(np.mean(good)))
            patches = round(np.mean([record["patches"] for record in records]))
            cells = [str(minutes), experiment, str(patches), f"**{dices[experiment][-1]:.3f}**"]
            rows.append([*cells, *(f"{dice:.3f}" for dice in of_case.values())])
    head = ["minutes", "experiment", "patches", "mean without poor masks", *of_case]
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    folds = ", ".join(map(str, options.folds))
    which = f"folds {folds} of {options.n_folds}, n = {len(good)} without poor masks"
    precisions = ", ".join(sorted({record["precision"] for record in made}))
    out.mkdir(parents=True, exist_ok=True)
    plot(dices, options.minutes, f"{which}, {precisions}").savefig(out / "minutes.png")
    print(f"\n{which}, seed {options.seed}; {made_with(made)}. Plot: {out / 'minutes.png'}")


if __name__ == "__main__":
    main()
