"""What each part of the default adds: out-of-fold Dice with one thing changed at a time.

    python benchmarks/accuracy/ablation.py --root DIR --minutes 10
    python benchmarks/accuracy/ablation.py --root DIR --variants default one_contrast --seeds 0 1 2

Every variant trains the same folds for the same time, and each scan is judged by the fold that held
it out, on its own grid. Prints a table in Markdown. Leave the machine alone meanwhile: time is the
budget.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from folds import POOR_MASKS, Trainings, by_case, made_with

from pleural.data.plethora import Plethora

VARIANTS: dict[str, list[str]] = {
    "default": [],
    "no_poor_masks": [f"data.distrusted=[{','.join(POOR_MASKS)}]"],
    "no_effusions": ["augmentation.transforms.1.prob=0"],
    "more_effusions": ["augmentation.transforms.1.prob=0.8"],
    "no_consolidations": ["augmentation.transforms.0.prob=0"],
    "no_enhancement": ["augmentation.transforms.4.prob=0"],
    "standard": ["augmentation=standard"],
    "strong": ["augmentation=strong"],
    "one_contrast": ["model.contrasts=[[-1,1]]"],
    "half_resolution": [
        "model.channels=[16,32,64,128,256]",
        "model.stem_stride=[2,2,1]",
    ],
    "small_patches": ["patch_size=[96,96,48]"],
    "batch_dice": ["loss.dice_over=batch", "loss.smooth=1e-5"],
    "patch_dice": ["loss.dice_over=patch"],
    "pos_weight_1": ["loss.pos_weight=1"],
    "no_averaging": ["ema_decay=null"],
    "baseline": ["experiment=baseline"],
}


def row(variant: str, trainings: Trainings, options: argparse.Namespace) -> tuple[str, str]:
    """A line of the table, and what it was made with."""
    dices, errors, records = [], [], []
    for seed in options.seeds:
        folder = Path(options.out).resolve() / f"{variant}_seed{seed}"
        records = trainings.run(folder, seed, VARIANTS[variant])
        of_case, predicted_ml = by_case(records), by_case(records, "predicted_ml")
        dices.append([*of_case.values()])
        for name, reference_ml in by_case(records, "reference_ml").items():
            if name not in POOR_MASKS:
                errors.append(abs(predicted_ml[name] / reference_ml - 1))
    good = [name not in POOR_MASKS for name in of_case]
    table = np.array(dices)  # seeds, scans
    means = table[:, good].mean(axis=1)
    spread = f" ({means.min():.3f} to {means.max():.3f})" if len(means) > 1 else ""
    cells = [f"{table.mean():.3f}", f"**{means.mean():.3f}**{spread}", f"{np.median(errors):.0%}"]
    cells += [f"{dice:.3f}" for dice in table.mean(axis=0)]
    return f"| {variant} | {' | '.join(cells)} |", made_with(records[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--minutes", type=int, default=10, help="of training, for each fold")
    parser.add_argument("--n-folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--out", default="outputs/ablation")
    options = parser.parse_args()
    folds = range(options.n_folds)
    trainings = Trainings(options.root, len(folds), folds, options.minutes, options.jobs)
    names = sorted(case.name for case in Plethora(options.root).cases() if case.labelled)
    head = ["changed", f"all {len(names)}", "without poor masks", "median volume error", *names]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    made = ""
    for variant in options.variants:
        line, made = row(variant, trainings, options)
        print(line, flush=True)
    print(
        f"\nMean Dice on the scans' own grids, {options.n_folds} folds of {options.minutes} "
        f"minutes, {options.jobs} at a time; seeds {', '.join(map(str, options.seeds))} (least and "
        f"greatest mean); poor masks: {', '.join(POOR_MASKS)}; {made}."
    )


if __name__ == "__main__":
    main()
