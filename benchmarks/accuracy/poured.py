"""How much of a large effusion is found: synthetic ones by their depth, in chests never seen.

    python benchmarks/accuracy/poured.py --root DIR --runs outputs/ablation/default_seed0

Takes the runs of a cross-validation on PleThora. Into each scan that a network held out, fluid of a
given depth is poured as `pleural.augmentation.RandEffusion` does it, and the network looks for it
on its own grid. Of seven scans one has a large effusion, so this is the only look at what becomes
of larger ones; that the network has learnt from fluid of the same making is in its favour. Prints a
table in Markdown, a line a scan and depth, means over the drawings: the share of the fluid that is
found, and Dice of all that is found with all effusion there.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from folds import config, held_out
from hydra.utils import instantiate
from torch import Tensor

from pleural.data.plethora import Plethora
from pleural.dice import dice
from pleural.prepared import Prepare, Sample
from pleural.run_folder import versions
from pleural.trained import Trained, runs_in

PAINTED = ("image", "label", "lung_depth_mm")


def poured(sample: Sample, depth_mm: float, seed: int) -> Sample:
    """With the default's synthetic fluid, but of this depth."""
    (given,) = [
        transform
        for transform in config([]).augmentation.transforms
        if transform["_target_"].endswith("RandEffusion")
    ]
    pour = instantiate(given, prob=1.0, thickness_mm=[depth_mm, depth_mm]).set_random_state(seed)
    tensors = {key: torch.from_numpy(sample[key].astype(np.float32)) for key in PAINTED}
    made: Sample = pour({**sample, **tensors})
    return made


@torch.inference_mode()
def found(member: Trained, sample: Sample) -> Tensor:
    logits: Tensor = member.inferer(sample["image"][None], member.net.eval())
    return logits[0] >= 0


def line(member: Trained, before: Sample, depth_mm: float, drawings: int) -> list[str]:
    """Cells of the table."""
    voxel_ml = float(np.prod(before["spacing_mm"])) / 1000
    rows: list[Any] = []
    for seed in range(drawings):
        after = poured(before, depth_mm, seed)
        there, prediction = after["label"] >= 0.5, found(member, after)
        fluid = there & torch.from_numpy(before["label"] < 0.5)
        share = float((prediction & fluid).sum() / fluid.sum())
        rows.append((float(fluid.sum()) * voxel_ml, share, dice(prediction, there)))
    ml, share, overlap = np.mean(rows, axis=0)
    return [f"{depth_mm:g}", f"{ml:.0f}", f"{share:.2f}", f"{overlap:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--runs", required=True, help="folder of the folds' run folders")
    parser.add_argument("--depths-mm", type=float, nargs="+", default=[10, 30, 60, 100])
    parser.add_argument("--drawings", type=int, default=4, help="of each depth in each scan")
    options = parser.parse_args()
    cases = {case.name: case for case in Plethora(options.root).cases()}
    print("| scan | depth, mm | mL | found | Dice |\n|---|---|---|---|---|")
    for run in runs_in(options.runs):
        member = run.load()
        prepare = Prepare(member.preprocess, member.patch_size)
        for case in held_out(run, cases):
            sample = prepare(case)
            for depth_mm in options.depths_mm:
                cells = [case.name, *line(member, sample, depth_mm, options.drawings)]
                print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{options.drawings} drawings of each depth; code {versions()['code']}.")


if __name__ == "__main__":
    main()
