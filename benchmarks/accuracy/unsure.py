"""What it brings to leave out parts whose inside the network is unsure of, out of fold.

    python benchmarks/accuracy/unsure.py --root DIR --runs outputs/ablation/default_*_seed*
    python benchmarks/accuracy/unsure.py --results benchmarks/accuracy/unsure.jsonl

Takes the runs of a cross-validation on PleThora, of one seed or more; every scan is predicted by
the network that held it out, and phantoms without effusion by every network. With `--results` what
is found is added to that file, a network a line, and the table is of all that it holds;
`unsure.jsonl` is what was measured for docs/accuracy.md. For each pair of shares (see `sure_inside`
in conf/config.yaml; `0,0` leaves nothing out) prints Dice on the scans' own grids, the median
volume error, and the millilitres found beyond all effusion of a scan (see `false_alarms.py`) and in
a phantom: the greatest, and in how many of all they are too many. A table in Markdown; of several
seeds, means over the scans that all of them held out, with the seeds' least and greatest.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from false_alarms import LIMIT_ML, SEED, beyond_ml, phantom
from folds import Line, append, held_out, lines_in, summary
from omegaconf import OmegaConf

from pleural.data.case import Case
from pleural.data.plethora import POOR_MASKS, Plethora
from pleural.dice import dice
from pleural.parts import Shares, mask_on, shares
from pleural.run_folder import CONFIG
from pleural.segmenter import Segmenter
from pleural.trained import Run, Trained, runs_in
from pleural.volume import Volume

RULES = ("0,0", "0.3,0.6", "0.3,0.75", "0.3,0.85", "0.3,0.9", "0.6,0.85")


def masks(member: Trained, scan: Volume, rules: list[Shares]) -> list[Volume]:
    probability = Segmenter([member]).probability(member, scan)
    return [mask_on(scan, probability, member.threshold, rule) for rule in rules]


def numbers(mask: Volume, reference: Volume) -> list[float]:
    """Dice, mL found, mL of them beyond all effusion, mL of the reference."""
    overlap = dice(mask.array, reference.array)
    return [overlap, mask.nonzero_ml, beyond_ml(mask, reference), reference.nonzero_ml]


def judged(member: Trained, case: Case, rules: list[Shares]) -> list[list[float]]:
    """Of each rule, the :func:`numbers`."""
    scan, reference = case.load()
    assert reference is not None
    return [numbers(mask, reference) for mask in masks(member, scan, rules)]


def lines_of(results: Path | None, rules: list[Shares]) -> list[Line]:
    """What was judged before."""
    if results is None or not results.exists():
        return []
    lines = lines_in(results)
    if any(line["rules"] != [[*rule] for rule in rules] for line in lines):
        sys.exit(f"{results}: was judged by other rules; name them, or another file")
    return lines


def told_ml(found_ml: list[float]) -> str:
    too_many = sum(ml >= LIMIT_ML for ml in found_ml)
    return f"{max(found_ml):.1f} ({too_many} of {len(found_ml)})"


def judge(runs: Sequence[Run], root: str, rules: list[Shares], n_phantoms: int) -> Iterator[Line]:
    """Of each network, what the table needs; as JSON knows it."""
    cases = {case.name: case for case in Plethora(root).cases()}
    phantoms = [phantom(number) for number in range(n_phantoms)]
    for run in runs:
        member = run.load()
        made = OmegaConf.load(run.path / CONFIG)
        print(f"{run.path}: judging", file=sys.stderr, flush=True)
        yield {
            "weights": run.weights_sha256,
            "seed": made.seed,
            "code": run.record["versions"]["code"],
            "rules": [[*rule] for rule in rules],
            "cases": {case.name: judged(member, case, rules) for case in held_out(run, cases)},
            "phantom_seed": SEED,
            "phantoms_ml": [[m.nonzero_ml for m in masks(member, p, rules)] for p in phantoms],
        }


def table(lines: Sequence[Line]) -> str:
    """Of all networks, which were judged by the same rules."""
    own: dict[int, dict[str, np.ndarray]] = defaultdict(dict)  # of a seed: (rules, 4) of its scans
    for line in lines:
        for name, values in line["cases"].items():
            if name in own[line["seed"]]:
                sys.exit(f"{name}: two networks of seed {line['seed']} held it out; keep one")
            own[line["seed"]][name] = np.array(values)
    invented_ml = np.array([volumes for line in lines for volumes in line["phantoms_ml"]])
    names = sorted(set.intersection(*map(set, own.values())))
    good = [name for name in names if name not in POOR_MASKS]
    head = ["shares", "Dice", "median volume error", *names, "beyond, mL", "phantoms, mL"]
    told = [f"| {' | '.join(head)} |\n{'|---' * len(head)}|"]
    for number, rule in enumerate(lines[0]["rules"]):
        of_good = np.array([[scans[name][number] for name in good] for scans in own.values()])
        over = summary(of_good[..., 0], of_good[..., 1], of_good[..., 3])
        cells = [", ".join(f"{share:g}" for share in rule), over.told, f"{over.volume_error:.0%}"]
        for name in names:
            each = [scans[name][number] for scans in own.values()]
            cells.append(", ".join(f"{values[0]:.3f} ({values[1]:.0f} mL)" for values in each))
        cells += [told_ml([found[number, 2] for scans in own.values() for found in scans.values()])]
        cells += [told_ml([*invented_ml[:, number]])] if len(invented_ml) else ["–"]
        told.append(f"| {' | '.join(cells)} |")
    codes = ", ".join(sorted({line["code"][:10] for line in lines}))
    about = f"Dice without poor masks, n = {len(good)}, seeds: {len(own)}; {len(lines)} networks, "
    seeds = ", ".join(sorted({f"{line['phantom_seed']}" for line in lines}))
    about += f"{len(lines[0]['phantoms_ml'])} phantoms each, of seed {seeds}; code {codes}."
    return "\n".join([*told, "", about])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", help="folder of the scans, as for data=plethora; with --runs")
    parser.add_argument("--runs", nargs="+", default=[], help="run folders, or folders of them")
    parser.add_argument("--results", type=Path, help="file of what was judged before; grows")
    parser.add_argument("--rules", nargs="+", default=RULES, help="pairs of shares")
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", help="in the table; all if none")
    options = parser.parse_args()
    if options.runs and options.root is None:
        parser.error("--runs needs --root")
    rules = [shares(rule.split(",")) or (0.0, 0.0) for rule in options.rules]
    lines = lines_of(options.results, rules)
    if options.runs and any(line["phantom_seed"] != SEED for line in lines):
        sys.exit(f"{options.results}: other phantoms judged there; name another file for --runs")
    known = {line["weights"] for line in lines}
    new = [run for of in options.runs for run in runs_in(of) if run.weights_sha256 not in known]
    for line in judge(new, options.root, rules, options.phantoms) if new else ():
        lines.append(line)
        if options.results:
            append(options.results, line)
    asked = [line for line in lines if not options.seeds or line["seed"] in options.seeds]
    if not asked:
        parser.error("nothing of this was judged yet: name run folders by --runs")
    print(table(asked))


if __name__ == "__main__":
    main()
