"""How much of synthetic effusions is found, by depth and density, in chests never seen.

    python benchmarks/accuracy/poured.py --root DIR --runs outputs/ablation/FOLDER

Takes the runs of a cross-validation on PleThora. Into each scan that a network held out, fluid of a
given depth and mean HU is poured as `pleural.augmentation.RandEffusion` does it, and the network
looks for it on its own grid. Of seven scans one has a large effusion, so this is the only look at
what becomes of larger ones, and of denser ones; that the network has learnt from fluid of the same
making is in its favour. Prints a table in Markdown, means over scans and drawings: the share of the
fluid that is found, of all scans and of the worst one, and Dice with all effusion of the scan.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product

import numpy as np
import torch
from folds import config, held_out
from hydra.utils import instantiate
from torch import Tensor

from pleural.data.plethora import Plethora
from pleural.dice import dice
from pleural.prepared import Prepare, Sample
from pleural.trained import Trained, runs_in
from pleural.versions import versions

PAINTED = ("image", "label", "lung_depth_mm")


def poured(sample: Sample, depth_mm: float, fluid_hu: float, seed: int) -> Sample:
    """With the default's synthetic fluid, but of this depth and density."""
    (given,) = [
        transform
        for transform in config([]).augmentation.transforms
        if transform["_target_"].endswith("RandEffusion")
    ]
    asked = {"thickness_mm": [depth_mm, depth_mm], "fluid_hu": [fluid_hu, 0.0]}
    pour = instantiate(given, prob=1.0, **asked).set_random_state(seed)
    tensors = {key: torch.from_numpy(sample[key].astype(np.float32)) for key in PAINTED}
    made: Sample = pour({**sample, **tensors})
    return made


@torch.inference_mode()
def found(member: Trained, sample: Sample) -> Tensor:
    logits: Tensor = member.inferer(sample["image"][None], member.net.eval())
    return logits[0] >= 0


def share_found(prediction: Tensor, fluid: Tensor) -> float:
    return float((prediction & fluid).sum() / fluid.sum())


def measured(
    member: Trained, before: Sample, depth_mm: float, fluid_hu: float, drawings: int
) -> np.ndarray:
    """Millilitres poured, the share of them that is found, and Dice; means over the drawings."""
    voxel_ml = float(np.prod(before["spacing_mm"])) / 1000
    real = torch.from_numpy(before["label"] >= 0.5)
    rows = []
    for seed in range(drawings):
        after = poured(before, depth_mm, fluid_hu, seed)
        there, prediction = after["label"] >= 0.5, found(member, after)
        fluid = there & ~real
        poured_ml = float(fluid.sum()) * voxel_ml
        rows.append((poured_ml, share_found(prediction, fluid), dice(prediction, there)))
    return np.mean(rows, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--runs", required=True, help="folder of the folds' run folders")
    parser.add_argument("--depths-mm", type=float, nargs="+", default=[30, 60, 100])
    parser.add_argument("--fluid-hu", type=float, nargs="+", default=[5, 20, 35])
    parser.add_argument("--drawings", type=int, default=4, help="of each fluid in each scan")
    options = parser.parse_args()
    cases = {case.name: case for case in Plethora(options.root).cases()}
    kinds = [*product(options.depths_mm, options.fluid_hu)]
    of_kind: dict[tuple[float, float], dict[str, np.ndarray]] = {kind: {} for kind in kinds}
    for run in runs_in(options.runs):
        member = run.load()
        prepare = Prepare(member.preprocess, member.patch_size)
        for case in held_out(run, cases):
            sample = prepare(case)
            for kind in kinds:
                of_kind[kind][case.name] = measured(member, sample, *kind, options.drawings)
            print(f"{case.name}: done", file=sys.stderr, flush=True)
    print("| depth, mm | HU | mL | found | worst | Dice |\n|---|---|---|---|---|---|")
    for (depth_mm, fluid_hu), own in of_kind.items():
        ml, share, overlap = np.mean([*own.values()], axis=0)
        worst = min(own, key=lambda name: own[name][1])
        cells = [f"{depth_mm:g}", f"{fluid_hu:g}", f"{ml:.0f}", f"{share:.2f}"]
        cells += [f"{own[worst][1]:.2f} ({worst})", f"{overlap:.2f}"]
        print(f"| {' | '.join(cells)} |")
    drawn = f"{options.drawings} drawings of each in each of {len(own)} scans"
    print(f"\n{drawn} ({', '.join(own)}); code {versions()['code']}.")


if __name__ == "__main__":
    main()
