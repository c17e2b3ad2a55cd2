"""What the windows of inference do to Dice and time, with the same weights.

    python run.py -m name=cv fold=0,1,2 n_folds=3 epochs=16 data=plethora data.root=DIR
    python benchmarks/windows.py outputs/train/cv data=plethora data.root=DIR

Each run predicts the cases it was validated on, in several ways: as the original task's recipe does
(fp32, overlap 0.75, constant weights, the whole scan or the body), and as ours. Prints a table in
Markdown: mean Dice on the scans' own grids, and seconds a scan from HU to mask.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
from hydra.utils import instantiate
from monai.inferers import SlidingWindowInferer
from workers import composed

from pleural.dice import dice
from pleural.inference import Windows
from pleural.segmenter import Segmenter
from pleural.trained import Trained, runs_in
from pleural.versions import versions


def sliding(overlap: float, mode: str, whole_scan: bool = False) -> Callable[[Trained], Trained]:
    def changed(trained: Trained) -> Trained:
        preprocess: Any = copy(trained.preprocess)
        preprocess.crop_to_body &= not whole_scan
        inferer = SlidingWindowInferer(trained.patch_size, 4, overlap, mode=mode)
        return dataclasses.replace(trained, preprocess=preprocess, inferer=inferer)

    return changed


def slabs(slab: int, overlap: float) -> Callable[[Trained], Trained]:
    def changed(trained: Trained) -> Trained:
        return dataclasses.replace(trained, inferer=Windows(trained.patch_size, 0.5, slab, overlap))

    return changed


WAYS: Mapping[str, tuple[Callable[[Trained], Trained], str]] = {
    "whole scan, patches, overlap 0.75, fp32": (sliding(0.75, "constant", True), "32-true"),
    "body, patches, overlap 0.75, fp32": (sliding(0.75, "constant"), "32-true"),
    "body, patches, overlap 0.75": (sliding(0.75, "gaussian"), "auto"),
    "body, patches, overlap 0.5": (sliding(0.5, "gaussian"), "auto"),
    "body, patches, overlap 0.25": (sliding(0.25, "gaussian"), "auto"),
    "body, slabs of 64, overlap 0.25, fp32": (slabs(64, 0.25), "32-true"),
    "body, slabs of 64, overlap 0.25 (default)": (slabs(64, 0.25), "auto"),
    "body, slabs of 128, overlap 0.25": (slabs(128, 0.25), "auto"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", help="a folder of runs that together validate every case once")
    parser.add_argument("data", nargs="+", help="overrides that choose the data")
    options = parser.parse_args()
    source = instantiate(composed(options.data, ()).data, _convert_="all")
    loaded = {case.name: case.load() for case in source.cases() if case.labelled}
    dices: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    for run in runs_in(options.runs):
        for way, (change, precision) in WAYS.items():
            segmenter = Segmenter([change(run.load())], precision=precision)
            for name in (case["name"] for case in run.record["split"]["validation"]):
                scan, reference = loaded[name]
                start = time.perf_counter()
                mask = segmenter.segment(scan).mask
                seconds[way] += time.perf_counter() - start
                dices[way][name] = dice(mask.array, reference.array)
    names = sorted(dices[next(iter(WAYS))])
    print(f"| windows | s a scan | mean Dice | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    for way, found in dices.items():
        each = " | ".join(f"{found[name]:.3f}" for name in names)
        mean = np.mean([*found.values()])
        print(f"| {way} | {seconds[way] / len(found):.2f} | {mean:.4f} | {each} |")
    about = versions()
    print(
        f"\nn = {len(names)}; {about['machine']}, torch {about['torch']}, MONAI {about['monai']}, "
        f"Python {about['python']}; code {about['code']}."
    )


if __name__ == "__main__":
    main()
