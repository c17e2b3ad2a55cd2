"""What it brings to leave out parts whose inside the network is unsure of, out of fold.

    python benchmarks/accuracy/unsure.py --root DIR --runs outputs/ablation/default_seed*

Takes the runs of a cross-validation on PleThora, of one seed or more; every scan is predicted by
the network that held it out, and phantoms without effusion by every network. For each pair of
shares (see `sure_inside` in conf/config.yaml; `0,0` leaves nothing out) prints Dice on the scans'
own grids, the median volume error, and the millilitres found beyond all effusion of a scan (see
`false_alarms.py`) and in a phantom: the greatest, and in how many of all they are too many. A table
in Markdown; of several seeds, means, with their least and greatest.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from false_alarms import LIMIT_ML, SEED, beyond_ml
from folds import held_out, summary

from pleural.anatomy import chest
from pleural.data.case import Case
from pleural.data.plethora import POOR_MASKS, Plethora
from pleural.dice import dice
from pleural.parts import Shares, mask_on, shares
from pleural.run_folder import versions
from pleural.segmenter import Segmenter
from pleural.trained import Trained, runs_in
from pleural.volume import Volume

RULES = ("0,0", "0.3,0.6", "0.3,0.75", "0.3,0.85", "0.3,0.9", "0.6,0.85")


def masks(member: Trained, scan: Volume, rules: list[Shares]) -> list[Volume]:
    probability = Segmenter([member]).probability(member, scan)
    return [mask_on(scan, probability, member.threshold, rule) for rule in rules]


def judged(member: Trained, case: Case, rules: list[Shares]) -> np.ndarray:
    """``(rules, 4)``: Dice, mL found, mL of them beyond all effusion, mL of the reference."""
    scan, reference = case.load()
    assert reference is not None
    print(f"{case.name}: judging", file=sys.stderr, flush=True)
    return np.array(
        [
            (
                dice(mask.array, reference.array),
                mask.nonzero_ml,
                beyond_ml(mask, reference),
                reference.nonzero_ml,
            )
            for mask in masks(member, scan, rules)
        ]
    )


def told_ml(found_ml: list[float]) -> str:
    too_many = sum(ml >= LIMIT_ML for ml in found_ml)
    return f"{max(found_ml):.1f} ({too_many} of {len(found_ml)})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument(
        "--runs", required=True, nargs="+", help="folder of the folds' run folders, of each seed"
    )
    parser.add_argument("--rules", nargs="+", default=RULES, help="pairs of shares")
    parser.add_argument("--phantoms", type=int, default=10)
    options = parser.parse_args()
    rules = [shares(rule.split(",")) or (0.0, 0.0) for rule in options.rules]
    cases = {case.name: case for case in Plethora(options.root).cases()}
    phantoms = [chest((SEED, number), 0.0).scan for number in range(options.phantoms)]
    own: list[dict[str, np.ndarray]] = []  # of a seed: what is judged of its scans
    invented_ml: list[list[float]] = []
    for seed in options.runs:
        own.append({})
        for run in runs_in(seed):
            member = run.load()
            own[-1] |= {case.name: judged(member, case, rules) for case in held_out(run, cases)}
            invented_ml += [[m.nonzero_ml for m in masks(member, scan, rules)] for scan in phantoms]
    names = sorted(set.intersection(*map(set, own)))
    good = [name for name in names if name not in POOR_MASKS]
    head = ["shares", "Dice", "median volume error", *names, "beyond, mL", "phantoms, mL"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for number, rule in enumerate(options.rules):
        of_good = np.array([[scans[name][number] for name in good] for scans in own])
        over = summary(of_good[..., 0], of_good[..., 1], of_good[..., 3])
        cells = [rule.replace(",", ", "), over.told, f"{over.volume_error:.0%}"]
        for name in names:
            told = [f"{s[name][number, 0]:.3f} ({s[name][number, 1]:.0f} mL)" for s in own]
            cells.append(", ".join(told))
        cells += [told_ml([found[number, 2] for s in own for found in s.values()])]
        cells += [told_ml([volumes[number] for volumes in invented_ml])] if phantoms else ["–"]
        print(f"| {' | '.join(cells)} |")
    about = f"Dice without poor masks, n = {len(good)}, seeds: {len(own)}; "
    print(f"\n{about}{len(phantoms)} phantoms a network; code {versions()['code']}.")


if __name__ == "__main__":
    main()
