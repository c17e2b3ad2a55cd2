"""Whether the thickness of slices matters: Dice, and what is found where there is no effusion.

    python benchmarks/accuracy/slices.py --root DIR --runs outputs/ablation/FOLDER

Takes the runs of a cross-validation on PleThora, whose scans have slices of 3 mm. Each is averaged
to thicker ones and predicted by the network that held it out; Dice is with the reference brought
down likewise (half and more of a voxel), on that grid. Phantoms without effusion, of which every
network sees all, are made with such slices, and with thinner ones. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from false_alarms import LIMIT_ML, SEED, phantom
from folds import held_out

from pleural.data.case import Case
from pleural.data.plethora import POOR_MASKS, Plethora
from pleural.dice import dice
from pleural.segmenter import Segmenter
from pleural.trained import runs_in
from pleural.versions import versions
from pleural.volume import Volume

IN_PLANE_MM = 1.5  # of the phantoms: a matter of time, not of accuracy


def sliced(volume: Volume, slice_mm: float) -> Volume:
    return volume.reoriented().resampled((None, None, slice_mm))


def judged(segmenter: Segmenter, case: Case, slices_mm: Sequence[float]) -> dict[float, float]:
    """Dice of each thickness that is not below the scan's own."""
    scan, reference = case.load()
    assert reference is not None
    own_mm = scan.reoriented().spacing_mm[2]
    found = {}
    for mm in slices_mm:
        if mm >= own_mm - 0.01:
            thick = sliced(scan, mm)
            mask = segmenter.segment(thick).mask
            found[mm] = dice(mask.array, reference.onto(thick).array >= 0.5)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--runs", required=True, help="folder of the folds' run folders")
    parser.add_argument("--slices-mm", type=float, nargs="+", default=[1.5, 3, 5, 6])
    parser.add_argument("--phantoms", type=int, default=10)
    options = parser.parse_args()
    cases = {case.name: case for case in Plethora(options.root).cases()}
    phantoms = {
        mm: [phantom(i, (IN_PLANE_MM, IN_PLANE_MM, mm)) for i in range(options.phantoms)]
        for mm in options.slices_mm
    }
    found: dict[float, dict[str, float]] = {mm: {} for mm in options.slices_mm}
    invented: dict[float, list[float]] = {mm: [] for mm in options.slices_mm}
    for run in runs_in(options.runs):
        segmenter = Segmenter([run.load()])
        for case in held_out(run, cases):
            if case.name not in POOR_MASKS:
                for mm, overlap in judged(segmenter, case, options.slices_mm).items():
                    found[mm][case.name] = overlap
        for mm, scans in phantoms.items():
            invented[mm] += [segmenter.segment(scan).mask.nonzero_ml for scan in scans]
        print(f"{run.path.name}: done", file=sys.stderr, flush=True)
    names = sorted({name for of_scan in found.values() for name in of_scan})
    head = ["slices, mm", "mean Dice", *names, "most in a phantom, mL", f"{LIMIT_ML:g} mL and more"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for mm, of_scan in found.items():
        cells = [f"{mm:g}", f"{np.mean([*of_scan.values()]):.3f}" if of_scan else "–"]
        cells += [f"{of_scan[name]:.3f}" if name in of_scan else "–" for name in names]
        too_many = sum(ml >= LIMIT_ML for ml in invented[mm])
        cells += [f"{max(invented[mm], default=0):.1f}", f"{too_many} of {len(invented[mm])}"]
        print(f"| {' | '.join(cells)} |")
    print(f"\n{options.phantoms} phantoms of seed {SEED} a network; code {versions()['code']}.")


if __name__ == "__main__":
    main()
