"""What lies between the weights that trainings started from and those that they ended with.

    python benchmarks/accuracy/between.py --root DIR --runs outputs/ablation/default_*_seed0
    python benchmarks/accuracy/between.py --root DIR

Takes the runs of a cross-validation on PleThora; every scan is predicted by the network that held
it out, with its weights moved towards those of `--start` by each share (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models", doi 10.1109/CVPR52688.2022.00780; 0 leaves them as they
are, 1 is the start itself), and last by the start and the run together, their probabilities
averaged. Without `--runs` every scan is predicted by the start alone, which knows none of them.
Prints of each Dice on the scans' own grids, the median volume error, and the millilitres found
beyond all effusion of a scan (see `false_alarms.py`): the greatest, and in how many of all they are
too many. A table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping

import numpy as np
from folds import held_out, summary
from torch import Tensor
from unsure import numbers, told_ml

from pleural.data.case import Case
from pleural.data.plethora import POOR_MASKS, Plethora
from pleural.segmenter import Segmenter
from pleural.start import SHIPPED
from pleural.trained import Run, Trained, runs_in
from pleural.versions import versions

Weights = Mapping[str, Tensor]
TOGETHER = "averaged probabilities"


def between(own: Weights, start: Weights, share: float) -> dict[str, Tensor]:
    return {name: (1 - share) * own[name] + share * start[name] for name in own}


def of_run(run: Run, start: Trained, shares: list[float], case: Case) -> Iterator[list[float]]:
    """With each share, and with both networks together; see :func:`unsure.numbers`."""
    scan, reference = case.load()
    assert reference is not None
    member = run.load()
    own = {name: value.clone() for name, value in member.net.state_dict().items()}
    for share in shares:
        member.net.load_state_dict(between(own, start.net.state_dict(), share))
        yield numbers(Segmenter([member]).segment(scan).mask, reference)
    member.net.load_state_dict(own)
    yield numbers(Segmenter([member, start]).segment(scan).mask, reference)


def of_start(start: Trained, case: Case) -> list[float]:
    scan, reference = case.load()
    assert reference is not None
    return numbers(Segmenter([start]).segment(scan).mask, reference)


def row(name: str, found: Mapping[str, list[float]]) -> str:
    """A line of the table, of all scans."""
    good = np.array([values for case, values in found.items() if case not in POOR_MASKS])
    over = summary(good[None, :, 0], good[None, :, 1], good[None, :, 3])
    cells = [name, over.told, f"{over.volume_error:.0%}"]
    cells += [f"{values[0]:.3f} ({values[1]:.0f} mL)" for values in found.values()]
    cells += [told_ml([values[2] for values in found.values()])]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--runs", nargs="+", default=[], help="run folders, or folders of them")
    parser.add_argument("--start", default="phantoms", help="what they started from")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75, 1])
    options = parser.parse_args()
    cases = {case.name: case for case in Plethora(options.root).cases()}
    start = runs_in(SHIPPED.get(options.start, options.start))[0].load()
    found: dict[str, list[list[float]]] = {}
    if options.runs:
        names = [*(f"moved by {share:g}" for share in options.shares), TOGETHER]
        for run in (run for folder in options.runs for run in runs_in(folder)):
            for case in held_out(run, cases):
                found[case.name] = [*of_run(run, start, options.shares, case)]
                print(f"{case.name}: done", file=sys.stderr, flush=True)
    else:
        names = ["start"]
        for case in cases.values():
            found[case.name] = [of_start(start, case)]
            print(f"{case.name}: done", file=sys.stderr, flush=True)
    head = ["weights", "Dice", "median volume error", *sorted(found), "beyond, mL"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for number, name in enumerate(names):
        print(row(name, {case: found[case][number] for case in sorted(found)}))
    print(f"\nDice without poor masks; code {versions()['code'][:10]}.")


if __name__ == "__main__":
    main()
