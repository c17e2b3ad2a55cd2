"""Millilitres found where there is no effusion: in phantoms without one, and beyond its slices.

    python benchmarks/accuracy/false_alarms.py --root DIR --runs outputs/train/cv_seed0

Takes the runs of a cross-validation on PleThora (`cross_validation.py`). Every network sees the
phantoms, none of which it trained on; each real scan is seen by the networks that held it out, and
what counts there are the slices below and above all of its effusion. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse

import numpy as np
from folds import held_out

from pleural.anatomy import chest
from pleural.data.plethora import Plethora
from pleural.run_folder import versions
from pleural.segmenter import Segmenter
from pleural.trained import runs_in
from pleural.volume import Volume

LIMIT_ML = 5.0
SEED = 7  # of the phantoms; those that train have 0 (data=phantom) and 1 (companions)


def beyond_ml(prediction: Volume, reference: Volume) -> float:
    """Of the prediction in slices below the lowest and above the highest with effusion."""
    prediction, reference = prediction.reoriented(), reference.reoriented()
    slices = np.flatnonzero(reference.array.any(axis=(0, 1)))
    beyond = prediction.array.copy()
    beyond[..., slices[0] : slices[-1] + 1] = 0
    return prediction.with_array(beyond).nonzero_ml


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--runs", required=True, help="folder of the folds' run folders")
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--mirror", default="", help="axes, as for task.mirror")
    options = parser.parse_args()
    cases = {case.name: case for case in Plethora(options.root).cases()}
    scans = {f"phantom {i}": chest((SEED, i), 0.0).scan for i in range(options.phantoms)}
    found: dict[str, list[float]] = {}
    for run in runs_in(options.runs):
        segmenter = Segmenter([run.load()], mirror=options.mirror)
        for name, scan in scans.items():
            found.setdefault(name, []).append(segmenter.segment(scan).mask.nonzero_ml)
        for case in held_out(run, cases):
            scan, reference = case.load()
            assert reference is not None
            ml = beyond_ml(segmenter.segment(scan).mask, reference)
            found.setdefault(case.name, []).append(ml)
    print("| scan | networks | mL, each | |\n|---|---|---|---|")
    for name, volumes_ml in found.items():
        each = ", ".join(f"{ml:.1f}" for ml in volumes_ml)
        verdict = "" if max(volumes_ml) < LIMIT_ML else f"at least {LIMIT_ML:g} mL"
        print(f"| {name} | {len(volumes_ml)} | {each} | {verdict} |")
    about = versions()
    print(
        f"\nphantoms of seed {SEED}, without effusion; mirror {options.mirror or 'none'}; "
        f"code {about['code']}."
    )


if __name__ == "__main__":
    main()
