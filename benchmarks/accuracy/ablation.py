"""What each part of the default adds: out-of-fold Dice with one thing changed at a time.

    python benchmarks/accuracy/ablation.py --root DIR --minutes 10
    python benchmarks/accuracy/ablation.py --root DIR --variants default one_contrast --seeds 0 1 2

Every variant trains the same folds for the same time, and each scan is judged by the fold that held
it out, on its own grid. It is judged by that fold's *last* weights (averaged, as always): the best
epoch was chosen by the very scans that judge it, and a training on all scans has no such choice.
Prints a table in Markdown; runs that finished are kept, so it goes on where it was stopped. Leave
the machine alone meanwhile: time is the budget.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from pleural.data.plethora import Plethora
from pleural.judgement import Score, judge
from pleural.run_folder import RunFolder, versions
from pleural.segmenter import Segmenter
from pleural.trained import runs_in

ROOT = Path(__file__).resolve().parents[2]
POOR_MASKS = ("LUNG1-005", "LUNG1-013")  # incomplete; half of it outside the range of fluid
VARIANTS: dict[str, list[str]] = {
    "default": [],
    "no_effusions": ["augmentation.transforms.0.prob=0"],
    "more_effusions": ["augmentation.transforms.0.prob=0.8"],
    "one_contrast": ["model.contrasts=[[-1,1]]"],
    "small_patches": ["patch_size=[96,96,48]"],
    "standard": ["augmentation=standard"],
    "strong": ["augmentation=strong"],
    "pos_weight_1": ["loss.pos_weight=1"],
    "baseline": ["experiment=baseline"],
}


def trained(variant: str, seed: int, fold: int, options: argparse.Namespace) -> Path:
    """The run folder; left as it is where it was trained before."""
    folder = Path(options.out).resolve() / f"{variant}_seed{seed}_fold{fold}"
    command = [
        *(sys.executable, str(ROOT / "run.py"), "data=plethora", f"data.root={options.root}"),
        *(f"n_folds={options.n_folds}", f"fold={fold}", f"seed={seed}", "patience=null"),
        *(f"trainer.max_time=00:00:{options.minutes:02d}:00", f"hydra.run.dir={folder}"),
        *VARIANTS[variant],
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder


def last_weights(run: RunFolder) -> dict[str, torch.Tensor]:
    """Averaged where the run averages."""
    state = torch.load(run.last, weights_only=True)["state_dict"]
    averaged = any(name.startswith("average.") for name in state)
    prefix = "average.module." if averaged else "net."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def scores(variant: str, seed: int, options: argparse.Namespace) -> list[Score]:
    """Of every scan, by the last weights of the fold that held it out."""
    cases = {case.name: case for case in Plethora(options.root).cases()}
    found: list[Score] = []
    for fold in range(options.n_folds):
        folder = trained(variant, seed, fold, options)
        (run,) = runs_in(folder)
        network = run.load()
        network.net.load_state_dict(last_weights(RunFolder(folder)))
        held_out = [cases[entry["name"]] for entry in run.record["split"]["validation"]]
        found += judge(Segmenter([network]), held_out)
    return sorted(found, key=lambda score: score.name)


def row(variant: str, options: argparse.Namespace) -> str:
    by_seed = [scores(variant, seed, options) for seed in options.seeds]
    dices = np.array([[score.dice for score in found] for found in by_seed])
    good = [score.name not in POOR_MASKS for score in by_seed[0]]
    errors = [
        abs(score.predicted_ml / score.reference_ml - 1)
        for found in by_seed
        for score in found
        if score.name not in POOR_MASKS
    ]
    means = dices[:, good].mean(axis=1)
    spread = f" ({means.min():.3f} to {means.max():.3f})" if len(means) > 1 else ""
    cells = [f"{dices.mean():.3f}", f"**{means.mean():.3f}**{spread}", f"{np.median(errors):.0%}"]
    cells += [f"{dice:.3f}" for dice in dices.mean(axis=0)]
    return f"| {variant} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--minutes", type=int, default=10, help="of training, for each fold")
    parser.add_argument("--n-folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--out", default="outputs/ablation")
    options = parser.parse_args()
    names = sorted(case.name for case in Plethora(options.root).cases() if case.labelled)
    head = ["changed", f"all {len(names)}", "without poor masks", "median volume error", *names]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    for variant in options.variants:
        print(row(variant, options), flush=True)
    about = versions()
    print(
        f"\nMean Dice on the scans' own grids, {options.n_folds} folds of {options.minutes} "
        f"minutes, seeds {', '.join(map(str, options.seeds))} (least and greatest mean); poor "
        f"masks: {', '.join(POOR_MASKS)}; {about['machine']}, torch {about['torch']}, MONAI "
        f"{about['monai']}, Python {about['python']}; code {about['code'][:10]}."
    )


if __name__ == "__main__":
    main()
