"""What a GPU shows of many settings within minutes: leave-one-out trainings from pools of patches.

    python benchmarks/accuracy/pooled.py pack --root DIR --packed packed.npz
    python benchmarks/accuracy/pooled.py train --packed packed.npz --out FOLDER --jobs \\
        "seed=0 epochs=30" "seed=0 epochs=30 loss.pos_weight=1"
    python benchmarks/accuracy/pooled.py table --results FOLDER/results.jsonl

`pack` puts the prepared scans into one small file, so that the machine with the GPU needs no other.
`train` has all cores cut and augment patches, as any training does, and keeps them: every training
draws from these pools, as to augment anew for each would take most of the time. Of each job, the
scans that are held out train together, a network each that never sees its own, and are judged on
the network's grid (`python run.py` judges on the scans' own), less what it is unsure of. A line of
`results.jsonl` a scan, and `probabilities.zip`. `benchmarks/accuracy/gpu.jsonl` is what was
measured for docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from false_alarms import LIMIT_ML
from folds import config, lines_in, summary
from judges import Judge, Judges
from learner import Learner
from pool import FIXED, OF_PATCHES, Pool, filling, pack, synthetic, unpacked

from pleural.data.plethora import POOR_MASKS


def train_together(
    asked: Sequence[str], pool: Pool, held_out: Sequence[str], device: torch.device
) -> list[Learner]:
    """A network for each scan that is held out."""
    available = pool.upload(device)
    learners = [Learner(config(asked), pool, name, device) for name in held_out]
    for number in range(learners[0].n_steps):
        if number % 500 == 499:
            available = pool.upload(device)
        for learner in learners:
            learner.step(available)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return learners


def train(options: argparse.Namespace) -> None:
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [job.split() for job in options.jobs]
    if fixed := [asked for job in jobs for asked in job if asked.startswith(FIXED)]:
        sys.exit(f"{', '.join(fixed)}: one for all jobs; change the default, and pack anew")
    cases, samples = unpacked(options.packed)
    companions, others = synthetic(options.workers)
    samples |= others
    held_out = options.held_out or [c.name for c in cases if c.name not in POOR_MASKS]
    keys = [tuple(setting for setting in job if setting.startswith(OF_PATCHES)) for job in jobs]
    pools = {
        key: Pool(key, cases, companions, samples, options.pool) for key in dict.fromkeys(keys)
    }
    judge = Judge(samples)
    judges = Judges(judge, options.out, options.judges)
    fillers = filling([*pools.values()], options.workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    torch.backends.cudnn.benchmark = True
    for number, (asked, key) in enumerate(zip(jobs, keys, strict=True)):
        for learner in train_together(asked, pools[key], held_out, device):
            looked_at = judge.judges(learner.held_out)
            probabilities = {which: learner.probability(samples[which]) for which in looked_at}
            judges.hand(asked, {"loss": learner.last_loss, "device": name}, probabilities)
        print(f"{' '.join(asked)}: trained after {time.monotonic() - began:.0f} s", flush=True)
        if key not in keys[number + 1 :]:
            pools[key].free()
    for filler in fillers:
        filler.terminate()
    judges.finish()


def table(results: Path) -> None:
    """Prints what every setting reached: Dice, over the seeds, and what else was judged.

    Poor masks have no Dice worth telling, but what is found beside them counts.

    Raises:
        SystemExit: of a setting, scans or seeds are missing.
    """
    by_settings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in lines_in(results):
        by_settings[" ".join(s for s in row["asked"] if not s.startswith("seed="))].append(row)
    everyone = [row for rows in by_settings.values() for row in rows]
    names = sorted({row["case"] for row in everyone} - {*POOR_MASKS})
    others = [*everyone[0].get("poured", {})]
    head = ["settings", "mean", "median volume error", *names]
    if others:
        head += ["beyond, mL", "phantoms, mL", *(f"found of {other}" for other in others)]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for settings, rows in by_settings.items():
        cells = [f"`{settings}`", *_overlaps(settings, rows, names)]
        print(f"| {' | '.join(cells + _alarms(rows, others))} |")


def _overlaps(settings: str, rows: list[dict[str, Any]], names: Sequence[str]) -> list[str]:
    of_case = [[row for row in rows if row["case"] == name] for name in names]
    if len({len(of_seeds) for of_seeds in of_case}) > 1:
        raise SystemExit(f"{settings}: not every scan has every seed")
    dices, predicted_ml, reference_ml = (
        np.array([[row[value] for row in of_seeds] for of_seeds in of_case]).T  # seeds, scans
        for value in ("dice", "predicted_ml", "reference_ml")
    )
    over = summary(dices, predicted_ml, reference_ml)
    own = [f"{dice:.3f}" for dice in dices.mean(axis=0)]
    return [over.told, f"{over.volume_error:.0%}", *own]


def _alarms(rows: list[dict[str, Any]], others: Sequence[str]) -> list[str]:
    """Greatest false alarms of any network, and the mean share of what was poured that is found."""
    if not others:
        return []
    beyond, (_, where) = max(
        (row["beyond_ml"], (number, row["case"])) for number, row in enumerate(rows)
    )
    phantoms = [max(row["phantoms_ml"]) for row in rows]
    alarmed = sum(ml >= LIMIT_ML for ml in phantoms)
    found = [f"{np.mean([row['poured'][other] for row in rows]):.2f}" for other in others]
    told = f"{max(phantoms):.0f} ({alarmed} of {len(rows)} networks)"
    return [f"{beyond:.0f} ({where})", told, *found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    packing = tasks.add_parser("pack", help="prepared scans into one file")
    packing.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    packing.add_argument("--packed", type=Path, required=True, help="file to write")
    training = tasks.add_parser("train", help="train and judge")
    training.add_argument("--packed", type=Path, required=True, help="file that `pack` wrote")
    training.add_argument("--out", type=Path, required=True, help="folder to write to")
    training.add_argument("--jobs", nargs="+", required=True, help="settings of one, in quotes")
    training.add_argument("--held-out", nargs="+", help="scans; all without poor masks if none")
    training.add_argument("--pool", type=int, default=400, help="patches of every scan in a pool")
    training.add_argument("--workers", type=int, default=os.cpu_count(), help="that augment")
    training.add_argument("--judges", type=int, default=4, help="processes that judge")
    telling = tasks.add_parser("table", help="what was measured, in Markdown")
    telling.add_argument("--results", type=Path, required=True, help="results.jsonl")
    options = parser.parse_args()
    if options.task == "pack":
        pack(options.root, options.packed)
    elif options.task == "train":
        train(options)
    else:
        table(options.results)


if __name__ == "__main__":
    main()
