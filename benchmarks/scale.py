"""From ten scans to a hundred thousand: what a training would need, from what one case costs here.

    python benchmarks/scale.py data=plethora data.root=DIR
    python benchmarks/scale.py --gpu-tflops 20 --patches-per-case 50

Measures on this machine what it takes to prepare a case, to cut and augment a patch, to read one
from a mapped cache, and to train on one; then multiplies. What a GPU achieves on this network is
not measured but assumed, and told as such. Prints two tables in Markdown. Leave the machine alone
meanwhile.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from workers import limit, task

from pleural.prepared import ARRAYS, OnDisk, Prepare
from pleural.versions import versions

CASES = (10, 100, 1_000, 10_000, 100_000)
GPUS = (1, 8, 64)
LEAST_PATCHES = 1_000  # 10 epochs of 100
N_PATCHES = 60


@dataclass(frozen=True)
class Costs:
    """Of one case or one patch, on this machine."""

    prepare_s: float  # on one core
    case_mb: float
    cut_ms: float  # cutting and augmenting, on one core
    read_mb: float  # of a mapped cache, by a patch
    patches_per_s: float  # forward, backward, step; all cores
    gflop: float


def measured(data: list[str]) -> Costs:
    import torch

    all_cores = torch.get_num_threads()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        settings = [f"dataset.cache_dir={folder}", "dataset.cache=disk", "dataset.num_workers=0"]
        settings += [f"dataset.steps_per_epoch={N_PATCHES // 2}", "dataset.cache_workers=1"]
        parts = task(data, *settings, "task=train").keywords
        dataset = parts["dataset"]
        cases = [case for case in parts["data"].cases() if case.labelled]
        start = time.perf_counter()
        batches, _ = dataset.loaders(cases, [], parts["preprocess"], parts["augmentation"])
        prepare_s = (time.perf_counter() - start) / len(cases)
        sizes = [sum(f.stat().st_size for f in entry.iterdir()) for entry in Path(folder).iterdir()]
        patches, start = 0, time.perf_counter()
        for batch in batches:
            patches += len(batch["image"])
        cut_ms = 1000 * (time.perf_counter() - start) / patches
        sample = OnDisk(Prepare(parts["preprocess"], dataset.patch_size), folder, True)(cases[0])
        cut = np.minimum(np.add(dataset.patch_size, dataset.margin), sample["image"].shape[1:])
        volumes = [key for key in ARRAYS if sample[key].ndim == 4]
        read_mb = float(np.prod(cut)) * len(volumes) * sample["image"].itemsize / 1e6
    torch.set_num_threads(all_cores)
    network = limit(data)
    return Costs(
        prepare_s,
        statistics.mean(sizes) / 1e6,
        cut_ms,
        read_mb,
        network["patches_per_s"],
        network["gflop_per_patch"],
    )


def amount(value: float, units: tuple[str, ...], step: float) -> str:
    """In the largest of ``units``, each ``step`` times the one before, that leaves at least 1."""
    power = min(len(units) - 1, max(0, int(math.log(max(value, 1), step))))
    return f"{value / step**power:.3g} {units[power]}"


def hours(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"


def table(costs: Costs, per_case: int, tflops: float) -> str:
    head = ["cases", "prepared", "to prepare, a core", "patches", "this machine"]
    head += [f"{n} GPU{'s' * (n > 1)}" for n in GPUS]
    lines = [head, ["---"] * len(head)]
    for n_cases in CASES:
        patches = max(LEAST_PATCHES, per_case * n_cases)
        row = [f"{n_cases:,}", amount(n_cases * costs.case_mb, ("MB", "GB", "TB"), 1000)]
        row += [hours(n_cases * costs.prepare_s), f"{patches:,}"]
        row += [hours(patches / costs.patches_per_s)]
        row += [hours(patches * costs.gflop / (n * tflops * 1000)) for n in GPUS]
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gpu-tflops", type=float, default=20.0, help="assumed, of one GPU")
    parser.add_argument("--patches-per-case", type=int, default=50)
    options, data = parser.parse_known_args()
    costs = measured(data)
    rate = options.gpu_tflops * 1000 / costs.gflop
    print("| one case or patch | |\n|---|---|")
    for what, value in (
        ("preparing a case, on one core", f"{costs.prepare_s:.2f} s"),
        ("a prepared case", f"{costs.case_mb:.0f} MB"),
        ("cutting and augmenting a patch, on one core", f"{costs.cut_ms:.0f} ms"),
        ("read from a mapped cache for it", f"{costs.read_mb:.1f} MB"),
        ("training on it, both passes", f"{costs.gflop:.0f} GFLOP"),
        ("the same on this machine, batch in memory", f"{1 / costs.patches_per_s:.2f} s"),
        (f"a GPU at an assumed {options.gpu_tflops:g} TFLOP/s", f"{rate:.0f} patches a second"),
        ("cores that cut patches for such a GPU", f"{rate * costs.cut_ms / 1000:.0f}"),
        ("read rate of such a GPU, cache on disk", f"{rate * costs.read_mb / 1000:.1f} GB/s"),
    ):
        print(f"| {what} | {value} |")
    print(f"\n{table(costs, options.patches_per_case, options.gpu_tflops)}")
    about = versions()
    print(
        f"\nGPU columns: assumed {options.gpu_tflops:g} TFLOP/s each, not measured. "
        f"{about['machine']}, torch {about['torch']}, Python {about['python']}; {about['code']}."
    )


if __name__ == "__main__":
    main()
