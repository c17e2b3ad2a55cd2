"""Which threshold, and which smallest part to keep: out of fold, by Dice and volume together.

    python benchmarks/accuracy/threshold.py --root DIR --runs outputs/ablation/FOLDER

Takes the runs of a cross-validation on PleThora; every scan is predicted by the network that held
it out. For each threshold of the probability and each least size of a part (voxels that touch by
their faces) prints mean Dice and median volume error without the poor masks, and what is found in
the slices beyond all effusion (see `false_alarms.py`). A table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from false_alarms import beyond_ml
from folds import held_out
from scipy import ndimage

from pleural.data.plethora import POOR_MASKS, Plethora
from pleural.dice import dice
from pleural.segmenter import CERTAIN, Segmenter
from pleural.trained import runs_in
from pleural.versions import versions
from pleural.volume import Volume


def kept(probability: Volume, threshold: float, least_ml: Sequence[float]) -> Iterator[Volume]:
    """As 0 and 1: what reaches the threshold, without parts smaller than each of ``least_ml``."""
    parts, n_parts = ndimage.label(probability.array >= threshold * CERTAIN)
    parts_ml = np.bincount(parts.ravel(), minlength=n_parts + 1) * probability.voxel_ml
    parts_ml[0] = -1  # all that does not reach it
    for least in least_ml:
        yield probability.with_array((parts_ml >= least)[parts].astype(np.uint8))


def judged(prediction: Volume, reference: Volume) -> tuple[float, float, float]:
    """Dice, volume error as a share of the reference, and mL beyond the effusion's slices."""
    error = abs(prediction.nonzero_ml / reference.nonzero_ml - 1)
    overlap = dice(prediction.array, reference.array)
    return overlap, error, beyond_ml(prediction, reference)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--runs", required=True, help="folder of the folds' run folders")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.3, 0.4, 0.5, 0.6, 0.7])
    parser.add_argument("--least-ml", type=float, nargs="+", default=[0, 0.5, 1, 2, 5])
    options = parser.parse_args()
    cases = {case.name: case for case in Plethora(options.root).cases()}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for run in runs_in(options.runs):
        segmenter = Segmenter([run.load()])
        for case in held_out(run, cases):
            scan, reference = case.load()
            assert reference is not None
            probability = segmenter.segment(scan).probability
            found[case.name] = [
                judged(prediction, reference)
                for threshold in options.thresholds
                for prediction in kept(probability, threshold, options.least_ml)
            ]
            print(f"{case.name}: done", file=sys.stderr, flush=True)
    good = [name for name in found if name not in POOR_MASKS]
    print("| threshold | least mL | Dice | median volume error | mL beyond, worst |")
    print("|---|---|---|---|---|")
    for i, (threshold, least_ml) in enumerate(product(options.thresholds, options.least_ml)):
        overlap, error, _ = np.array([found[name][i] for name in good]).T
        beyond = {name: own[i][2] for name, own in found.items()}
        worst = max(beyond, key=lambda name: beyond[name])
        cells = [f"{threshold:g}", f"{least_ml:g}", f"{overlap.mean():.3f}"]
        cells += [f"{np.median(error):.0%}", f"{beyond[worst]:.1f} ({worst})"]
        print(f"| {' | '.join(cells)} |")
    about = f"n = {len(good)} without poor masks ({', '.join(good)})"
    print(f"\n{about}; code {versions()['code']}.")


if __name__ == "__main__":
    main()
