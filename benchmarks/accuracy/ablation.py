"""What each part of the default adds: out-of-fold Dice with one thing changed at a time.

    python benchmarks/accuracy/ablation.py --root DIR --epochs 10
    python benchmarks/accuracy/ablation.py --root DIR --variants default one_contrast --seeds 0 1 2

Every variant trains the same folds on as many patches (or for as many minutes: then leave the
machine alone), and each scan is judged by the fold that held it out, on its own grid. A variant
whose network is another starts from random weights, as those of the package do not fit it: compare
it with `random_weights`. Prints a table in Markdown. It takes days in all: with `--ledger
benchmarks/accuracy/ledger.jsonl` what was measured of today's default is not trained again;
`earlier*.jsonl` beside it are of those before (docs/tried.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from folds import Ledger, Trainings, by_case, by_minutes, made_with, summary

from pleural.data.plethora import POOR_MASKS

SHALLOW = [  # fluid, and less dense
    "augmentation.transforms.1.thickness_mm=[3,60]",
    "augmentation.transforms.1.fluid_hu=[6,12]",
]
DEEP_DENSE = [  # the deepest and densest fluid, and organs as light as most fluid
    "augmentation.transforms.1.thickness_mm=[3,120]",
    "augmentation.transforms.1.fluid_hu=[12,10]",
    "augmentation.transforms.3.tissue_hu=[0,45]",
]
FEWER = ["augmentation.transforms.3.prob=0.3", "augmentation.transforms.3.diffuse=0.5"]
FOCAL = [  # parts of organs, no whole ones
    "augmentation.transforms.3.prob=0.3",
    "augmentation.transforms.3.diffuse=0",
]
NO_HYPODENSITY = ["augmentation.transforms.3.prob=0"]
VARIANTS: dict[str, list[str]] = {
    "default": [],
    "random_weights": ["start=null"],
    "trusting": ["dataset.doubt_mm=null"],
    "fine_throughout": ["coarse_until=0"],
    "coarse_for_longer": ["coarse_until=0.75"],
    "focal": FOCAL,
    "shallow_focal": [*SHALLOW, *FOCAL],
    "shallow": SHALLOW,
    "deep_dense": DEEP_DENSE,
    "all_parts": ["sure_inside=null"],
    "shallow_no_hypodensity": [*SHALLOW, *NO_HYPODENSITY],
    "shallow_fewer": [*SHALLOW, *FEWER],
    "fewer_hypodensity": FEWER,
    "no_effusions": ["poured_share=0"],
    "more_effusions": ["poured_share=0.8"],
    "more_consolidations": ["augmentation.transforms.0.prob=0.6"],
    "no_consolidations": ["augmentation.transforms.0.prob=0"],
    "no_other_fluid": ["augmentation.transforms.2.prob=0"],
    "no_cysts": ["augmentation.transforms.4.prob=0"],
    "no_hypodensity": NO_HYPODENSITY,
    "no_enhancement": ["augmentation.transforms.7.prob=0"],
    "wider_turns": [
        "augmentation.transforms.6.rotate_range=[0.2,0.2,0.35]",
        "augmentation.transforms.6.scale_range=[0.3,0.3,0.3]",
    ],
    "standard": ["augmentation=standard"],
    "strong": ["augmentation=strong"],
    "no_deep_supervision": ["model.coarse_heads=0"],
    "one_contrast": ["model.contrasts_hu=[[-1000,1000]]"],
    "half_resolution": [
        "model.channels=[16,32,64,128,256]",
        "model.stem_stride=[2,2,1]",
    ],
    "coarser_grid": ["experiment=coarse"],
    "finer_grid": [  # 2.4 times the voxels of the default in a patch: halved for longer
        "preprocess.spacing_mm=[1,1,3]",
        "patch_size=[288,256,64]",
        "dataset.margin=[64,64,16]",
        "loss.smooth=380",
        "coarse_until=0.75",
    ],
    "small_patches": ["patch_size=[96,96,64]", "coarse_until=0"],  # halved, too small for bf16
    "batch_dice": ["loss.dice_over=batch", "loss.smooth=1e-5"],
    "patch_dice": ["loss.dice_over=patch"],
    "pos_weight_1": ["loss.pos_weight=1"],
    "larger_batches": ["dataset.cases_per_batch=4", "dataset.steps_per_epoch=25"],
    "no_averaging": ["ema_decay=null"],
    "baseline": ["experiment=baseline"],
}


def row(variant: str, of_seeds: Sequence[Sequence[dict[str, Any]]]) -> str:
    """A line of the table, from the records of each seed's folds."""
    good = [name not in POOR_MASKS for name in by_case(of_seeds[0])]
    dice, predicted_ml, reference_ml = (
        np.array([[*by_case(records, value).values()] for records in of_seeds])  # seeds, scans
        for value in ("dice", "predicted_ml", "reference_ml")
    )
    seconds = [record["seconds"]["train"] for records in of_seeds for record in records]
    cells = [variant, f"{dice.mean():.3f}", "–", "–", f"{np.mean(seconds) / 60:.0f}"]
    if any(good):
        over = summary(dice[:, good], predicted_ml[:, good], reference_ml[:, good])
        cells[2:4] = [over.told, f"{over.volume_error:.0%}"]
    cells += [f"{own:.3f}" for own in dice.mean(axis=0)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--epochs", type=int, default=10, help="of each training")
    either.add_argument("--minutes", type=int, help="of each training, instead")
    parser.add_argument("--n-folds", type=int, default=7)
    parser.add_argument("--folds", type=int, nargs="+", help="some of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=[*VARIANTS],
        metavar="NAME",
        help=f"of {', '.join(VARIANTS)}",
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--ledger", type=Path, help="file of what was measured before; grows")
    parser.add_argument("--out", default="outputs/ablation")
    options = parser.parse_args()
    budget = by_minutes(options.minutes) if options.minutes else [f"epochs={options.epochs}"]
    length = f"{options.minutes}_minutes" if options.minutes else f"{options.epochs}_epochs"
    folds = options.folds or range(options.n_folds)
    ledger = Ledger(options.ledger)
    trainings = Trainings(options.root, options.n_folds, folds, budget, options.jobs, ledger)
    made: list[dict[str, Any]] = []
    asked = [
        (f"{variant}_{options.n_folds}_folds_{length}_seed{seed}", seed, VARIANTS[variant])
        for variant, seed in product(options.variants, options.seeds)
    ]
    out = Path(options.out).resolve()
    records = trainings.run(*((out / name, seed, settings) for name, seed, settings in asked))
    for variant in options.variants:
        of_seeds = [*islice(records, len(options.seeds))]
        if not made:
            names = [*by_case(of_seeds[0])]
            head = ["changed", f"all {len(names)}", "without poor masks", "median volume error"]
            head += ["minutes", *names]
            print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
        made += [record for of_seed in of_seeds for record in of_seed]
        print(row(variant, of_seeds), flush=True)
    print(
        f"\nMean Dice on the scans' own grids; folds {', '.join(map(str, folds))} of "
        f"{options.n_folds}, {' '.join(budget)}, {options.jobs} at a time; seeds "
        f"{', '.join(map(str, options.seeds))} (least and greatest mean); 95 % intervals over "
        f"patients; poor masks: {', '.join(POOR_MASKS)}; {made_with(made)}."
    )


if __name__ == "__main__":
    main()
